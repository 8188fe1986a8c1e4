"""Values of rows that patterns keep: Python values, times as integers, and columns made of them again."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from penstock.codecs.frames import polars_type
from penstock.model.types import DataType, Kind

__all__ = ["series_of", "values_of"]

_TIMES = (Kind.DATE, Kind.TIME, Kind.TIMESTAMP, Kind.TIMESTAMP_LTZ, Kind.INTERVAL)


def values_of(column: pl.Series) -> list[object]:
    """The column's values; times are integers in the unit in which the column holds them."""
    return (column.to_physical() if column.dtype.is_temporal() else column).to_list()


def series_of(name: str, values: Sequence[object], data_type: DataType) -> pl.Series:
    """The inverse of `values_of`."""
    dtype = polars_type(data_type)
    if data_type.kind in _TIMES:
        physical = pl.Int32 if data_type.kind is Kind.DATE else pl.Int64
        return pl.Series(name, values, dtype=physical).cast(dtype)
    return pl.Series(name, values, dtype=dtype)
