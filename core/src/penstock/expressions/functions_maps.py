"""Maps: constructors and functions (Flink: "Collection Functions"). A map is a list of pairs, each key once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from penstock.codecs.frames import polars_type
from penstock.expressions.coercion import Mismatch, common_type
from penstock.expressions.functions_arrays import by_value, of_arrays
from penstock.expressions.nodes import Call, Expr
from penstock.expressions.table import TEXT, Compiled, Function, Typing, failing, typed
from penstock.model.types import STRING, DataType, Kind, array_of, map_of, row_of

__all__ = ["FUNCTIONS"]

_REMEDY = "Give it a map, such as MAP['a', 1]."
Pairs = list[dict[str, Any]]


def _pairs(keys: Sequence[Any], values: Sequence[Any]) -> Pairs:
    """Of equal keys the last one counts."""
    return [{"key": key, "value": value} for key, value in dict(zip(keys, values, strict=True)).items()]


def _constructor(args: Sequence[Expr]) -> Typing:
    if not args or len(args) % 2:
        raise Mismatch("takes keys and values in turn.", "Write MAP['a', 1, 'b', 2].")
    key, value = common_type(a.type for a in args[::2]), common_type(a.type for a in args[1::2])
    if key is None or value is None:
        raise Mismatch("takes keys of one type and values of one type.", "CAST them to one type.")
    if Kind.NULL in (key.kind, value.kind) or key.is_nested or key.kind in (Kind.FLOAT, Kind.DOUBLE):
        raise Mismatch(f"cannot be made of {key} and {value}.", "Give keys and values types; keys are plain values.")
    return Typing((key, value) * (len(args) // 2), map_of(key, value))


def _map(args: Sequence[Expr], count: int = 1) -> DataType:
    if len(args) != count:
        raise Mismatch(f"takes {count} argument{'s' if count > 1 else ''}, not {len(args)}.", _REMEDY)
    found = common_type(arg.type for arg in args)
    if found is None or found.kind is not Kind.MAP:
        raise Mismatch(f"takes maps of one type, not {', '.join(str(a.type) for a in args)}.", _REMEDY)
    return found


def _keys(args: Sequence[Expr]) -> Typing:
    return Typing((_map(args),), array_of(_map(args).key_and_value[0]))


def _values(args: Sequence[Expr]) -> Typing:
    return Typing((_map(args),), array_of(_map(args).key_and_value[1]))


def _entries(args: Sequence[Expr]) -> Typing:
    key, value = _map(args).key_and_value
    return Typing((_map(args),), array_of(row_of(("key", key), ("value", value))))


def _union(args: Sequence[Expr]) -> Typing:
    found = _map(args, 2)
    return Typing((found, found), found)


def _arrays(args: Sequence[Expr]) -> Typing:
    if len(args) != 2 or any(arg.type.kind is not Kind.ARRAY for arg in args):
        raise Mismatch("takes two arrays.", "Write MAP_FROM_ARRAYS(keys, values).")
    keys, values = (arg.type for arg in args)
    if keys.element.is_nested:
        raise Mismatch("takes plain values as keys.", "Give it an array of texts or numbers first.")
    return Typing((keys, values), map_of(keys.element, values.element))


def _from_arrays(call: Call, values: Sequence[pl.Expr]) -> Compiled:
    keys, held = values
    made = by_value(lambda k, v: _pairs(k, v) if len(k) == len(v) else None)(call, values)
    return Compiled(made, failing("bad_argument", keys.list.len() != held.list.len()))


def _texts(args: Sequence[Expr]) -> Typing:
    if not 1 <= len(args) <= 3 or any(TEXT.accepts(arg) is None for arg in args):
        raise Mismatch("takes a STRING and up to two delimiters.", "Write STR_TO_MAP(text, ',', '=').")
    return Typing((STRING,) * len(args), map_of(STRING, STRING))


def _read(text: str, between: str = ",", inside: str = "=") -> Pairs:
    parts = text.split(between) if text else []
    pairs = [part.split(inside, 1) if inside in part else [part, None] for part in parts]
    return _pairs([pair[0] for pair in pairs], [pair[1] for pair in pairs])


def _built(call: Call, values: Sequence[pl.Expr]) -> Compiled:
    made = by_value(lambda *parts: _pairs(parts[::2], parts[1::2]), nulls=True)
    return Compiled(made(call, values))


def _part(name: str) -> Any:
    return typed(
        lambda call, v: Compiled(v[0].list.eval(pl.element().struct.field(name)).cast(polars_type(call.type)))
    )


FUNCTIONS = (
    Function("MAP", "MAP[key, value, ...]", "A map; of equal keys the last one counts.", _constructor, typed(_built),
             (("MAP['a', 1]['a']", "1"), ("CARDINALITY(MAP['a', 1, 'a', 2])", "1"))),
    Function("MAP_KEYS", "MAP_KEYS(map)", "The keys.", _keys, _part("key"), (("MAP_KEYS(MAP['a', 1])", '["a"]'),)),
    Function("MAP_VALUES", "MAP_VALUES(map)", "The values.", _values, _part("value"),
             (("MAP_VALUES(MAP['a', 1])", "[1]"),)),
    Function("MAP_ENTRIES", "MAP_ENTRIES(map)", "Rows with the fields key and value.", _entries,
             typed(lambda _, v: Compiled(v[0])), (("MAP_ENTRIES(MAP['a', 1])[1].key", '"a"'),)),
    Function("MAP_FROM_ARRAYS", "MAP_FROM_ARRAYS(keys, values)", "A map of two arrays; they are equally long.",
             _arrays, typed(_from_arrays), (("MAP_FROM_ARRAYS(ARRAY['a'], ARRAY[1])['a']", "1"),
             ("MAP_FROM_ARRAYS(ARRAY['a'], ARRAY[1, 2])", "error: bad_argument"))),
    Function("MAP_UNION", "MAP_UNION(a, b)", "The pairs of both; of equal keys that of b counts.", _union,
             of_arrays(lambda a, b: _pairs([p["key"] for p in [*a, *b]], [p["value"] for p in [*a, *b]])),
             (("MAP_UNION(MAP['a', 1], MAP['a', 2])['a']", "2"),)),
    Function("STR_TO_MAP", "STR_TO_MAP(text [, between [, inside]])", "A map of `a=1,b=2`; a part without `=` has no "
             "value.", _texts, of_arrays(_read), (("STR_TO_MAP('a=1,b=2')['b']", '"2"'),)),
)  # fmt: skip
