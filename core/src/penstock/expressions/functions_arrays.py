"""Arrays and rows: constructors, access and functions (Flink: "Collection Functions").

What Polars has no exact form for is computed value by value, with NULL and equality as SQL has them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import polars as pl

from penstock.codecs.frames import polars_type
from penstock.expressions.coercion import Mismatch, common_type
from penstock.expressions.nodes import Call, Expr, Literal
from penstock.expressions.table import BOOL, INTEGER, TEXT, Check, Compiled, Function, Typing, failing, typed
from penstock.model.types import BOOLEAN, INT, STRING, DataType, Kind, array_of, row_of

__all__ = ["FUNCTIONS", "by_value", "of_arrays"]

_REMEDY = "Give it an array, such as ARRAY[1, 2]."


def by_value(build: Callable[..., Any], *, nulls: bool = False) -> Callable[[Call, Sequence[pl.Expr]], pl.Expr]:
    """A function of Python values, called once a row. NULL comes of a NULL argument unless `nulls`, and of None."""

    def apply(call: Call, values: Sequence[pl.Expr]) -> pl.Expr:
        wanted = polars_type(call.type)

        def rows(packed: pl.Series) -> pl.Series:
            columns = [packed.struct.field(name).to_list() for name in packed.struct.fields]
            made = [
                build(*row) if nulls or all(value is not None for value in row) else None
                for row in zip(*columns, strict=True)
            ]
            return pl.Series(packed.name, made, dtype=wanted)

        packed = pl.struct(value.alias(str(n)) for n, value in enumerate(values))
        return packed.map_batches(rows, return_dtype=wanted, is_elementwise=True)

    return apply


def of_arrays(build: Callable[..., Any], *, nulls: bool = False) -> Callable[[Call, Sequence[Compiled]], Compiled]:
    """An entry's build of `by_value`."""
    made = by_value(build, nulls=nulls)
    return typed(lambda call, values: Compiled(made(call, values)))


def _kind(kind: Kind, arg: Expr, remedy: str) -> DataType:
    if arg.type.kind is not kind:
        raise Mismatch(f"takes an {kind} first, not {arg.type}.", remedy)
    return arg.type


def _common(types: Iterable[DataType]) -> DataType:
    listed = list(types)
    found = common_type(listed)
    if found is None:
        raise Mismatch(f"takes values of one type, not {', '.join(map(str, listed))}.", "CAST them to one type.")
    return found


def _counted(args: Sequence[Expr], least: int, most: int | None = None) -> None:
    if len(args) < least or (most is not None and len(args) > most):
        count = str(least) if most == least else f"{least} or more" if most is None else f"{least} to {most}"
        raise Mismatch(f"takes {count} arguments, not {len(args)}.", "Check the arguments.")


def _constructor(args: Sequence[Expr]) -> Typing:
    _counted(args, 1)
    element = _common(arg.type for arg in args)
    if element.kind is Kind.NULL:
        raise Mismatch("needs a value with a type.", "Write ARRAY[CAST(NULL AS INT)].")
    return Typing((element,) * len(args), array_of(element))


def _row(args: Sequence[Expr]) -> Typing:
    _counted(args, 1)
    if any(arg.type.kind is Kind.NULL for arg in args):
        raise Mismatch("needs values with types.", "Write ROW(1, CAST(NULL AS STRING)).")
    return Typing(tuple(a.type for a in args), row_of(*((f"EXPR${n}", a.type) for n, a in enumerate(args))))


def _same_array(*, least: int = 1, most: int | None = 1) -> Check:
    """All arguments are arrays; the result is one of their common type."""

    def check(args: Sequence[Expr]) -> Typing:
        _counted(args, least, most)
        for arg in args:
            _kind(Kind.ARRAY, arg, _REMEDY)
        found = _common(arg.type for arg in args)
        return Typing((found,) * len(args), found)

    return check


def _with_element(result: DataType | None) -> Check:
    """An array and a value of its type; `result` None: an array again."""

    def check(args: Sequence[Expr]) -> Typing:
        _counted(args, 2, 2)
        element = _common([_kind(Kind.ARRAY, args[0], _REMEDY).element, args[1].type])
        return Typing((array_of(element), element), result or array_of(element))

    return check


def _element_of(args: Sequence[Expr]) -> Typing:
    _counted(args, 1, 1)
    found = _kind(Kind.ARRAY, args[0], _REMEDY)
    return Typing((found,), found.element)


def _best_of(args: Sequence[Expr]) -> Typing:
    typing = _element_of(args)
    if typing.result.is_nested:
        raise Mismatch("compares plain values.", "Give it an array of numbers, texts or times.")
    return typing


