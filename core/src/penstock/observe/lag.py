"""How far consumers of the log are behind: in events, and in seconds since the oldest of them came.

Ends of partitions are looked at now and then; the time at which an end was first seen beyond a consumer's position is
when its oldest waiting event came. Nothing is read for it, so measuring costs a broker or a disk next to nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog
from aiohttp import web
from prometheus_client import Gauge

from penstock.errors import PenstockError
from penstock.ports.clock import Clock
from penstock.ports.log import Log
from penstock.role import Check

__all__ = ["Consumer", "EndsSeen", "LagGauges", "LagMeter"]

StreamPartition = tuple[str, int]
SAMPLES_MAX = 10_000
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Consumer:
    """Who reads a stream and how far it is. `positions` None: nobody is measured, only the stream's watermark.

    `labels` are the values of the gauges' labels. A partition without a position is read from its beginning.
    """

    labels: tuple[str, ...]
    stream: str
    partitions: int
    positions: Mapping[int, int] | None


@dataclass(frozen=True, slots=True)
class LagGauges:
    """Where the results go; all with the same labels."""

    events: Gauge
    seconds: Gauge
    watermark_delay_s: Gauge | None = None


class EndsSeen:
    """When a partition's end was first seen at which offset; pure. Forgets what every consumer is past."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque(maxlen=SAMPLES_MAX)

    def note(self, now_s: float, end: int) -> None:
        """The partition ends at `end` now."""
        if self._seen and end < self._seen[-1][1]:
            self._seen.clear()  # another epoch, or a log that was restored
        if not self._seen or end > self._seen[-1][1]:
            self._seen.append((now_s, end))

    def waiting_s(self, now_s: float, position: int) -> float:
        """Seconds since the end was first seen beyond `position`; 0 if it is not."""
        while len(self._seen) > 1 and self._seen[0][1] <= position:
            self._seen.popleft()
        return now_s - self._seen[0][0] if self._seen and self._seen[0][1] > position else 0.0


class LagMeter:
    """Implements `role.Role` (without routes): measures every `interval_s` until it is stopped."""

    def __init__(self, name: str, log: Log, consumers: Callable[[], Awaitable[Sequence[Consumer]]], gauges: LagGauges,
                 *, clock: Clock, interval_s: float) -> None:  # fmt: skip
        self.name = name
        self._port, self._consumers, self._gauges = log, consumers, gauges
        self._clock, self._interval_s = clock, interval_s
        self._ends: dict[tuple[tuple[str, ...], int], EndsSeen] = {}
        self._shown: set[tuple[Gauge, tuple[str, ...]]] = set()
        self._trouble = False

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """None."""
        return ()

    def ready(self) -> Sequence[Check]:
        """Nothing waits for it."""
        return ()

    async def run(self, stop: asyncio.Event) -> None:
        """Measure now and then; what cannot be read now is tried again next time."""
        stopped = asyncio.ensure_future(stop.wait())
        try:
            while not stop.is_set():
                try:
                    await self.measure()
                    self._trouble = False
                except PenstockError as error:
                    if not self._trouble:
                        _log.warning("lag_not_measured", of=self.name, code=error.code, detail=error.detail)
                    self._trouble = True
                resting = asyncio.ensure_future(self._clock.sleep(self._interval_s))
                await asyncio.wait({resting, stopped}, return_when=asyncio.FIRST_COMPLETED)
                resting.cancel()
        finally:
            stopped.cancel()

    async def measure(self) -> None:
        """Look once and set the gauges; those of consumers that are gone go."""
        consumers = await self._consumers()
        shown: set[tuple[Gauge, tuple[str, ...]]] = set()
        for consumer in consumers:
            for gauge, value in await self._of(consumer):
                gauge.labels(*consumer.labels).set(value)
                shown.add((gauge, consumer.labels))
        for gauge, labels in self._shown - shown:
            gauge.remove(*labels)
        self._shown = shown
        known = {(consumer.labels, n) for consumer in consumers for n in range(consumer.partitions)}
        self._ends = {key: ends for key, ends in self._ends.items() if key in known}

    async def _of(self, consumer: Consumer) -> list[tuple[Gauge, float]]:
        heads = {n: await self._port.head(consumer.stream, n) for n in range(consumer.partitions)}
        found: list[tuple[Gauge, float]] = []
        if consumer.positions is not None:
            now_s = self._clock.monotonic_s()
            events, seconds = 0, 0.0
            for n, head in heads.items():
                ends = self._ends.setdefault((consumer.labels, n), EndsSeen())
                position = consumer.positions.get(n, head.first)
                ends.note(now_s, head.next)
                events += max(0, head.next - max(position, head.first))
                seconds = max(seconds, ends.waiting_s(now_s, position))
            found += [(self._gauges.events, float(events)), (self._gauges.seconds, seconds if events else 0.0)]
        known_ms = [head.watermark_ms for head in heads.values() if head.watermark_ms is not None]
        if self._gauges.watermark_delay_s is not None and known_ms:
            found.append((self._gauges.watermark_delay_s, (self._clock.now_ms() - min(known_ms)) / 1000))
        return found
