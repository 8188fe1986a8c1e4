"""Rows of repartition streams come out as they went in, in pieces that a broker takes; keys meet whatever type."""

from __future__ import annotations

import math
from datetime import datetime
from decimal import Decimal

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from penstock.codecs.keys import key_bytes
from penstock.model.batch import OP_COLUMN
from penstock.model.partitioning import partition_of
from penstock_processor.operators.key_partitions import key_partitions
from penstock_processor.runtime.packing import packed, unpacked


@given(
    st.lists(st.tuples(st.floats(), st.one_of(st.none(), st.text(max_size=40))), max_size=60),
    st.integers(1, 20),
    st.integers(400, 4000),
)
def test_rows_are_packed_exactly_and_in_bounded_pieces(
    rows: list[tuple[float, str | None]], rows_max: int, size_bytes: int
) -> None:
    frame = pl.DataFrame(rows, schema={"$a0s": pl.Float64, "$k0": pl.String}, orient="row")
    made = packed(frame.with_columns(pl.lit(0, pl.Int8).alias(OP_COLUMN)), rows_max=rows_max, size_bytes=size_bytes)
    assert made.columns == ["rows", OP_COLUMN]
    pieces = unpacked(made)
    assert all(1 <= piece.height <= rows_max for piece in pieces)
    assert all(len(one) <= size_bytes or piece.height == 1 for one, piece in zip(made["rows"], pieces, strict=True))
    found = [row for piece in pieces for row in piece.rows()]
    assert [(repr(a), b) for a, b in found] == [(repr(a), b) for a, b in frame.rows()]


def test_a_row_goes_where_ingest_would_have_put_its_key() -> None:
    frame = pl.DataFrame({"s": ["a", "b", None, "a", ""], "n": [1, 2, 3, 1, None]})
    for columns in (["s"], ["n"], ["s", "n"]):
        keys = key_bytes([frame[name].to_list() for name in columns])
        for partitions in (2, 3, 16):
            found = key_partitions(frame, columns, partitions).to_list()
            assert found == [partition_of(key, partitions) for key in keys]


def test_equal_values_of_every_type_have_one_partition() -> None:
    frame = pl.DataFrame(
        {
            "d": [0.0, -0.0, math.nan, math.nan],
            "t": [datetime(2018, 1, 1)] * 4,
            "m": [Decimal("1.50")] * 4,
            "b": [b"\xff", b"\xff", None, None],
        },
        schema_overrides={"t": pl.Datetime("ms"), "m": pl.Decimal(10, 2)},
    )
    places = {name: key_partitions(frame, [name], 64).to_list() for name in frame.columns}
    assert places["d"][0] == places["d"][1]
    assert places["d"][2] == places["d"][3]
    assert len(set(places["t"])) == len(set(places["m"])) == 1
    assert places["b"][0] == places["b"][1]
