"""Functions of an app's own, in Python: how their files declare them, and what they are to expressions.

    from penstock.python_functions import scalar

    @scalar(arguments=["DOUBLE", "STRING"], returns="DOUBLE")
    def celsius(degrees: pl.Series, unit: pl.Series) -> pl.Series:
        return pl.select(pl.when(unit == "F").then((degrees - 32) / 1.8).otherwise(degrees)).to_series()

A function gets Polars Series, one for each argument and as long as each other, NULL as null, and returns one as long
as they are. It is called for whole batches, and must give the same for the same arguments. Where it raises, it is
called again for parts of the batch, so that only those rows are rejected that it cannot take: `function_failed`, with
what it raised.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal

import polars as pl
from polars.datatypes import DataTypeClass

from penstock.codecs.frames import polars_type
from penstock.errors import SqlErrors
from penstock.expressions.by_row import once
from penstock.expressions.coercion import Mismatch, common_type, data_type_of
from penstock.expressions.dialect import parse_expression
from penstock.expressions.nodes import Call, Expr
from penstock.expressions.table import Compiled, Function, Typing, merge_errors
from penstock.model.types import DataType

__all__ = ["FAILED", "AggregateFunction", "ScalarFunction", "aggregate", "aggregate_entry_of", "entry_of", "scalar",
           "table"]  # fmt: skip

FAILED = "function_failed"
_VALUE, _ERROR = "value", "error"
_SAID_CHARS_MAX = 300  # of what a function raised
_FAILURES = (Exception, SystemExit, pl.exceptions.PanicException)  # what an app's own code may end with
_Body = Callable[..., pl.Series]
_Fold = Callable[..., object]


@dataclass(frozen=True)
class ScalarFunction:
    """A function of rows with its types; called, it is the function itself."""

    body: _Body
    arguments: tuple[DataType, ...]
    returns: DataType

    def __call__(self, *values: pl.Series) -> pl.Series:
        return self.body(*values)


@dataclass(frozen=True)
class AggregateFunction:
    """A function of all values of a group with its types; called, it is the function itself."""

    body: _Fold
    arguments: tuple[DataType, ...]
    returns: DataType

    def __call__(self, *values: pl.Series) -> object:
        return self.body(*values)


def scalar(*, arguments: Sequence[str], returns: str) -> Callable[[_Body], ScalarFunction]:
    """Declare a function of rows. Types as in CREATE TABLE. ValueError for a text that is no type, or no argument."""
    if not arguments:
        raise ValueError("a function takes at least one argument, which says how many rows there are")
    kinds, result = tuple(map(_type, arguments)), _type(returns)

    def declare(body: _Body) -> ScalarFunction:
        return ScalarFunction(body, kinds, result)

    return declare


def table(*, arguments: Sequence[str], returns: str) -> Callable[[_Body], ScalarFunction]:
    """Declare a function of any number of rows for each row: a Series of lists, `returns` is the type of an element.

    Elements are rows (`ROW<word STRING, place INT>`, dicts in Python) or single values.
    """
    return scalar(arguments=arguments, returns=f"ARRAY<{returns}>")


def aggregate(*, arguments: Sequence[str], returns: str) -> Callable[[_Fold], AggregateFunction]:
    """Declare a function of groups: Series of all values of a group, in the order of their arrival, to one value.

    NULL is null. The values are kept for as long as their group, so its memory grows with them.
    """
    if not arguments:
        raise ValueError("an aggregate takes at least one argument")
    kinds, result = tuple(map(_type, arguments)), _type(returns)

    def declare(body: _Fold) -> AggregateFunction:
        return AggregateFunction(body, kinds, result)

    return declare


def entry_of(name: str, function: ScalarFunction) -> Function:
    """The function as an entry of the function table, under its name in SQL."""
    wanted = ", ".join(map(str, function.arguments))

    def check(args: Sequence[Expr]) -> Typing:
        if len(args) != len(function.arguments):
            raise Mismatch(f"takes {len(function.arguments)} arguments, not {len(args)}.", f"Write {name}({wanted}).")
        for arg, kind in zip(args, function.arguments, strict=True):
            if common_type((arg.type, kind)) != kind:
                raise Mismatch(f"takes {kind} here, not {arg.type}.", f"Write CAST(... AS {kind}).")
        return Typing(function.arguments, function.returns)

    def build(_: Call, args: Sequence[Compiled]) -> Compiled:
        packed = pl.struct(arg.value.alias(str(n)) for n, arg in enumerate(args))
        result = pl.Struct({_VALUE: polars_type(function.returns), _ERROR: pl.String()})
        found = packed.map_batches(
            once(_guarded(name, function), waits=False), return_dtype=result, is_elementwise=True
        )
        error = merge_errors([*(arg.error for arg in args), found.struct.field(_ERROR)])
        return Compiled(found.struct.field(_VALUE), error)

    return Function(name, f"{name}({wanted})", "A function of the app's own.", check, build, ())


def aggregate_entry_of(name: str, function: AggregateFunction) -> Function:
    """The function over the array of a group's values (of rows, if it has several arguments)."""
    checked = entry_of(name, ScalarFunction(lambda *_: pl.Series(), function.arguments, function.returns))

    def build(_: Call, args: Sequence[Compiled]) -> Compiled:
        [group] = args
        result = pl.Struct({_VALUE: polars_type(function.returns), _ERROR: pl.String()})
        found = group.value.map_batches(
            once(_folding(name, function), waits=False), return_dtype=result, is_elementwise=True
        )
        return Compiled(found.struct.field(_VALUE), merge_errors([group.error, found.struct.field(_ERROR)]))

    return Function(name, checked.usage, checked.doc, checked.check, build, ())


