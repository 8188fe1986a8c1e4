"""Who is alive: beats as records of one topic. A beat's age is measured by the brokers' clock, the wait by ours."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from penstock.errors import LogUnavailable
from penstock.logs.kafka_client import Cluster, unavailable
from penstock.logs.kafka_records import Record
from penstock.logs.kafka_tail import Tail
from penstock.logs.members import Members

__all__ = ["KafkaMembers"]

_BACKLOG = 1000  # beats read back by a process that begins: far more than are sent within a time to live


class _Beat(msgspec.Struct, frozen=True):
    group: str
    member: str
    ttl_s: float


_beats = msgspec.json.Decoder(_Beat)


class KafkaMembers:
    """Sends this process's beats and folds everybody's."""

    def __init__(self, cluster: Cluster, topic: str, *, tail: Tail, now_s: Callable[[], float]) -> None:
        self._cluster, self._topic, self._tail, self._now_s = cluster, topic, tail, now_s
        self._members = Members()
        self._producer: Producer | None = None
        self._broker_ms = 0  # the brokers' clock when our newest beat was written
        self._opening = asyncio.Lock()

    async def beat(self, group: str, member: str, ttl_s: float) -> list[str]:
        """See `Log.beat`: what was sent before this beat has been seen when it returns."""
        offset, self._broker_ms = await self._send(_Beat(group, member, ttl_s))
        async with self._opening:
            if not self._tail.follows((self._topic, 0)):
                self._tail.follow((self._topic, 0), max(0, offset - _BACKLOG), self)
        await self._tail.reach((self._topic, 0), offset + 1)
        return self._members.beat(group, member, ttl_s=ttl_s, now_s=self._now_s())

    def digest(self, records: list[Record], *, at_end: bool) -> list[tuple[_Beat, int]]:
        del at_end
        return [(_beats.decode(record.value), record.timestamp_ms) for record in records if record.value]

    def apply(self, digested: list[tuple[_Beat, int]]) -> None:
        for beat, sent_ms in digested:
            old_s = max(0.0, (self._broker_ms - sent_ms) / 1000)
            self._members.beat(beat.group, beat.member, ttl_s=beat.ttl_s - old_s, now_s=self._now_s())

    def lost(self, first: int) -> None:
        """Old beats are gone: nothing to do."""

    async def close(self) -> None:
        """Let go of the connection."""
        if self._producer is not None:
            await asyncio.to_thread(self._producer.flush, 0)
            self._producer = None

    async def _send(self, beat: _Beat) -> tuple[int, int]:
        loop = asyncio.get_running_loop()
        sent: asyncio.Future[tuple[int, int]] = loop.create_future()

        def told(error: KafkaError | None, message: Message) -> None:
            if sent.done():
                return
            if error is not None:
                sent.set_exception(unavailable(error, "saying that this process is alive"))
            else:
                sent.set_result((message.offset() or 0, message.timestamp()[1]))

        def delivered(error: KafkaError | None, message: Message) -> None:
            loop.call_soon_threadsafe(told, error, message)

        if self._producer is None:
            self._producer = self._cluster.producer()
        try:
            self._producer.produce(self._topic, msgspec.json.encode(beat), beat.group, 0, delivered)
        except (KafkaException, BufferError) as error:
            raise unavailable(
                KafkaException(KafkaError(KafkaError._QUEUE_FULL)), str(error)
            ) from error  # the library's name
        await asyncio.to_thread(self._producer.flush, self._cluster.settings.timeout_s)
        if not sent.done():  # its acknowledgement has been scheduled by now, if there is one
            await asyncio.wait((sent,), timeout=self._cluster.settings.timeout_s)
        if not sent.done():
            raise LogUnavailable("saying that this process is alive: no acknowledgement; are the brokers up?")
        return sent.result()
