"""Trace contexts: which texts are one, and how they travel in Kafka records of other producers."""

from __future__ import annotations

import pytest

from penstock.logs.kafka_records import BatchCutter, Record, records_of
from penstock.model.traceparent import is_sampled, read_traceparent
from penstock.testing.log_fixtures import derived, new_batch, source

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OTHER = "00-11111111111111111111111111111111-2222222222222222-01"


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (TRACE, TRACE),
        (f" {TRACE} ", TRACE),
        (TRACE[:-1] + "0", TRACE[:-1] + "0"),
        (TRACE[:-2] + "ff", TRACE),  # flags of later levels mean nothing here
        ("cc" + TRACE[2:] + "-what-comes-later", TRACE),
    ],
)
def test_a_context_is_read_as_version_00_writes_it(text: str, read: str):
    assert read_traceparent(text) == read
    assert is_sampled(read) == read.endswith("1")


@pytest.mark.parametrize(
    "text",
    [
        "", "-", TRACE[:-1], TRACE + "0", TRACE + "-more", TRACE.upper(), "ff" + TRACE[2:], TRACE.replace("b", "g"),
        "00-" + "0" * 32 + TRACE[35:], TRACE[:36] + "0" * 16 + "-01", "٠" + TRACE[1:],
        "cc" + TRACE[2:] + "-" + "x" * 999,
    ],
)  # fmt: skip
def test_what_is_no_context_is_none(text: str):
    assert read_traceparent(text) is None


@pytest.mark.parametrize("spec", [source(), derived()], ids=["source", "derived"])
def test_every_record_of_a_traced_batch_says_so_to_other_consumers(spec):
    batch = new_batch(spec.name, 3, trace=TRACE)
    records = records_of(batch, spec, epoch=1, watermark_ms=None, now_ms=0)
    assert [dict(record.headers or ()).get("traceparent") for record in records] == [TRACE.encode()] * 3
    silent = records_of(new_batch(spec.name, 2), spec, epoch=1, watermark_ms=None, now_ms=0)
    assert all("traceparent" not in dict(record.headers or ()) for record in silent)


def test_the_first_recorded_trace_of_other_producers_records_is_the_batchs():
    headers = [None, [("traceparent", b"rubbish")], [("traceparent", TRACE[:-1].encode() + b"0")],
               [("other", b"x"), ("traceparent", TRACE.encode())], [("traceparent", OTHER.encode())]]  # fmt: skip
    cutter = BatchCutter(source(), 0, epoch=1, start=0, rows_max=10)
    cutter.feed(Record(n, b"{}", own, 0) for n, own in enumerate(headers))
    (batch,) = cutter.flush()
    assert (batch.count, batch.trace) == (5, TRACE)