def _folding(name: str, function: AggregateFunction) -> Callable[[pl.Series], pl.Series]:
    """The function over each of a column of arrays: values beside the error code of each row."""
    dtype = polars_type(function.returns)

    def one(values: pl.Series) -> tuple[object, str | None]:
        several = len(function.arguments) > 1
        columns = [values.struct.field(name) for name in values.struct.fields] if several else [values]
        try:
            return pl.Series([function(*columns)], dtype=dtype, strict=True)[0], None
        except _FAILURES as error:  # a matter of its group
            return None, _failed(name, error)

    def each(groups: pl.Series) -> pl.Series:
        found = [(None, None) if group is None else one(group) for group in groups]
        return _result(pl.Series([value for value, _ in found], dtype=dtype), [error for _, error in found])

    return each


def _guarded(name: str, function: ScalarFunction) -> Callable[[pl.Series], pl.Series]:
    """The function over packed arguments: values beside the error code of each row."""
    dtype = polars_type(function.returns)
    fraction = f"{FAILED}: {name}: a number with a fraction where {function.returns} was declared"

    def once_for(packed: pl.Series) -> tuple[pl.Series, list[str | None]]:
        found = function(*(packed.struct.field(name) for name in packed.struct.fields))
        if not isinstance(found, pl.Series) or len(found) != len(packed):
            raise TypeError("a function returns a Series as long as its arguments")
        cut = _would_be_cut(found, dtype)
        if cut is None:
            return found.cast(dtype), [None] * len(found)
        whole = pl.select(pl.when(~cut).then(found))[:, 0]
        return whole.cast(dtype), [fraction if each else None for each in cut]

    def attempt(packed: pl.Series) -> pl.Series:
        try:
            return _result(*once_for(packed))
        except _FAILURES as error:  # a matter of its rows
            if len(packed) <= 1:
                return _result(pl.Series([None] * len(packed), dtype=dtype), [_failed(name, error)] * len(packed))
            return halved(packed)

    def halved(packed: pl.Series) -> pl.Series:
        half = len(packed) // 2
        return pl.concat([attempt(packed[:half]), attempt(packed[half:])])

    return attempt


def _failed(name: str, error: BaseException) -> str:
    """The error code of a row, with what the function raised."""
    try:
        said = " ".join(str(error).encode(errors="replace").decode().split())
    except _FAILURES:  # its words are the app's own code, too
        said = ""
    return f"{FAILED}: {name}: {type(error).__name__}{': ' * bool(said)}{said}"[:_SAID_CHARS_MAX]


def _would_be_cut(found: pl.Series, wanted: pl.DataType) -> pl.Series | None:
    """Rows with a fraction where an integer was declared, which a cast would cut off; None: there are none.

    What else does not fit, a strict cast refuses.
    """
    if not _narrows(found.dtype, wanted):
        return None
    if found.dtype.is_nested():
        cut = pl.Series([_has_fraction(value, wanted) for value in found.to_list()], dtype=pl.Boolean)
    elif found.dtype.is_float():
        cut = (found.is_finite() & (found != found.floor())).fill_null(False)
    else:
        cut = (found % 1 != 0).fill_null(False)
    return cut if cut.any() else None


def _narrows(given: pl.DataType, wanted: pl.DataType) -> bool:
    """Whether some number may lose its fraction."""
    if isinstance(given, pl.List) and isinstance(wanted, pl.List):
        return _narrows(_instance(given.inner), _instance(wanted.inner))
    if isinstance(given, pl.Struct) and isinstance(wanted, pl.Struct):
        parts = {field.name: _instance(field.dtype) for field in wanted.fields}
        return any(_narrows(_instance(f.dtype), parts[f.name]) for f in given.fields if f.name in parts)
    return wanted.is_integer() and (given.is_float() or given.is_decimal())


def _has_fraction(value: object, wanted: pl.DataType) -> bool:
    """Of a value of a nested type, as Python has it."""
    if isinstance(value, list) and isinstance(wanted, pl.List):
        return any(_has_fraction(each, _instance(wanted.inner)) for each in value)
    if isinstance(value, dict) and isinstance(wanted, pl.Struct):
        return any(_has_fraction(value.get(f.name), _instance(f.dtype)) for f in wanted.fields)
    return wanted.is_integer() and isinstance(value, float | Decimal) and value % 1 != 0


def _instance(dtype: pl.DataType | DataTypeClass) -> pl.DataType:
    return dtype if isinstance(dtype, pl.DataType) else dtype()


def _result(values: pl.Series, errors: list[str | None]) -> pl.Series:
    return pl.DataFrame([values.alias(_VALUE), pl.Series(_ERROR, errors, dtype=pl.String)]).to_struct("")


def _type(text: str) -> DataType:
    try:
        return data_type_of(parse_expression(f"CAST(NULL AS {text})").args["to"])
    except Mismatch as mismatch:
        raise ValueError(f"'{text}' is no type: {mismatch.remedy}") from None
    except SqlErrors:
        raise ValueError(f"'{text}' is no type; write one of CREATE TABLE, such as DECIMAL(10, 2)") from None
