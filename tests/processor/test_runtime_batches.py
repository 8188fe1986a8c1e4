"""Batches in and out of a cycle: offsets of lines, bounds, partitions, watermarks of targets, snapshots."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import polars as pl
import pytest
from processor.tally_engine import tally_plan

from penstock.codecs.arrow import decode_frame
from penstock.codecs.ndjson import encode_lines
from penstock.errors import PenstockError
from penstock.expressions.nodes import Span
from penstock.model.batch import OP_COLUMN, Batch, Encoding, Op
from penstock.model.partitioning import partition_of
from penstock.ports.log import DeltaKind, StateDelta
from penstock_processor.logical.plan import AppPlan, SourcePlan, Statement
from penstock_processor.operators.interface import Output
from penstock_processor.runtime.inputs import Lines, PartitionInput, bounded
from penstock_processor.runtime.outputs import OutputWriter
from penstock_processor.runtime.rejections import replay_id
from penstock_processor.runtime.snapshots import SnapshotLedger
from penstock_processor.settings import SnapshotSettings


def batch(first: int, lines: list[bytes], encoding: Encoding = Encoding.NDJSON_ZSTD) -> Batch:
    payload = encode_lines(lines)
    return Batch("arrivals", 0, 1, first, first + len(lines), encoding, payload, None, None, None, 0)


def rows(markets: list[str], ops: list[Op] | None = None) -> pl.DataFrame:
    count = len(markets)
    return pl.DataFrame(
        {
            "market": pl.Series(markets, dtype=pl.String),
            "tonnes": pl.Series([float(i) for i in range(count)], dtype=pl.Float64),
            "ts": pl.Series([datetime(2018, 1, 1, 0, 0, i % 60) for i in range(count)], dtype=pl.Datetime("ms")),
            OP_COLUMN: pl.Series([int(op) for op in ops or [Op.INSERT] * count], dtype=pl.Int8),
        }
    )


def writer(
    *, partitions: int = 1, statements: tuple[str, ...] = ("big", "big#2"), rows_max: int = 1000
) -> OutputWriter:
    plan = tally_plan()
    spec = replace(plan.sources["big"].spec, partitions=partitions, key=("market",))
    scan = plan.statements[0].plan
    made = AppPlan(
        plan.name,
        plan.sql,
        {**plan.sources, "big": SourcePlan(spec)},
        tuple(Statement(name, "big", scan, "", name, Span(1, 1)) for name in statements),
        {},
    )
    return OutputWriter(made, rows_max=rows_max)


def test_lines_know_their_offsets_over_gaps_and_from_the_middle_of_a_batch() -> None:
    taken = PartitionInput("arrivals", 0, 12, 12, [batch(10, [b"{}", b"{}", b'{"a":2}']), batch(20, [b'{"a":3}'])])
    lines = Lines.of(taken)
    assert lines.text == b'{"a":2}\n{"a":3}'
    assert [lines.offset(0), lines.offset(1)] == [12, 20]
    assert taken.next == 21
    assert taken.consumed is not None
    assert (taken.consumed.expected, taken.consumed.next) == (12, 21)


def test_a_payload_with_other_lines_than_events_is_an_error_that_names_its_place() -> None:
    broken = replace(batch(0, [b"{}", b"{}"]), next=3)
    with pytest.raises(PenstockError, match="arrivals/0 from 0"):
        Lines.of(PartitionInput("arrivals", 0, None, 0, [broken]))
    with pytest.raises(PenstockError, match="NDJSON"):
        Lines.of(PartitionInput("arrivals", 0, None, 0, [batch(0, [b"{}"], Encoding.ARROW)]))


def test_a_cycle_is_bounded_by_rows_and_takes_at_least_one_batch() -> None:
    batches = [batch(0, [b"{}"] * 8), batch(8, [b"{}"] * 8), batch(16, [b"{}"])]
    assert len(bounded(batches, 5)) == 1
    assert len(bounded(batches, 16)) == 2
    assert len(bounded(batches, 100)) == 3


def test_outputs_of_one_target_are_merged_in_order_and_divided_by_rows() -> None:
    made = writer(rows_max=2).batches(
        [Output("big", "big", rows(["a", "b"]), None), Output("big#2", "big", rows(["c"]), None)]
    )
    assert [b.count for b in made] == [2, 1]
    assert [m for b in made for m in decode_frame(b.payload)["market"]] == ["a", "b", "c"]
    assert (made[0].min_time_ms, made[0].max_time_ms) == (1_514_764_800_000, 1_514_764_801_000)


def test_update_before_is_never_written() -> None:
    [made] = writer().batches([Output("big", "big", rows(["a", "a"], [Op.UPDATE_BEFORE, Op.UPDATE_AFTER]), None)])
    assert made.count == 1
    assert decode_frame(made.payload)[OP_COLUMN].to_list() == [int(Op.UPDATE_AFTER)]


def test_a_target_is_complete_as_far_as_its_slowest_writer_and_says_so_once() -> None:
    it = writer()
    empty = rows([])
    assert it.batches([Output("big", "big", empty, 500)]) == [], "nothing is known of the other writer"
    [mark] = it.batches([Output("big#2", "big", empty, 300)])
    assert (mark.count, mark.payload, mark.watermark_ms) == (0, b"", 300)
    assert it.batches([Output("big", "big", empty, 600)]) == []
    [mark] = it.batches([Output("big", "big", rows(["a"]), 600), Output("big#2", "big", empty, 550)])
    assert (mark.count, mark.watermark_ms) == (1, 550)
    assert it.batches([Output("big#2", "big", empty, None)]) == []


def test_rows_go_to_the_partition_of_their_key_as_at_the_edge() -> None:
    markets = [f"m{i}" for i in range(50)]
    made = writer(partitions=3, statements=("big",)).batches([Output("big", "big", rows(markets), 7)])
    assert {b.partition for b in made} == {0, 1, 2}
    assert sum(b.count for b in made) == 50
    for one in made:
        for market in decode_frame(one.payload)["market"]:
            assert partition_of(market.encode(), 3) == one.partition
    assert [b.watermark_ms for b in made] == [7, 7, 7]


def test_a_snapshot_is_due_by_count_by_size_and_not_before() -> None:
    def delta(size: int, kind: DeltaKind = DeltaKind.UPSERT) -> StateDelta:
        return StateDelta("op", kind, b"x" * size)

    by_count = SnapshotLedger(SnapshotSettings(deltas=3, min_bytes=1000), {"op": [delta(1), delta(1)]})
    assert by_count.due(["op", "other"]) == []
    by_count.note([delta(1)])
    assert by_count.due(["op", "other"]) == ["op"]
    by_count.note([delta(600, DeltaKind.REPLACE)])
    assert by_count.due(["op"]) == []
    by_size = SnapshotLedger(SnapshotSettings(deltas=1000, min_bytes=1000, growth=2.0), {})
    by_size.note([delta(600, DeltaKind.REPLACE), delta(1100)])
    assert by_size.due(["op"]) == [], "a large state is not written again for a little news"
    by_size.note([delta(100)])
    assert by_size.due(["op"]) == ["op"]


def test_ids_of_replays_count_up() -> None:
    assert replay_id("00f3m") == "00f3m#r1"
    assert replay_id("00f3m#r1") == "00f3m#r2"
    assert replay_id("00f3m#r9") == "00f3m#r10"


def test_replays_of_what_several_statements_rejected_have_an_id_each() -> None:
    assert replay_id("00f3m#r1.1") == "00f3m#r2.1"
    assert replay_id("00f3m#r9.2") == "00f3m#r10.2"
