"""Reading ranges of partitions: a few consumers in threads, each put where a caller wants to read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from penstock.errors import LogUnavailable
from penstock.logs.kafka_client import Cluster, TopicPart, unavailable
from penstock.logs.kafka_records import Record
from penstock.logs.kafka_tail import record_of

__all__ = ["RangeReader"]

_FETCH_WAIT_MS = 5  # ranges end below what is committed, so brokers need not hold a fetch back
_POLL_S = 0.1
_RECORDS_MAX = 2_000

#: Told of records as they come; True when it has enough.
Enough = Callable[[list[Record]], bool]


class RangeReader:
    """Committed records of `[start, end)`, read until the end or until the caller has enough."""

    def __init__(self, cluster: Cluster, *, threads: int) -> None:
        self._cluster = cluster
        self._threads = ThreadPoolExecutor(threads, "penstock-kafka-read")
        self._idle: list[Consumer] = []

    async def read(self, part: TopicPart, start: int, end: int, enough: Enough) -> None:
        """Hand over what is there, in order; LogUnavailable after the time-out, or if the topic is not there.

        Records that retention deletes in the meantime are passed over. `enough` runs in a thread.
        """
        if start < end:
            await asyncio.get_running_loop().run_in_executor(self._threads, self._read, part, start, end, enough)

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
        await asyncio.to_thread(self._threads.shutdown)
        for consumer in self._idle:
            await asyncio.to_thread(consumer.close)

    def _read(self, part: TopicPart, start: int, end: int, enough: Enough) -> None:
        try:
            consumer = self._idle.pop()
        except IndexError:
            consumer = self._cluster.consumer(fetch_wait_ms=_FETCH_WAIT_MS)
        try:
            consumer.assign([TopicPartition(*part, start)])
            self._drain(consumer, part, end, enough)
        except KafkaException as error:
            raise unavailable(error, f"reading {part[0]}/{part[1]}") from error
        finally:
            consumer.unassign()
            self._idle.append(consumer)

    def _drain(self, consumer: Consumer, part: TopicPart, end: int, enough: Enough) -> None:
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
            for message in [first, *consumer.consume(_RECORDS_MAX, 0)]:
                error = message.error()
                offset = message.offset()
                if (message.topic(), message.partition()) != part or offset is None:
                    continue  # of the range before, or about the connection
                if error is None:
                    if offset < end:
                        records.append(record_of(message))
                    ended = ended or offset >= end - 1
                elif error.code() == KafkaError._PARTITION_EOF:  # the library's name for it
                    ended = ended or offset >= end
                elif error.code() == KafkaError._AUTO_OFFSET_RESET:  # as above
                    self._go_on_at_first_kept(consumer, part)
                else:
                    raise KafkaException(error)
            if (records and enough(records)) or ended:
                return

    def _go_on_at_first_kept(self, consumer: Consumer, part: TopicPart) -> None:
        first, _ = consumer.get_watermark_offsets(
            TopicPartition(*part), timeout=self._cluster.settings.timeout_s, cached=False
        )
        consumer.assign([TopicPartition(*part, first)])
