"""SQL types as Polars types: how the values of a column are held in a frame. The one mapping; every part uses it."""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from penstock.model.stream import Column
from penstock.model.types import DataType, Kind

__all__ = ["empty_frame", "polars_schema", "polars_type", "series_of"]

_NANOS_PER_MS = 1_000_000
_FIXED: dict[Kind, pl.DataType] = {
    Kind.BOOLEAN: pl.Boolean(),
    Kind.TINYINT: pl.Int8(),
    Kind.SMALLINT: pl.Int16(),
    Kind.INT: pl.Int32(),
    Kind.BIGINT: pl.Int64(),
    Kind.FLOAT: pl.Float32(),
    Kind.DOUBLE: pl.Float64(),
    Kind.STRING: pl.String(),
    Kind.BYTES: pl.Binary(),
    Kind.DATE: pl.Date(),
    Kind.TIME: pl.Time(),
    Kind.TIMESTAMP: pl.Datetime("ms"),
    Kind.TIMESTAMP_LTZ: pl.Datetime("ms", "UTC"),
    Kind.INTERVAL: pl.Duration("ms"),
    Kind.NULL: pl.Null(),
}


def polars_type(data_type: DataType) -> pl.DataType:
    """The Polars type of a SQL type; INTERVAL (expressions only) is a duration in milliseconds.

    ARRAY is a List, ROW a Struct, MAP a List of Structs with `key` and `value`, each key once.
    """
    if data_type.kind is Kind.ARRAY:
        return pl.List(polars_type(data_type.element))
    if data_type.is_nested:
        struct = pl.Struct({name: polars_type(part) for name, part in data_type.parts})
        return struct if data_type.kind is Kind.ROW else pl.List(struct)
    if data_type.kind is Kind.DECIMAL:
        if data_type.precision is None or data_type.scale is None:
            raise ValueError("a DECIMAL needs precision and scale")
        return pl.Decimal(data_type.precision, data_type.scale)
    return _FIXED[data_type.kind]


def polars_schema(columns: Iterable[Column]) -> dict[str, pl.DataType]:
    """Name -> Polars type, in the order of the columns."""
    return {column.name: polars_type(column.type) for column in columns}


def empty_frame(columns: Iterable[Column]) -> pl.DataFrame:
    """A frame of these columns without rows."""
    return pl.DataFrame(schema=polars_schema(columns))


def series_of(name: str, values: Iterable[object], data_type: DataType) -> pl.Series:
    """The column of values as `codecs.json_values.reader` makes them: times as integers."""
    listed = list(values)
    held = pl.Series(name, listed, dtype=_held(data_type))
    if data_type.kind is Kind.TIME:
        held = held * _NANOS_PER_MS
    return held.cast(polars_type(data_type))


def _held(data_type: DataType) -> pl.DataType:
    """The type of values before a time is one. Inside of an ARRAY, MAP or ROW, TIME is nanoseconds already."""
    if data_type.kind in (Kind.TIME, Kind.TIMESTAMP, Kind.TIMESTAMP_LTZ):
        return pl.Int64()
    if data_type.kind is Kind.DATE:
        return pl.Int32()
    if data_type.kind is Kind.ARRAY:
        return pl.List(_held(data_type.element))
    if data_type.is_nested:
        struct = pl.Struct({name: _held(part) for name, part in data_type.parts})
        return struct if data_type.kind is Kind.ROW else pl.List(struct)
    return polars_type(data_type)
