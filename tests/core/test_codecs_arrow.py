"""Arrow payloads: what goes in comes out, small or large, compressed or not."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import polars as pl
import pytest

from penstock.codecs.arrow import COMPRESS_FROM_BYTES, decode_frame, encode_frame
from penstock.model.batch import OP_COLUMN, PENDING_COLUMN


def frame_of(rows: int) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "market": ["Bagepalli, a market with a long name"] * rows,
            "price": [None if i % 7 == 0 else i / 3 for i in range(rows)],
            "amount": pl.Series([Decimal(i) / 100 for i in range(rows)], dtype=pl.Decimal(12, 2)),
            "ts": pl.Series([datetime(2018, 1, 1)] * rows, dtype=pl.Datetime("ms")),
            OP_COLUMN: pl.Series([i % 4 for i in range(rows)], dtype=pl.Int8),
            PENDING_COLUMN: pl.Series([i % 2 == 0 for i in range(rows)], dtype=pl.Boolean),
        }
    )


@pytest.mark.parametrize("rows", [0, 1, 17, 3000])
def test_a_frame_survives_the_payload_with_its_types(rows: int) -> None:
    frame = frame_of(rows)
    back = decode_frame(encode_frame(frame))
    assert back.schema == frame.schema
    assert back.equals(frame)


def test_a_large_frame_is_compressed() -> None:
    frame = frame_of(3000)
    assert frame.estimated_size() > COMPRESS_FROM_BYTES
    assert len(encode_frame(frame)) < frame.estimated_size() / 3


def test_a_slice_carries_only_its_own_rows() -> None:
    frame = frame_of(3000)
    assert len(encode_frame(frame.slice(5, 2))) < 4096


def test_a_frame_of_many_chunks_is_one_record_batch() -> None:
    many = pl.concat([frame_of(3)] * 20, rechunk=False)
    assert decode_frame(encode_frame(many)).n_chunks() == 1
    assert decode_frame(encode_frame(many)).equals(many)
