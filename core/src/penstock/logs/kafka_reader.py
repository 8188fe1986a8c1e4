"""Reading ranges of partitions: a few consumers in threads, each put where a caller wants to read."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from penstock.errors import LogUnavailable
from penstock.logs.kafka_client import Cluster, TopicPart, unavailable
from penstock.logs.kafka_records import Record
from penstock.logs.kafka_tail import place_of, records_in

__all__ = ["RangeReader"]

_FETCH_WAIT_MS = 5  # ranges end below what is committed, so brokers need not hold a fetch back
_POLL_S = 0.1
_RECORDS_MAX = 2_000
_KNOWN_S = 60.0  # how long a consumer surely keeps what it knows of a topic
_STAY_S = 0.5  # how long a consumer stays where a range was left, fetching ahead for whoever goes on there

#: Told of records as they come; True when it has enough.
Enough = Callable[[list[Record]], bool]


@dataclass(slots=True, eq=False)
class _Placed:
    """A consumer, and where it fetches on; `part` is None where it is nowhere."""

    consumer: Consumer
    part: TopicPart | None = None
    next: int = 0
    since_s: float = 0.0
    introduced_s: dict[str, float] = field(default_factory=dict)  # topics whose leaders it knows, and since when

    def leave(self) -> None:
        self.part = None
        self.consumer.unassign()


class RangeReader:
    """Committed records of `[start, end)`, read until the end or until the caller has enough."""

    def __init__(self, cluster: Cluster, *, threads: int) -> None:
        self._cluster = cluster
        self._threads = ThreadPoolExecutor(threads, "penstock-kafka-read")
        self._idle: list[_Placed] = []
        self._taking = threading.Lock()
        self._closed = False

    async def read(self, part: TopicPart, start: int, end: int, enough: Enough) -> None:
        """Hand over what is there, in order; LogUnavailable after the time-out, or if the topic is not there.

        Records that retention deletes in the meantime are passed over. `enough` runs in a thread.
        """
        if start < end:
            loop = asyncio.get_running_loop()
            if await loop.run_in_executor(self._threads, self._read, part, start, end, enough):
                loop.call_later(_STAY_S, self._look_after)

    async def all_of(self, part: TopicPart, start: int, end: int) -> list[Record]:
        """Every record of the range; for topics that are small."""
        found: list[Record] = []

        def keep(records: list[Record]) -> bool:
            found.extend(records)
            return False

        await self.read(part, start, end, keep)
        return found

    async def close(self) -> None:
        """Wait for reads that have begun, and end."""
        self._closed = True
        await asyncio.to_thread(self._threads.shutdown)
        for placed in self._idle:
            await asyncio.to_thread(placed.consumer.close)

    def _read(self, part: TopicPart, start: int, end: int, enough: Enough) -> bool:
        """Whether a consumer stays where the caller had enough: who reads on there finds records fetched already."""
        placed = self._take(part, start)
        stays = False
        try:
            if (placed.part, placed.next) != (part, start):
                self._introduce(placed, part[0])
                placed.consumer.assign([TopicPartition(*part, start)])
            placed.next = self._drain(placed.consumer, part, end, enough)
            stays = placed.next < end
        except KafkaException as error:
            raise unavailable(error, f"reading {part[0]}/{part[1]}") from error
        finally:
            if stays:
                placed.part, placed.since_s = part, time.perf_counter()
            else:
                placed.leave()
            with self._taking:
                self._idle.append(placed)
        return stays

    def _take(self, part: TopicPart, start: int) -> _Placed:
        """The consumer that is there already, else one that is nowhere, else any."""
        with self._taking:
            there = [one for one in self._idle if (one.part, one.next) == (part, start)]
            nowhere = [one for one in self._idle if one.part is None]
            chosen = next(iter([*there, *nowhere, *self._idle]), None)
            if chosen is not None:
                self._idle.remove(chosen)
        return chosen or _Placed(self._cluster.consumer(fetch_wait_ms=_FETCH_WAIT_MS))

    def _introduce(self, placed: _Placed, topic: str) -> None:
        now_s = time.perf_counter()
        if placed.introduced_s.get(topic, -_KNOWN_S) + _KNOWN_S <= now_s:
            self._cluster.introduce(placed.consumer, [topic])
            placed.introduced_s[topic] = now_s

    def _look_after(self) -> None:
        if not self._closed:
            self._threads.submit(self._leave_old)

    def _leave_old(self) -> None:
        """Let go of what nobody went on with: fetched records take memory."""
        before_s = time.perf_counter() - _STAY_S
        with self._taking:
            for placed in self._idle:
                if placed.part is not None and placed.since_s <= before_s:
                    placed.leave()

    def _drain(self, consumer: Consumer, part: TopicPart, end: int, enough: Enough) -> int:
        """Where the consumer is afterwards: `end`, or after the last record that was handed over."""
        deadline_s = time.perf_counter() + self._cluster.settings.timeout_s
        while True:
            first = consumer.poll(_POLL_S)
            if first is None:
                if time.perf_counter() > deadline_s:
                    raise LogUnavailable(f"{part[0]}/{part[1]}: the brokers gave nothing; are they up?")
                continue
            deadline_s = time.perf_counter() + self._cluster.settings.timeout_s
            records: list[Record] = []
            ended = False
            for place, run in groupby([first, *consumer.consume(_RECORDS_MAX, 0)], place_of):
                together = list(run)
                if place[0] != part:
                    continue  # of the range before, or about the connection
                if place[1] is None:
                    records += records_in(together)
                elif place[1] == KafkaError._PARTITION_EOF:  # the library's name for it
                    ended = ended or (together[-1].offset() or 0) >= end
                elif place[1] == KafkaError._AUTO_OFFSET_RESET:  # as above
                    self._go_on_at_first_kept(consumer, part)
                else:
                    raise KafkaException(together[0].error())
            if records and records[-1].offset >= end - 1:
                ended = True
                records = [record for record in records if record.offset < end]
            if (records and enough(records)) or ended:
                return end if ended else records[-1].offset + 1

    def _go_on_at_first_kept(self, consumer: Consumer, part: TopicPart) -> None:
        first, _ = consumer.get_watermark_offsets(
            TopicPartition(*part), timeout=self._cluster.settings.timeout_s, cached=False
        )
        consumer.assign([TopicPartition(*part, first)])
