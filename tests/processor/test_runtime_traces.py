"""Cycles go on from the traces of their inputs; without any there is no span."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec
import structlog
from processor.parallel_rig import SETTINGS
from span_memory import SpanMemory, context

from penstock.codecs.ndjson import encode_lines
from penstock.errors import LogUnavailable
from penstock.logs.memory import MemoryLog
from penstock.model.batch import Batch, Encoding, NewBatch
from penstock.model.position import Position
from penstock.observe.traces import Traces
from penstock.ports.clock import SystemClock
from penstock.ports.log import Transaction
from penstock_processor.compile.build import build_engine
from penstock_processor.logical.plan_app import plan_app
from penstock_processor.logical.stages import specs_of, task_plans
from penstock_processor.runtime.app_runner import AppRunner

COPIES = """CREATE TABLE trades (symbol STRING, n BIGINT) WITH ('connector' = 'penstock', 'key' = 'symbol');
CREATE TABLE copies WITH ('connector' = 'penstock') AS SELECT symbol, n FROM trades;
"""
TOTALS = """CREATE TABLE trades (symbol STRING, market STRING, n BIGINT, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '1' DAY) WITH ('connector' = 'penstock', 'key' = 'symbol');
CREATE TABLE totals (market STRING, day_start TIMESTAMP(3), n BIGINT, PRIMARY KEY (market, day_start) NOT ENFORCED)
  WITH ('connector' = 'penstock', 'emit' = 'early');
INSERT INTO totals SELECT market, window_start, SUM(n)
FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' DAY)) GROUP BY market, window_start, window_end;
SET 'parallelism.default' = '2';
"""


class FailingLog(MemoryLog):
    """Its next `failures` commits fail."""

    failures = 0

    async def commit(self, transaction: Transaction) -> list[Position]:
        if self.failures:
            self.failures -= 1
            raise LogUnavailable("a disk that somebody described in detail")
        return await super().commit(transaction)


class Running:
    """An app over a log in memory, and its spans."""

    def __init__(self, log: FailingLog, memory: SpanMemory) -> None:
        self.log, self.memory = log, memory

    async def send(self, *traces: str) -> None:
        """One event a trace, each in a batch of its own; all are there at once."""
        event = encode_lines([msgspec.json.encode({"symbol": "a", "market": "m", "n": 1, "ts": 0})])
        batch = [NewBatch("trades", 0, Encoding.NDJSON_ZSTD, event, 1, trace=trace) for trace in traces]
        await self.log.append(batch)

    async def batches(self, stream: str, count: int) -> Sequence[Batch]:
        """The batches of a stream in all partitions, once they hold so many rows."""
        partitions = (await self.log.catalog()).streams[stream].partitions
        for _ in range(2000):
            found = [b for n in range(partitions) for b in await self.log.read(stream, n, 0, 1 << 20)]
            if sum(batch.count for batch in found) >= count:
                return found
            await asyncio.sleep(0.005)
        raise AssertionError(f"{stream} does not get {count} rows")


@asynccontextmanager
async def running(sql: str) -> AsyncIterator[Running]:
    log, memory, clock = FailingLog(clock=SystemClock()), SpanMemory(), SystemClock()
    plan = plan_app("shop", sql)
    await log.put_app(plan.name, plan.sql, specs_of(plan), 0)
    runners = [
        AppRunner(task, log=log, clock=clock, settings=SETTINGS, build_engine=build_engine, traces=Traces(memory))
        for task in task_plans(plan)
    ]
    tasks = [asyncio.create_task(runner.run()) for runner in runners]
    try:
        yield Running(log, memory)
    finally:
        for runner in runners:
            runner.stop()
        await asyncio.wait_for(asyncio.gather(*tasks), 30)
        memory.close()


async def test_a_cycle_without_traces_has_no_span_and_writes_none() -> None:
    async with running(COPIES) as app:
        await app.send("", "", "")
        assert {batch.trace for batch in await app.batches("copies", 3)} == {""}
        assert app.memory.spans == ()


async def test_a_cycle_of_one_trace_is_its_child_and_its_outputs_carry_it_on() -> None:
    async with running(COPIES) as app:
        await app.send("", context(7), "")
        (batch,) = await app.batches("copies", 3)
    (span,) = app.memory.spans
    assert span.context is not None and span.parent is not None and span.attributes is not None
    assert (span.name, span.context.trace_id, span.parent.span_id) == ("process shop", 7, 1)
    assert batch.trace == context(7, span.context.span_id)
    counts = [span.attributes[name] for name in ("messaging.batch.message_count", "penstock.rows_out")]
    assert counts == [3, 3]


async def test_a_cycle_of_many_traces_links_to_as_many_as_are_allowed() -> None:
    async with running(COPIES) as app:
        await app.send(*(context(n) for n in range(1, 51)))
        (batch,) = await app.batches("copies", 50)
    (span,) = app.memory.spans
    assert span.context is not None and span.attributes is not None
    assert span.parent is None
    assert [link.context.trace_id for link in span.links] == list(range(1, 33))
    assert span.attributes["penstock.links_dropped"] == 18
    assert batch.trace == context(span.context.trace_id, span.context.span_id)


async def test_a_cycle_that_cannot_be_committed_fails_its_span_and_is_done_again() -> None:
    async with running(COPIES) as app:
        app.log.failures = 1
        with structlog.testing.capture_logs() as lines:
            await app.send(context(7))
            (batch,) = await app.batches("copies", 1)
    assert [line.get("trace_id") for line in lines if line["event"] == "app_failed"] == [f"{7:032x}"]
    failed, done = app.memory.spans
    assert done.context is not None
    assert [span.status.description for span in (failed, done)] == ["log_unavailable", None]
    assert "described in detail" not in failed.to_json()
    assert batch.trace == context(7, done.context.span_id)


async def test_a_trace_goes_on_through_the_streams_between_tasks() -> None:
    async with running(TOTALS) as app:
        await app.send(context(7))
        (batch,) = await app.batches("totals", 1)
    spans = {span.context.span_id: span for span in app.memory.spans if span.context is not None}
    last = spans[int(batch.trace.split("-")[2], 16)]
    assert last.parent is not None
    first = spans[last.parent.span_id]
    assert first.parent is not None and (first.parent.span_id, first.parent.trace_id) == (1, 7)
    tasks = [span.attributes["penstock.task"] for span in (first, last) if span.attributes is not None]
    assert tasks[0] != tasks[1]
