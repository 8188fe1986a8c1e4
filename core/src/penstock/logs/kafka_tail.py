"""Following topics: one consumer in a thread of its own, whose records are folded where somebody waits for them."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, Protocol

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from penstock.errors import LogUnavailable
from penstock.logs.kafka_client import Cluster, TopicPart
from penstock.logs.kafka_records import Record

__all__ = ["Fold", "Tail", "place_of", "records_in"]

_POLL_S = 0.02
_RECORDS_MAX = 10_000  # taken from the consumer's queue at a time
_HANDLED_S = 0.1  # how often the thread looks whether it shall end while the event loop is busy
_TRANSIENT_S = 0.1


class Fold(Protocol):
    """What is made of a partition's records."""

    def digest(self, records: list[Record], *, at_end: bool) -> Any:
        """In the tail's thread: decode. `at_end`: there are no further committed records at the moment."""
        ...

    def apply(self, digested: Any) -> None:
        """In the event loop: make it known."""
        ...

    def lost(self, first: int) -> None:
        """In the event loop: retention has deleted what was to be read next; it goes on at `first`."""
        ...


class _Followed:
    __slots__ = ("fold", "reached", "waiters")

    def __init__(self, fold: Fold, offset: int) -> None:
        self.fold = fold
        self.reached = offset
        self.waiters: list[tuple[int, asyncio.Future[None]]] = []


class Tail:
    """Follows partitions from given offsets on, until it is closed. Committed records only."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._loop = asyncio.get_running_loop()
        self._followed: dict[TopicPart, _Followed] = {}
        self._commands: queue.SimpleQueue[Callable[[Consumer], None]] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._consumer = cluster.consumer(fetch_wait_ms=cluster.settings.fetch_wait_ms)
        self._thread = threading.Thread(target=self._run, name="penstock-kafka-tail", daemon=True)
        self._thread.start()

    def follows(self, part: TopicPart) -> bool:
        """Whether the partition is followed."""
        return part in self._followed

    def follow(self, part: TopicPart, offset: int, fold: Fold) -> None:
        """Fold everything at or after `offset`."""
        self._followed[part] = _Followed(fold, offset)
        start = TopicPartition(*part, offset)

        def assign(consumer: Consumer) -> None:
            self._cluster.introduce(consumer, [part[0]])
            consumer.incremental_assign([start])

        self._commands.put(assign)

    def leave(self, part: TopicPart) -> None:
        """Do not follow the partition any more."""
        followed = self._followed.pop(part, None)
        if followed is not None:
            for _, waiter in followed.waiters:
                waiter.cancel()
            gone = TopicPartition(*part)
            self._commands.put(lambda consumer: consumer.incremental_unassign([gone]))

    async def reach(self, part: TopicPart, offset: int) -> None:
        """Until everything below `offset` has been folded; LogUnavailable after the time-out."""
        followed = self._followed[part]
        if followed.reached >= offset:
            return
        waiter: asyncio.Future[None] = self._loop.create_future()
        followed.waiters.append((offset, waiter))
        timeout_s = self._cluster.settings.timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                await waiter
        except TimeoutError as error:
            raise LogUnavailable(
                f"{part[0]}/{part[1]} was not readable up to {offset} in {timeout_s} s; are the brokers up?"
            ) from error
        finally:
            followed.waiters[:] = [entry for entry in followed.waiters if entry[1] is not waiter]

    async def close(self) -> None:
        """End the thread."""
        self._closing.set()
        await asyncio.to_thread(self._thread.join)
        for followed in self._followed.values():
            for _, waiter in followed.waiters:
                waiter.cancel()

    def _run(self) -> None:
        while not self._closing.is_set():
            while not self._commands.empty():
                self._commands.get()(self._consumer)
            try:
                first = self._consumer.poll(_POLL_S)
                if first is not None:
                    self._hand_over([first, *self._consumer.consume(_RECORDS_MAX, 0)])
            except KafkaException:
                time.sleep(_TRANSIENT_S)  # the library goes on by itself; whoever waits gets a time-out
        self._consumer.close()

    def _hand_over(self, messages: list[Message]) -> None:
        records: dict[TopicPart, list[Record]] = {}
        ends: dict[TopicPart, int] = {}
        lost: list[TopicPart] = []
        for (part, code), run in groupby(messages, place_of):
            together = list(run)
            if code is None:
                records.setdefault(part, []).extend(records_in(together))
                ends.pop(part, None)
            elif code == KafkaError._PARTITION_EOF:  # the library's name for it
                ends[part] = together[-1].offset()  # type: ignore[assignment]  # the end has an offset
            elif code == KafkaError._AUTO_OFFSET_RESET:  # as above
                lost.append(part)
        digested = []
        for part in {**records, **ends}:
            followed = self._followed.get(part)
            if followed is not None:
                taken = records.get(part, [])
                reached = max(ends.get(part, 0), taken[-1].offset + 1 if taken else 0)
                digested.append((part, followed, followed.fold.digest(taken, at_end=part in ends), reached))
        done = threading.Event()
        restarts = [(part, self._first_kept(part)) for part in lost]
        self._loop.call_soon_threadsafe(self._apply, digested, restarts, done)
        while not done.wait(_HANDLED_S):  # never ahead of the event loop by more than one hand-over
            if self._closing.is_set():
                return

    def _apply(
        self,
        digested: list[tuple[TopicPart, _Followed, Any, int]],
        restarts: list[tuple[TopicPart, int]],
        done: threading.Event,
    ) -> None:
        for part, followed, made, reached in digested:
            if self._followed.get(part) is not followed:
                continue  # left, or followed anew, in the meantime
            followed.fold.apply(made)
            followed.reached = max(followed.reached, reached)
            for offset, waiter in followed.waiters:
                if offset <= followed.reached and not waiter.done():
                    waiter.set_result(None)
        for part, first in restarts:
            if part in self._followed:
                self._followed[part].fold.lost(first)
        done.set()

    def _first_kept(self, part: TopicPart) -> int:
        """Go on where the partition begins now; raises KafkaException."""
        first: int
        first, _ = self._consumer.get_watermark_offsets(
            TopicPartition(*part), timeout=self._cluster.settings.timeout_s, cached=False
        )
        self._consumer.incremental_unassign([TopicPartition(*part)])
        self._consumer.incremental_assign([TopicPartition(*part, first)])
        return first


def records_in(messages: Sequence[Message]) -> list[Record]:
    """The records of messages without error. A column at a time: this is done for every event."""
    stamps = [message.timestamp()[1] for message in messages]
    return list(
        map(
            Record._make,
            zip(
                [message.offset() for message in messages],
                [message.value() for message in messages],
                [message.headers() for message in messages],
                stamps,
                strict=True,
            ),
        )
    )


def place_of(message: Message) -> tuple[TopicPart, int | None]:
    """Its partition, and the code of its error if it is one."""
    error, partition = message.error(), message.partition()
    place = (message.topic() or "", -1 if partition is None else partition)
    return place, None if error is None else error.code()
