"""The partition of each row by its key: the same function over the same bytes as at the edge, so that keys meet."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from penstock.codecs.keys import frame_keys
from penstock.model.partitioning import partitions_of

__all__ = ["key_partitions"]

_PLACE = "$place"


def key_partitions(frame: pl.DataFrame, columns: Sequence[str], partitions: int) -> pl.Series:
    """Int64, one a row. Each different key is hashed once; floats have no negative zero, as groups have none."""
    keys = frame.select(pl.col(n) + 0.0 if frame.schema[n].is_float() else pl.col(n) for n in columns)
    different = keys.unique(maintain_order=True)
    places = pl.Series(_PLACE, partitions_of(frame_keys(different, columns), partitions), dtype=pl.Int64)
    if different.height == keys.height:
        return places
    marked = different.hstack([places])
    return keys.join(marked, on=keys.columns, how="left", nulls_equal=True, maintain_order="left")[_PLACE]
