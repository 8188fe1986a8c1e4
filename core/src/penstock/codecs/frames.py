"""SQL types as Polars types: how the values of a column are held in a frame. The one mapping; every part uses it."""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from penstock.model.stream import Column
from penstock.model.types import DataType, Kind

__all__ = ["empty_frame", "polars_schema", "polars_type"]

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
    """The Polars type of a SQL type; INTERVAL (expressions only) is a duration in milliseconds."""
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
