"""Lag in events and seconds, and the delay of watermarks, by a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from prometheus_client import CollectorRegistry, Gauge

from penstock.errors import LogUnavailable
from penstock.logs.memory import MemoryLog
from penstock.observe.lag import Consumer, EndsSeen, LagGauges, LagMeter
from penstock.ports.log import Log
from penstock.testing.clock import ManualClock
from penstock.testing.log_fixtures import APP, derived, new_batch, source


class Bench:
    """A meter over a log in memory; `positions` is how far the consumer of `wide` says that it is."""

    def __init__(self, log: Log, clock: ManualClock) -> None:
        self.log, self.clock = log, clock
        self.registry = CollectorRegistry()
        self.positions: dict[int, int] | None = {}
        self.gone = False
        self.trouble: Exception | None = None
        names = ("lag_events", "lag_seconds", "watermark_delay_seconds")
        gauges = LagGauges(*(Gauge(name, name, ["stream"], registry=self.registry) for name in names))
        self.meter = LagMeter("lag of the test", log, self.consumers, gauges, clock=clock, interval_s=2)

    async def consumers(self) -> list[Consumer]:
        if self.trouble is not None:
            raise self.trouble
        return [] if self.gone else [Consumer(("wide",), "wide", 3, self.positions)]

    async def append(self, count: int, *, partition: int = 0, watermark_ms: int | None = None) -> None:
        await self.log.append([new_batch("wide", count, partition=partition, watermark_ms=watermark_ms)])

    def value(self, name: str) -> float | None:
        return self.registry.get_sample_value(name, {"stream": "wide"})


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    clock = ManualClock()
    log = MemoryLog(clock=clock)
    await log.put_app(APP, "CREATE ...", [source("wide", partitions=3), derived()], 0)
    yield Bench(log, clock)
    await log.close()


async def test_events_of_all_partitions_count_and_the_oldest_says_since_when(bench: Bench):
    await bench.append(3)
    await bench.meter.measure()
    await bench.clock.advance(4)
    await bench.append(5, partition=2)
    await bench.meter.measure()
    assert (bench.value("lag_events"), bench.value("lag_seconds")) == (8, 4)
    bench.positions = {0: 3, 2: 1}
    await bench.clock.advance(1)
    await bench.meter.measure()
    assert (bench.value("lag_events"), bench.value("lag_seconds")) == (4, 1)
    bench.positions = {0: 3, 2: 5}
    await bench.meter.measure()
    assert (bench.value("lag_events"), bench.value("lag_seconds")) == (0, 0)


async def test_the_delay_is_that_of_the_partition_that_is_furthest_behind(bench: Bench):
    now_ms = bench.clock.now_ms()
    await bench.meter.measure()
    assert bench.value("watermark_delay_seconds") is None, "no watermark yet"
    await bench.append(1, watermark_ms=now_ms - 1_000)
    await bench.append(1, partition=1, watermark_ms=now_ms - 7_000)
    await bench.clock.advance(2)
    await bench.meter.measure()
    assert bench.value("watermark_delay_seconds") == 9


async def test_a_consumer_that_is_gone_is_no_longer_shown(bench: Bench):
    await bench.append(1)
    await bench.meter.measure()
    assert bench.value("lag_events") == 1
    bench.gone = True
    await bench.meter.measure()
    assert bench.value("lag_events") is None


async def test_without_a_consumer_only_the_watermark_is_shown(bench: Bench):
    bench.positions = None
    await bench.append(1, watermark_ms=bench.clock.now_ms())
    await bench.meter.measure()
    assert bench.value("lag_events") is None
    assert bench.value("watermark_delay_seconds") == 0


async def test_it_goes_on_after_a_log_that_could_not_be_read_and_ends_when_told(bench: Bench):
    stop = asyncio.Event()
    bench.trouble = LogUnavailable("away")
    running = asyncio.create_task(bench.meter.run(stop))
    await asyncio.sleep(0)
    bench.trouble = None
    await bench.append(2)
    for _ in range(100):
        await bench.clock.advance(2)
        if bench.value("lag_events") == 2:
            break
    assert bench.value("lag_events") == 2
    stop.set()
    await asyncio.wait_for(running, 10)


def test_the_wait_is_counted_from_the_first_end_beyond_the_position():
    seen = EndsSeen()
    for now_s, end in ((0, 10), (2, 10), (4, 15), (6, 30)):
        seen.note(now_s, end)
    assert seen.waiting_s(10, 9) == 10
    assert seen.waiting_s(10, 10) == 6
    assert seen.waiting_s(10, 14) == 6
    assert seen.waiting_s(10, 15) == 4
    assert seen.waiting_s(10, 30) == 0


def test_an_end_that_went_back_starts_anew():
    seen = EndsSeen()
    seen.note(0, 100)
    seen.note(5, 3)
    assert seen.waiting_s(8, 0) == 3