def _size(args: Sequence[Expr]) -> Typing:
    _counted(args, 1, 1)
    if args[0].type.kind not in (Kind.ARRAY, Kind.MAP):
        raise Mismatch(f"takes an array or a map, not {args[0].type}.", _REMEDY)
    return Typing((args[0].type,), INT)


def _item(args: Sequence[Expr]) -> Typing:
    _counted(args, 2, 2)
    held, place = args[0].type, args[1]
    if held.kind is Kind.MAP:
        key, value = held.key_and_value
        return Typing((held, _common([key, place.type])), value)
    if held.kind is not Kind.ARRAY:
        raise Mismatch(f"'[...]' takes from an array or a map, not from {held}.", "Write a[1] or m['key'].")
    if INTEGER.accepts(place) is None:
        raise Mismatch(f"'[...]' takes an INT for an array, not {place.type}.", INTEGER.remedy)
    if isinstance(place, Literal) and isinstance(place.value, int) and place.value < 1:
        raise Mismatch("'[...]' counts from 1.", "Write a[1] for the first element.")
    return Typing((held, INT), held.element)


def _take(call: Call, values: Sequence[pl.Expr]) -> Compiled:
    held, place = values
    if call.args[0].type.kind is Kind.ARRAY:
        found = held.list.get(place.cast(pl.Int64) - 1, null_on_oob=True)
        return Compiled(pl.when(place >= 1).then(found))
    if isinstance(call.args[1], Literal):
        pair = pl.element().filter(pl.element().struct.field("key") == place)
        return Compiled(held.list.eval(pair.struct.field("value")).list.first())
    made = by_value(lambda pairs, key: next((pair["value"] for pair in pairs if pair["key"] == key), None))
    return Compiled(made(call, values))


def _field(args: Sequence[Expr]) -> Typing:
    row, name = args
    wanted = name.value if isinstance(name, Literal) else None
    for field, part in row.type.parts:
        if row.type.kind is Kind.ROW and field == wanted:
            return Typing((row.type, STRING), part)
    known = ", ".join(field for field, _ in row.type.parts)
    if row.type.kind is not Kind.ROW:
        raise Mismatch(f"'.' takes a field of a ROW, not of {row.type}.", "Write a[1] or m['key'].")
    raise Mismatch(f"'{wanted}' is no field of this ROW.", f"Fields: {known}.", "unknown_column")


def _take_field(call: Call, values: Sequence[pl.Expr]) -> Compiled:
    name = call.args[1]
    assert isinstance(name, Literal)
    return Compiled(values[0].struct.field(str(name.value)))


def _built_array(call: Call, values: Sequence[pl.Expr]) -> Compiled:
    return Compiled(by_value(lambda *parts: list(parts), nulls=True)(call, values))


def _built_row(call: Call, values: Sequence[pl.Expr]) -> Compiled:
    names = [name for name, _ in call.type.parts]
    return Compiled(pl.struct(value.alias(name) for name, value in zip(names, values, strict=True)))


def _sole(_: Call, values: Sequence[pl.Expr]) -> Compiled:
    return Compiled(values[0].list.first(), failing("bad_argument", values[0].list.len() > 1))


def _unique(values: Iterable[Any]) -> list[Any]:
    made: list[Any] = []
    seen = set()
    for value in values:
        known = repr(value)  # values of one type: equal texts, equal values; also of lists and rows
        if known not in seen:
            seen.add(known)
            made.append(value)
    return made


def _position(values: list[Any], needle: Any) -> int:
    return values.index(needle) + 1 if needle in values else 0


def _slice_check(args: Sequence[Expr]) -> Typing:
    _counted(args, 2, 3)
    found = _kind(Kind.ARRAY, args[0], _REMEDY)
    for n, arg in enumerate(args[1:], 2):
        if INTEGER.accepts(arg) is None:
            raise Mismatch(f"takes INT as argument {n}, not {arg.type}.", INTEGER.remedy)
    return Typing((found, *(INT for _ in args[1:])), found)


def _sliced(values: list[Any], start: int, end: int | None = None) -> list[Any]:
    """Both ends count from 1, or from the end where they are negative."""
    size = len(values)
    first = start + size + 1 if start < 0 else max(start, 1)
    last = size if end is None else end + size + 1 if end < 0 else max(end, 1)
    if last < first or first > size or last < 1:
        return []
    return values[max(first, 1) - 1 : min(last, size)]


