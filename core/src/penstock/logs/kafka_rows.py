"""Rows of derived streams as one JSON text each and back again, exactly. Pure.

The text is that of every other JSON of Penstock (`codecs.rows`), which has no NaN and no infinity: a row that holds
one names it beside its text, so that what is read back is what was written.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import msgspec
import polars as pl

from penstock.codecs.frames import polars_type, series_of
from penstock.codecs.json_values import reader, wire_type
from penstock.codecs.rows import rows_to_lines
from penstock.model.batch import OP_COLUMN, PENDING_COLUMN, Op
from penstock.model.stream import Column, Relation, StreamSpec
from penstock.model.types import DataType, Kind

__all__ = ["RowMarks", "rows_from_texts", "rows_to_texts"]

_OP_OF_TEXT = {op.text: int(op) for op in Op}
_FLOATS = (Kind.FLOAT, Kind.DOUBLE)


class RowMarks(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a row has beside its columns. `numbers`: column -> NaN, Infinity or -Infinity."""

    op: str = Op.INSERT.text
    pending: bool = False
    numbers: dict[str, str] = {}


_PLAIN = RowMarks()


def rows_to_texts(frame: pl.DataFrame, spec: StreamSpec) -> tuple[list[bytes], list[RowMarks]]:
    """Each row as a JSON object of the columns, and its marks."""
    texts = rows_to_lines(frame, spec.columns)
    ops = frame[OP_COLUMN].to_list() if OP_COLUMN in frame.columns else [0] * frame.height
    pending = frame[PENDING_COLUMN].to_list() if PENDING_COLUMN in frame.columns else [False] * frame.height
    numbers = _lost_numbers(frame, spec.columns)
    if not numbers and not any(ops) and not any(pending):
        return texts, [_PLAIN] * frame.height
    kinds = {kind: RowMarks(Op(kind[0]).text, bool(kind[1])) for kind in set(zip(ops, pending, strict=True))}
    marks = [kinds[kind] for kind in zip(ops, pending, strict=True)]
    for i, lost in numbers.items():
        marks[i] = RowMarks(marks[i].op, marks[i].pending, lost)
    return texts, marks


def rows_from_texts(texts: Sequence[bytes], marks: Sequence[RowMarks], spec: StreamSpec) -> pl.DataFrame:
    """The frame of these rows, as a derived batch has it. msgspec.ValidationError if a text is not such a row."""
    rows = _decoder(spec.columns).decode(b"[" + b",".join(texts) + b"]")
    columns = {
        column.name: _series(column.name, [getattr(row, f"c{i}") for row in rows], column.type)
        for i, column in enumerate(spec.columns)
    }
    for name in {name for mark in marks for name in mark.numbers}:
        values = columns[name].to_list()
        for i, mark in enumerate(marks):
            if name in mark.numbers:
                values[i] = float(mark.numbers[name])
        columns[name] = pl.Series(name, values, dtype=columns[name].dtype)
    columns[OP_COLUMN] = pl.Series(OP_COLUMN, [_OP_OF_TEXT[mark.op] for mark in marks], dtype=pl.Int8)
    if spec.relation is Relation.TABLE and spec.emit == "early":
        columns[PENDING_COLUMN] = pl.Series(PENDING_COLUMN, [mark.pending for mark in marks], dtype=pl.Boolean)
    return pl.DataFrame(columns)


def _lost_numbers(frame: pl.DataFrame, columns: Sequence[Column]) -> dict[int, dict[str, str]]:
    lost: dict[int, dict[str, str]] = {}
    for column in columns:
        if column.type.kind not in _FLOATS:
            continue
        values = frame.get_column(column.name)
        for i in (~values.is_finite()).fill_null(value=False).arg_true().to_list():
            value = values[i]
            text = "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
            lost.setdefault(i, {})[column.name] = text
    return lost


def _series(name: str, values: list[Any], data_type: DataType) -> pl.Series:
    target = polars_type(data_type)
    match data_type.kind:
        case Kind.DECIMAL:
            return pl.Series(name, values, dtype=pl.String).cast(target)
        case Kind.TIMESTAMP | Kind.TIMESTAMP_LTZ:
            texts = pl.Series(name, values, dtype=pl.String).str.strip_suffix("Z")
            times = texts.str.to_datetime("%Y-%m-%dT%H:%M:%S%.3f", time_unit="ms")
            return times.dt.replace_time_zone("UTC") if data_type.kind is Kind.TIMESTAMP_LTZ else times
        case Kind.DATE:
            return pl.Series(name, values, dtype=pl.String).str.to_date("%Y-%m-%d")
        case Kind.TIME:
            return pl.Series(name, values, dtype=pl.String).str.to_time("%H:%M:%S%.f")
        case Kind.BYTES:
            return pl.Series(name, values, dtype=pl.Binary)
        case Kind.ARRAY | Kind.MAP | Kind.ROW:
            read = reader(data_type)
            assert read is not None  # nested types have one
            return series_of(name, [None if value is None else read(value) for value in values], data_type)
        case _:
            return pl.Series(name, values, dtype=target)


@lru_cache(maxsize=256)
def _decoder(columns: tuple[Column, ...]) -> msgspec.json.Decoder[list[Any]]:
    """Fields c0, c1, ... so that a column may have any name."""
    fields: list[Any] = [
        (f"c{i}", _wire(column.type) | None, msgspec.field(name=column.name, default=None))
        for i, column in enumerate(columns)
    ]
    return msgspec.json.Decoder(list[msgspec.defstruct("Row", fields, kw_only=True, gc=False)])  # type: ignore[misc]  # made at run time


def _wire(data_type: DataType) -> Any:
    if data_type.is_integer:
        return int
    if data_type.is_nested:
        return wire_type(data_type)
    wire: dict[Kind, Any] = {Kind.BOOLEAN: bool, Kind.FLOAT: float, Kind.DOUBLE: float, Kind.BYTES: bytes}
    return wire.get(data_type.kind, str)
