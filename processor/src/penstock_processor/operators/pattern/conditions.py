"""Conditions that look at other rows of a match: typed expressions as Python functions, row by row.

Comparisons, logic and plain arithmetic are functions made once; whatever else a condition has goes through Polars,
over a frame of one row. Both give what the vectorised form gives.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl

from penstock.expressions.compile import compile_expression
from penstock.expressions.nodes import Call, Cast, ColumnRef, Expr, Literal
from penstock.model.types import DataType, Kind
from penstock_processor.operators.pattern.values import series_of, values_of

__all__ = ["Leaf", "RowRefused", "condition_of"]

#: The value of a column or reach, given what a condition is asked about.
Leaf = Callable[[Any], Any]

_COMPARED: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq, "<>": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_COUNTED: dict[str, Callable[[Any, Any], Any]] = {"+": operator.add, "-": operator.sub, "*": operator.mul}
_TIMES = (Kind.TIMESTAMP, Kind.TIMESTAMP_LTZ)
_BITS = {Kind.TINYINT: 8, Kind.SMALLINT: 16, Kind.INT: 32, Kind.BIGINT: 64}


class RowRefused(Exception):
    """The row has no answer to a condition that it was asked; `code` as of any expression."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def condition_of(expr: Expr, leaves: Mapping[str, Leaf], types: Mapping[str, DataType]) -> Callable[[Any], bool]:
    """Whether the condition is true (not false, not NULL). Raises RowRefused when asked."""
    made = _plain(expr, leaves) or _by_polars(expr, leaves, types)

    def holds(asked: Any) -> bool:
        return made(asked) is True

    return holds


def _plain(expr: Expr, leaves: Mapping[str, Leaf]) -> Leaf | None:
    """The expression as functions; None if it has something that is not that simple."""
    match expr:
        case ColumnRef():
            return leaves[expr.name]
        case Literal():
            return _literal(expr)
        case Cast() if _widens(expr.arg.type, expr.type):
            made = _plain(expr.arg, leaves)
            return made if made is None or expr.type.kind is not Kind.DOUBLE else _as_double(made)
        case Call():
            made_args = [_plain(arg, leaves) for arg in expr.args]
            args = [made for made in made_args if made is not None]
            return None if len(args) < len(made_args) else _call(expr, args)
    return None


def _literal(expr: Literal) -> Leaf | None:
    value: Any = expr.value
    if expr.type.kind in (*_TIMES, Kind.DATE, Kind.TIME, Kind.INTERVAL):
        dtype = compile_expression(expr).value
        value = values_of(pl.select(dtype.alias("v"))["v"])[0]
    elif expr.type.kind is Kind.DECIMAL or not isinstance(value, bool | int | float | str | None):
        return None
    elif expr.type.kind is Kind.DOUBLE and isinstance(value, int):
        value = float(value)
    return lambda _: value


def _widens(source: DataType, target: DataType) -> bool:
    if source == target:
        return True
    return source.is_integer and (
        target.kind is Kind.DOUBLE or (target.is_integer and _bits(source) <= _bits(target))
    )


def _bits(data_type: DataType) -> int:
    return _BITS[data_type.kind]


def _as_double(made: Leaf) -> Leaf:
    def value(asked: Any) -> Any:
        found = made(asked)
        return None if found is None else float(found)

    return value


def _call(expr: Call, args: Sequence[Leaf]) -> Leaf | None:
    kinds = {arg.type.kind for arg in expr.args}
    if expr.function in _COMPARED and len(args) == 2 and len(kinds) == 1 and Kind.BYTES not in kinds:
        return _strict(_COMPARED[expr.function], args[0], args[1])
    if expr.function in _COUNTED and len(args) == 2:
        return _arithmetic(expr, args)
    match expr.function:
        case "AND":
            return _lazy(args, stop=False)
        case "OR":
            return _lazy(args, stop=True)
        case "NOT":
            inner = args[0]
            return lambda asked: None if (found := inner(asked)) is None else not found
        case "IS NULL":
            inner = args[0]
            return lambda asked: inner(asked) is None
        case "IS NOT NULL":
            inner = args[0]
            return lambda asked: inner(asked) is not None
    return None


def _strict(function: Callable[[Any, Any], Any], left: Leaf, right: Leaf) -> Leaf:
    def value(asked: Any) -> Any:
        a = left(asked)
        if a is None:
            return None
        b = right(asked)
        return None if b is None else function(a, b)

    return value


def _arithmetic(expr: Call, args: Sequence[Leaf]) -> Leaf | None:
    """DOUBLE, integers that wrap around, and times moved by intervals."""
    kinds = [arg.type.kind for arg in expr.args]
    function = _COUNTED[expr.function]
    if kinds == [Kind.DOUBLE, Kind.DOUBLE]:
        return _strict(function, args[0], args[1])
    if expr.type.kind in _BITS and kinds == [expr.type.kind] * 2:
        half = 1 << (_BITS[expr.type.kind] - 1)
        return _strict(lambda a, b: (function(a, b) + half) % (2 * half) - half, args[0], args[1])
    if expr.type.kind in _TIMES and Kind.INTERVAL in kinds and expr.function != "*":
        return _strict(function, args[0], args[1])
    return None


def _lazy(args: Sequence[Leaf], *, stop: bool) -> Leaf:
    def value(asked: Any) -> Any:
        unknown = False
        for arg in args:
            found = arg(asked)
            if found is stop:
                return stop
            unknown = unknown or found is None
        return None if unknown else not stop

    return value


def _by_polars(expr: Expr, leaves: Mapping[str, Leaf], types: Mapping[str, DataType]) -> Leaf:
    made = compile_expression(expr)
    error = pl.lit(None, pl.String) if made.error is None else made.error
    exprs = [made.value.alias("value"), error.alias("error")]
    names = [name for name in leaves if name in _names(expr)]

    def value(asked: Any) -> Any:
        row = [series_of(name, [leaves[name](asked)], types[name]) for name in names]
        frame = pl.DataFrame(row or [pl.Series("$none", [0])]).with_columns(exprs)
        code = frame["error"][0]
        if code is not None:
            raise RowRefused(code)
        return frame["value"][0]

    return value


def _names(expr: Expr) -> set[str]:
    made = compile_expression(expr)
    found = set(made.value.meta.root_names())
    return found if made.error is None else found | set(made.error.meta.root_names())
