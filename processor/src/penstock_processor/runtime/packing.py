"""Rows of a repartition stream as its one column of bytes, and back: exactly, whatever columns they have."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from penstock.codecs.arrow import decode_frame, encode_frame
from penstock.model.batch import OP_COLUMN
from penstock_processor.logical.stages import ROWS_COLUMN

__all__ = ["packed", "unpacked"]


def packed(rows: pl.DataFrame, *, rows_max: int, size_bytes: int) -> pl.DataFrame:
    """The frame of a derived batch: each row holds up to `rows_max` of `rows`, in no more than `size_bytes` unless a
    single one needs more (Kafka takes records of 1 MB).
    """
    rows = rows.drop(OP_COLUMN)
    pieces = list(_pieces(rows, rows_max=rows_max, size_bytes=size_bytes)) if rows.height else []
    return pl.DataFrame(
        [pl.Series(ROWS_COLUMN, pieces, dtype=pl.Binary), pl.Series(OP_COLUMN, [0] * len(pieces), dtype=pl.Int8)]
    )


def unpacked(frame: pl.DataFrame) -> list[pl.DataFrame]:
    """The rows of a derived batch of `packed`."""
    return [decode_frame(piece) for piece in frame[ROWS_COLUMN].to_list()]


def _pieces(rows: pl.DataFrame, *, rows_max: int, size_bytes: int) -> Iterator[bytes]:
    for piece in rows.iter_slices(rows_max):
        encoded = encode_frame(piece)
        if len(encoded) <= size_bytes or piece.height == 1:
            yield encoded
        else:
            yield from _pieces(piece, rows_max=-(-piece.height // 2), size_bytes=size_bytes)
