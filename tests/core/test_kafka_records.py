"""Kafka records of batches and back: exact values, marks, gaps, other producers, state in pieces. No broker."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, time
from decimal import Decimal

import polars as pl
import pytest

from penstock.codecs.arrow import decode_frame, encode_frame
from penstock.codecs.ndjson import decode_lines, encode_lines
from penstock.errors import PenstockError
from penstock.logs.kafka_names import Names, parse_url
from penstock.logs.kafka_records import BatchCutter, Outgoing, Record, records_of
from penstock.logs.kafka_state import Manifest, StateFold, state_records
from penstock.model.batch import OP_COLUMN, PENDING_COLUMN, Batch, Encoding, NewBatch
from penstock.model.stream import Column, Relation, StreamSpec
from penstock.model.types import (
    BIGINT,
    BOOLEAN,
    BYTES,
    DATE,
    DOUBLE,
    FLOAT,
    STRING,
    TIME,
    TIMESTAMP,
    TIMESTAMP_LTZ,
    decimal,
)
from penstock.ports.log import DeltaKind, StateDelta

SOURCE = StreamSpec("s", "app", Relation.SOURCE, (Column("k", STRING),), key=("k",), dedupe=("k",))
EVERYTHING = StreamSpec(
    "t", "app", Relation.TABLE,
    (Column("k", STRING), Column("n", BIGINT), Column("d", DOUBLE), Column("f", FLOAT), Column("m", decimal(38, 10)),
     Column("b", BOOLEAN), Column("x", BYTES), Column("day", DATE), Column("at", TIME), Column("ts", TIMESTAMP),
     Column("ltz", TIMESTAMP_LTZ)),
    primary_key=("k",), emit="early",
)  # fmt: skip

LAST = datetime(9999, 12, 31, 23, 59, 59, 999_000, UTC)


def stored(records: list[Outgoing], first: int = 0) -> list[Record]:
    return [Record(first + i, r.value, r.headers, 77) for i, r in enumerate(records)]  # type: ignore[arg-type]  # ours have bytes


def source_batch(*texts: bytes, **more: object) -> NewBatch:
    return NewBatch("s", 0, Encoding.NDJSON_ZSTD, encode_lines(texts), len(texts), **more)  # type: ignore[arg-type]  # the batch's fields


def written(batch: NewBatch, *, epoch: int = 1, watermark_ms: int | None = None) -> list[Outgoing]:
    spec = SOURCE if batch.stream == "s" else EVERYTHING
    return records_of(batch, spec, epoch=epoch, watermark_ms=watermark_ms, now_ms=99)


def cutter(start: int = 0, spec: StreamSpec = SOURCE, *, rows_max: int = 100) -> BatchCutter:
    return BatchCutter(spec, 0, epoch=1, start=start, rows_max=rows_max)


def places(batches: list[Batch]) -> list[tuple[int, int, int]]:
    return [(b.first, b.base, b.next) for b in batches]


def test_a_source_event_is_a_record_as_it_came_with_its_key_and_its_id() -> None:
    texts = [b'{ "k": "a\\u00e9", "extra": 1.0 }', b'{"k":"b"}']
    records = written(source_batch(*texts, ids=bytes(range(32)), min_time_ms=1, max_time_ms=2), watermark_ms=5)
    assert [(r.key, r.value) for r in records] == [("aé".encode(), texts[0]), (b"b", texts[1])]
    assert [dict(r.headers or ())["id"] for r in records] == [bytes(range(16)).hex().encode(),
                                                              bytes(range(16, 32)).hex().encode()]  # fmt: skip
    (batch,) = cutter().feed(stored(records))
    assert decode_lines(batch.payload) == b"\n".join(texts)
    assert (batch.min_time_ms, batch.max_time_ms, batch.watermark_ms, batch.appended_at_ms) == (1, 2, 5, 99)


def test_every_value_of_a_derived_row_comes_back_exactly() -> None:
    rows = [
        ("a", 2**63 - 1, -0.0, 0.1, Decimal("1234567890123456789012345678.0123456789"), True, b"\x00\xff",
         date(1, 1, 1), time(23, 59, 59, 999_000), datetime(1, 1, 1), LAST),
        ("b\n\"", -(2**63), math.nan, math.inf, Decimal("-0.0000000001"), False, b"", date(9999, 12, 31), time(0),
         datetime(2018, 1, 1, 0, 0, 0, 1000), datetime(1969, 12, 31, 23, 59, 59, 999_000, UTC)),
        ("c", *[None] * 10),
        ("d", 0, 5e-324, 3.4028234663852886e38, Decimal(0), None, b"x", None, None, None, None),
        ("e", 1, -math.inf, -math.nan, None, None, None, None, None, None, None),
    ]  # fmt: skip
    schema = {
        "k": pl.String, "n": pl.Int64, "d": pl.Float64, "f": pl.Float32, "m": pl.Decimal(38, 10), "b": pl.Boolean,
        "x": pl.Binary, "day": pl.Date, "at": pl.Time, "ts": pl.Datetime("ms"), "ltz": pl.Datetime("ms", "UTC"),
    }  # fmt: skip
    frame = pl.DataFrame(rows, schema=schema, orient="row").with_columns(
        pl.Series(OP_COLUMN, [0, 2, 3, 0, 2], dtype=pl.Int8),
        pl.Series(PENDING_COLUMN, [True, False, False, True, True]),
    )
    for whole in (frame, pl.concat([frame] * 20)):  # few rows and many are written by different code
        batch = NewBatch("t", 0, Encoding.ARROW, encode_frame(whole), whole.height)
        (read,) = cutter(spec=EVERYTHING).feed(stored(written(batch)))
        back = decode_frame(read.payload)
        assert back.schema == whole.schema
        assert back.equals(whole, null_equal=True)
        assert [math.copysign(1, value) for value in back["d"].to_list()[:1]] == [-1.0]


def test_a_row_says_what_other_clients_need_in_headers() -> None:
    spec = StreamSpec("t", "app", Relation.TABLE, EVERYTHING.columns[:1], primary_key=("k",), emit="early")
    frame = pl.DataFrame({"k": ["a"], OP_COLUMN: [3], PENDING_COLUMN: [True]}).cast({OP_COLUMN: pl.Int8})
    batch = NewBatch("t", 0, Encoding.ARROW, encode_frame(frame), 1)
    (record,) = records_of(batch, spec, epoch=1, watermark_ms=None, now_ms=0)
    assert (record.key, record.value) == (b"a", b'{"k":"a"}')
    assert dict(record.headers or ()) | {"penstock": b""} == {"op": b"-D", "pending": b"true", "penstock": b""}


def test_offsets_that_hold_no_event_belong_to_the_batch_after_them() -> None:
    it = cutter(start=4)
    first = stored(written(source_batch(b"{}", b"{}")), 4)
    second = stored(written(source_batch(b"{}", b"{}", b"{}")), 9)
    assert places(it.feed([*first, *second])) == [(4, 4, 6), (6, 9, 12)]


def test_a_batch_that_another_producer_cut_apart_keeps_the_places_of_its_events() -> None:
    own = written(source_batch(b'{"k":"1"}', b'{"k":"2"}'), watermark_ms=3)
    foreign = Record(1, b'{"k":"x"}', None, 50)
    records = [Record(0, own[0].value, None, 77), foreign, *stored(own[1:], 3)]
    batches = cutter().feed(records)
    assert places(batches) == [(0, 0, 2), (2, 3, 4)]
    assert [b.count for b in batches] == [2, 1]
    assert (batches[0].appended_at_ms, batches[1].watermark_ms) == (50, 3)


def test_events_of_other_producers_wait_for_the_end_of_what_is_there_or_for_enough() -> None:
    it = cutter(rows_max=3)
    assert places(it.feed([Record(n, b"{}", None, 5) for n in range(5)])) == [(0, 0, 3)]
    assert places(it.flush()) == [(3, 3, 5)]
    assert it.flush() == []


def test_a_watermark_without_events_moves_no_place() -> None:
    it = cutter()
    [mark] = written(NewBatch("s", 0, Encoding.NDJSON_ZSTD, b"", 0), watermark_ms=8)
    assert mark.value is None
    assert it.feed([Record(0, None, mark.headers, 1)]) == []  # type: ignore[arg-type]  # ours have bytes
    assert (it.next, it.watermark_ms) == (0, 8)


def test_what_an_older_epoch_wrote_late_is_void() -> None:
    it = cutter()
    late = stored(written(source_batch(b"{}", b"{}"), epoch=0, watermark_ms=9))
    assert it.feed(late) == []
    assert it.watermark_ms is None
    assert places(it.feed(stored(written(source_batch(b"{}")), 5))) == [(0, 5, 6)]


def test_a_batch_whose_payload_has_another_count_is_refused() -> None:
    with pytest.raises(PenstockError, match="bad_request"):
        written(NewBatch("s", 0, Encoding.NDJSON_ZSTD, encode_lines([b"{}"]), 2))


def test_a_foreign_record_on_a_derived_topic_is_named() -> None:
    it = cutter(spec=EVERYTHING)
    it.feed([Record(3, b"[]", None, 1)])
    with pytest.raises(PenstockError, match=r"t/0 at 3"):
        it.flush()


def test_state_is_cut_into_pieces_and_put_together_in_commit_order() -> None:
    fold = StateFold()
    deltas = [
        StateDelta("a", DeltaKind.UPSERT, b"0123456789"),
        StateDelta("b", DeltaKind.APPEND, b""),
        StateDelta("a", DeltaKind.DELETE, b"xyz"),
    ]
    one = state_records(Manifest(1, 1, 7, [("s", 0, 5)]), deltas, piece_bytes=4)
    assert [r.value for r in one[:3]] == [b"0123", b"4567", b"89"]
    fold.feed(stored(one))
    assert fold.deltas() == {"a": [deltas[0], deltas[2]], "b": [deltas[1]]}
    replaced = StateDelta("a", DeltaKind.REPLACE, b"all")
    fold.feed(stored(state_records(Manifest(1, 2, 7), [replaced], ["b"], piece_bytes=4), 100))
    assert fold.deltas() == {"a": [replaced]}
    assert fold.first_offsets() == {"a": 101}
    fold.feed(stored(state_records(Manifest(2, 0, 8), piece_bytes=4), 200))
    assert fold.deltas() == {}, "another app of the same name"


def test_names_are_below_their_prefix_and_what_kafka_cannot_have_is_refused() -> None:
    servers, names = parse_url("kafka://a:1,b:2/shop")
    assert (servers, names) == ("a:1,b:2", Names("shop."))
    assert names.stream("arrivals") == "shop.arrivals"
    assert names.state("app#0.1") == "shop.penstock.state.app.0.1"
    assert names.is_state_of(names.state("app#0.1"), "app")
    assert names.is_state_of(names.state("app"), "app")
    assert not names.is_state_of(names.state("apple"), "app")
    assert not names.is_state_of(names.state("app.b#0.1"), "app")
    for url in ("kafka://", "kafka://host", "kafka://host:1/a b", "kafka://host:1,/x"):
        with pytest.raises(PenstockError, match="bad_request"):
            parse_url(url)
    for stream in ("penstock.catalog", "two words", ""):
        with pytest.raises(PenstockError, match="bad_request"):
            Names().stream(stream)