def _sort_check(args: Sequence[Expr]) -> Typing:
    _counted(args, 1, 3)
    found = _kind(Kind.ARRAY, args[0], _REMEDY)
    if found.element.is_nested:
        raise Mismatch("sorts plain values.", "Give it an array of numbers, texts or times.")
    for n, arg in enumerate(args[1:], 2):
        if BOOL.accepts(arg) is None:
            raise Mismatch(f"takes BOOLEAN as argument {n}, not {arg.type}.", BOOL.remedy)
    return Typing((found, *(BOOLEAN for _ in args[1:])), found)


def _sorted(values: list[Any], ascending: bool = True, null_first: bool | None = None) -> list[Any]:
    nulls = [value for value in values if value is None]
    ordered = sorted((value for value in values if value is not None), reverse=not ascending)
    first = ascending if null_first is None else null_first
    return nulls + ordered if first else ordered + nulls


def _best(pick: Callable[[list[Any]], Any]) -> Callable[[list[Any]], Any]:
    def best(values: list[Any]) -> Any:
        known = [value for value in values if value is not None]
        return pick(known) if known else None

    return best


def _join_check(args: Sequence[Expr]) -> Typing:
    _counted(args, 2, 3)
    found = _kind(Kind.ARRAY, args[0], "Give it an array of STRING.")
    if found.element.kind is not Kind.STRING or any(TEXT.accepts(arg) is None for arg in args[1:]):
        raise Mismatch("joins an array of STRING by a STRING.", "Write ARRAY_JOIN(names, ', ').")
    return Typing((found, *(STRING for _ in args[1:])), STRING)


def _joined(values: list[str | None], delimiter: str, instead: str | None = None) -> str:
    shown = [instead if value is None else value for value in values]
    return delimiter.join(value for value in shown if value is not None)


def _split_check(args: Sequence[Expr]) -> Typing:
    _counted(args, 2, 2)
    if any(TEXT.accepts(arg) is None for arg in args):
        raise Mismatch("takes two STRINGs.", TEXT.remedy)
    return Typing((STRING, STRING), array_of(STRING))


def _split(text: str, delimiter: str) -> list[str]:
    return text.split(delimiter) if delimiter and text else list(text)


def _except(values: list[Any], others: list[Any]) -> list[Any]:
    return _unique(value for value in values if value not in others)


def _intersect(values: list[Any], others: list[Any]) -> list[Any]:
    return _unique(value for value in values if value in others)


