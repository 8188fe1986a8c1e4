"""CAST of arrays, maps and rows: part by part to others of their kind, and to text as Flink writes them.

Only what cannot fail for a part is a cast. Fields of rows go by their place, whatever they are called.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import polars as pl

from penstock.codecs.frames import polars_type
from penstock.expressions.coercion import Mismatch, common_type
from penstock.model.types import STRING, DataType, Kind

__all__ = ["LeafCast", "check_nested_cast", "nested_cast"]

#: Plain values as another type.
LeafCast = Callable[[Sequence[Any], DataType, DataType], list[Any]]


def check_nested_cast(source: DataType, target: DataType) -> None:
    """Mismatch if an ARRAY, MAP or ROW cannot be cast to `target`."""
    if not _fits(source, target):
        raise Mismatch(f"cannot convert {source} to {target}.", "Write the array, map or row anew from its parts.")


def nested_cast(value: pl.Expr, source: DataType, target: DataType, leaf: LeafCast) -> pl.Expr:
    """`value` of the nested type `source` as `target`; cannot fail."""
    wanted = polars_type(target)

    def batch(values: pl.Series) -> pl.Series:
        return pl.Series(values.name, _converted(values.to_list(), source, target, leaf), dtype=wanted)

    return value.map_batches(batch, return_dtype=wanted, is_elementwise=True)


def _fits(source: DataType, target: DataType) -> bool:
    if target.kind is Kind.STRING or source == target:
        return True
    if not source.is_nested:
        return not target.is_nested and common_type((source, target)) == target
    if source.kind is not target.kind or len(source.parts) != len(target.parts):
        return False
    return all(_fits(one, other) for (_, one), (_, other) in zip(source.parts, target.parts, strict=True))


def _converted(values: Sequence[Any], source: DataType, target: DataType, leaf: LeafCast) -> list[Any]:
    """A column of values, all of one part at once."""
    if not source.is_nested:
        return list(values) if source == target else leaf(values, source, target)
    as_text = target.kind is Kind.STRING
    parts = [STRING] * len(source.parts) if as_text else [part for _, part in target.parts]
    names = [name for name, _ in source.parts]
    if source.kind is Kind.ROW:
        rows = [{} if value is None else value for value in values]
        columns = [
            _converted([row.get(name) for row in rows], one, other, leaf)
            for (name, one), other in zip(source.parts, parts, strict=True)
        ]
        new = names if as_text else [name for name, _ in target.parts]
        made = [dict(zip(new, row, strict=True)) for row in zip(*columns, strict=True)]
        texts = [f"({', '.join(map(_shown, row.values()))})" for row in made] if as_text else made
        return [None if value is None else found for value, found in zip(values, texts, strict=True)]
    flat = [each for value in values if value is not None for each in value]
    if source.kind is Kind.ARRAY:
        done: list[Any] = _converted(flat, source.element, parts[0], leaf)
    else:
        (_, key), (_, held) = source.parts
        keys = _converted([pair["key"] for pair in flat], key, parts[0], leaf)
        held_values = _converted([pair["value"] for pair in flat], held, parts[1], leaf)
        done = [{"key": k, "value": v} for k, v in zip(keys, held_values, strict=True)]
    found, at = [], 0
    for value in values:
        size = 0 if value is None else len(value)
        here, at = done[at : at + size], at + size
        found.append(None if value is None else _text(here, source.kind) if as_text else here)
    return found


def _text(elements: Sequence[Any], kind: Kind) -> str:
    if kind is Kind.MAP:
        return "{" + ", ".join(f"{_shown(each['key'])}={_shown(each['value'])}" for each in elements) + "}"
    return "[" + ", ".join(map(_shown, elements)) + "]"


def _shown(text: str | None) -> str:
    return "NULL" if text is None else text