FUNCTIONS = (
    Function("ARRAY", "ARRAY[a, b, ...]", "An array of these values.", _constructor, typed(_built_array),
             (("CARDINALITY(ARRAY[1, 2])", "2"), ("ARRAY[1, NULL]", "[1, null]"))),
    Function("ROW", "ROW(a, b, ...)", "A row of these values; its fields have no names.", _row, typed(_built_row),
             (("ROW(1, 'x')", '{"EXPR$0": 1, "EXPR$1": "x"}'),)),
    Function("[]", "array[n], map[key]", "The n-th element, counted from 1, or the value of the key; NULL if none "
             "is there.", _item, typed(_take), (("ARRAY[5, 6][2]", "6"), ("ARRAY[5, 6][3]", "null"),
             ("MAP['a', 1]['a']", "1"))),
    Function(".", "row.field", "A field of a row; NULL of a row that is NULL.", _field, typed(_take_field),
             (("CAST(ROW(1, 'x') AS ROW<a INT, b STRING>).b", '"x"'),)),
    Function("CARDINALITY", "CARDINALITY(array or map)", "How many elements it has.", _size,
             typed(lambda _, v: Compiled(v[0].list.len().cast(pl.Int32))),
             (("CARDINALITY(ARRAY[1, NULL])", "2"), ("CARDINALITY(MAP['a', 1])", "1"))),
    Function("ELEMENT", "ELEMENT(array)", "The only element; NULL of an empty array; of more the event is rejected.",
             _element_of, typed(_sole), (("ELEMENT(ARRAY[7])", "7"),)),
    Function("ARRAY_APPEND", "ARRAY_APPEND(array, value)", "The array with a value behind it; also NULL.",
             _with_element(None), of_arrays(lambda a, v: None if a is None else [*a, v], nulls=True),
             (("ARRAY_APPEND(ARRAY[1], 2)", "[1, 2]"),)),
    Function("ARRAY_CONCAT", "ARRAY_CONCAT(array, ...)", "The arrays one behind the other.",
             _same_array(most=None), of_arrays(lambda *arrays: [v for a in arrays for v in a]),
             (("ARRAY_CONCAT(ARRAY[1], ARRAY[2, 1])", "[1, 2, 1]"),)),
    Function("ARRAY_CONTAINS", "ARRAY_CONTAINS(array, value)", "Whether it has the value, also NULL.",
             _with_element(BOOLEAN), of_arrays(lambda a, v: None if a is None else v in a, nulls=True),
             (("ARRAY_CONTAINS(ARRAY[1, 2], 2)", "true"), ("ARRAY_CONTAINS(ARRAY[1], 2)", "false"))),
    Function("ARRAY_DISTINCT", "ARRAY_DISTINCT(array)", "Each value once, where it is first.", _same_array(),
             of_arrays(_unique), (("ARRAY_DISTINCT(ARRAY[1, 2, 1])", "[1, 2]"),)),
    Function("ARRAY_EXCEPT", "ARRAY_EXCEPT(a, b)", "Values of a that b has not, each once.",
             _same_array(least=2, most=2), of_arrays(_except), (("ARRAY_EXCEPT(ARRAY[1, 2], ARRAY[2])", "[1]"),)),
    Function("ARRAY_INTERSECT", "ARRAY_INTERSECT(a, b)", "Values of a that b has, too, each once.",
             _same_array(least=2, most=2), of_arrays(_intersect),
             (("ARRAY_INTERSECT(ARRAY[1, 2], ARRAY[2])", "[2]"),)),
    Function("ARRAY_JOIN", "ARRAY_JOIN(array, delimiter [, for_null])", "Texts joined; NULL is left out or replaced.",
             _join_check, of_arrays(_joined), (("ARRAY_JOIN(ARRAY['a', 'b'], '-')", '"a-b"'),)),
    Function("ARRAY_MAX", "ARRAY_MAX(array)", "The greatest value; NULL does not count.", _best_of,
             of_arrays(_best(max)), (("ARRAY_MAX(ARRAY[1, 3, 2])", "3"),)),
    Function("ARRAY_MIN", "ARRAY_MIN(array)", "The least value; NULL does not count.", _best_of,
             of_arrays(_best(min)), (("ARRAY_MIN(ARRAY[1, 3, 2])", "1"),)),
    Function("ARRAY_POSITION", "ARRAY_POSITION(array, value)", "The place of the value, from 1; 0 if it has none.",
             _with_element(INT), of_arrays(_position), (("ARRAY_POSITION(ARRAY[5, 6], 6)", "2"),)),
    Function("ARRAY_PREPEND", "ARRAY_PREPEND(array, value)", "The array with a value before it; also NULL.",
             _with_element(None), of_arrays(lambda a, v: None if a is None else [v, *a], nulls=True),
             (("ARRAY_PREPEND(ARRAY[1], 2)", "[2, 1]"),)),
    Function("ARRAY_REMOVE", "ARRAY_REMOVE(array, value)", "The array without the value, also NULL.",
             _with_element(None),
             of_arrays(lambda a, v: None if a is None else [each for each in a if each != v], nulls=True),
             (("ARRAY_REMOVE(ARRAY[1, 2, 1], 1)", "[2]"),)),
    Function("ARRAY_REVERSE", "ARRAY_REVERSE(array)", "The array from its end.", _same_array(),
             of_arrays(lambda a: a[::-1]), (("ARRAY_REVERSE(ARRAY[1, 2])", "[2, 1]"),)),
    Function("ARRAY_SLICE", "ARRAY_SLICE(array, start [, end])", "Elements from start to end, counted from 1; from "
             "the end where negative.", _slice_check, of_arrays(_sliced),
             (("ARRAY_SLICE(ARRAY[1, 2, 3], 2)", "[2, 3]"), ("ARRAY_SLICE(ARRAY[1, 2, 3], -2, -2)", "[2]"))),
    Function("ARRAY_SORT", "ARRAY_SORT(array [, ascending [, null_first]])", "Sorted, ascending unless FALSE; NULL "
             "comes first where ascending, unless said.", _sort_check, of_arrays(_sorted),
             (("ARRAY_SORT(ARRAY[2, NULL, 1])", "[null, 1, 2]"), ("ARRAY_SORT(ARRAY[2, 3], FALSE)", "[3, 2]"))),
    Function("ARRAY_UNION", "ARRAY_UNION(a, b)", "Values of both, each once.", _same_array(least=2, most=2),
             of_arrays(lambda a, b: _unique([*a, *b])), (("ARRAY_UNION(ARRAY[1, 2], ARRAY[2, 3])", "[1, 2, 3]"),)),
    Function("SPLIT", "SPLIT(text, delimiter)", "The parts between delimiters; characters for an empty one; none of "
             "an empty text.",
             _split_check, of_arrays(_split), (("SPLIT('a,b', ',')", '["a", "b"]'), ("SPLIT('', ',')", "[]"))),
)  # fmt: skip
