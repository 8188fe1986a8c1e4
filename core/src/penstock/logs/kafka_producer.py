"""Transactions of one writer: opened, filled, committed in a thread; a newer writer of the same name fences it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from penstock.errors import Fenced, LogUnavailable, PenstockError
from penstock.logs.kafka_client import Cluster, TopicPart, unavailable
from penstock.logs.kafka_records import Outgoing

__all__ = ["Portion", "TransactionalWriter", "UnknownOutcome"]

_FENCED = {
    KafkaError._FENCED,  # the library's name for it
    KafkaError.PRODUCER_FENCED,
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.INVALID_PRODUCER_ID_MAPPING,
}
_ANY_TOPIC = "__transaction_state"
_UNKNOWN_PART = {KafkaError._UNKNOWN_PARTITION, KafkaError._UNKNOWN_TOPIC}
_QUEUE_FULL_S = 0.05
_RETRY_S = 0.02
_ABORT_S = 2.0  # brokers that do not answer are not waited for twice: opening again aborts, too
_POLL_EVERY = 10_000  # records between two looks at what was acknowledged


class UnknownOutcome(LogUnavailable):
    """The brokers did not say whether the transaction was committed."""


@dataclass(slots=True)
class Portion:
    """Records for one partition; `offsets` of them once the transaction is committed."""

    part: TopicPart
    records: Sequence[Outgoing]
    offsets: list[int] = field(default_factory=list)
    failed: KafkaError | None = None

    def delivered(self, error: KafkaError | None, message: Message) -> None:
        """Called by the library, in the order of the records."""
        if error is not None:
            self.failed = error
            return
        offset = message.offset()
        assert offset is not None
        self.offsets.append(offset)


class TransactionalWriter:
    """One `transactional.id`. `open` fences whoever had it, and ends what that one had begun."""

    def __init__(self, cluster: Cluster, transactional_id: str) -> None:
        self._cluster = cluster
        self._id = transactional_id
        self._timeout_s = cluster.settings.timeout_s
        self._producer: Producer | None = None
        self._lock = asyncio.Lock()

    @property
    def is_open(self) -> bool:
        """False before `open` and after an outcome that is not known."""
        return self._producer is not None

    async def open(self) -> None:
        """Take the name. What an earlier holder had committed is readable when this returns."""
        await self._alone(self._open)

    async def write(self, portions: Sequence[Portion]) -> None:
        """All of it or nothing. Fenced; LogUnavailable if nothing was written; UnknownOutcome if nobody knows."""
        await self._alone(self._write, portions)

    async def close(self) -> None:
        """Finish what has begun and let go of the name's connection."""
        await self._alone(self._drop)

    async def _alone(self, work: Callable[..., None], *args: object) -> None:
        """In a thread, one at a time, also when who asked is cancelled meanwhile: an `init_transactions` that is late
        would fence who took the name after it.
        """
        await self._lock.acquire()
        try:
            running = asyncio.get_running_loop().run_in_executor(None, work, *args)
        except BaseException:
            self._lock.release()
            raise
        running.add_done_callback(lambda _: self._lock.release())
        await asyncio.shield(running)

    def _open(self) -> None:
        self._drop()
        deadline_s = time.perf_counter() + self._timeout_s
        producer = self._connected()
        while True:
            try:
                producer.init_transactions(self._timeout_s)
            except KafkaException as error:
                if time.perf_counter() > deadline_s:
                    raise unavailable(error, f"beginning to write as '{self._id}'") from error
                time.sleep(_RETRY_S)
                if not error.args[0].retriable():  # such as a coordinator that is just moving or loading
                    producer = self._connected()
            else:
                self._producer = producer
                return

    def _connected(self) -> Producer:
        """With a connection: without one the library asks for its coordinator only every 500 ms (measured)."""
        producer = self._cluster.producer(self._id)
        with contextlib.suppress(KafkaException):
            producer.list_topics(_ANY_TOPIC, timeout=self._timeout_s)
        return producer

    def _write(self, portions: Sequence[Portion]) -> None:
        producer = self._producer
        if producer is None:
            raise LogUnavailable(f"'{self._id}' is not open for writing; it is being opened again")
        try:
            producer.begin_transaction()
            self._send(producer, portions)
        except (KafkaException, PenstockError, SystemError) as error:
            # SystemError: the library raises a fatal error and then calls `delivered` with the exception still set.
            if self._abort(producer):
                raise self._fenced() from error
            raise self._explained(error) from error
        self._commit(producer)
        for portion in portions:
            if portion.failed is not None or len(portion.offsets) != len(portion.records):
                raise UnknownOutcome(f"'{self._id}': a commit without every record's acknowledgement")

    def _send(self, producer: Producer, portions: Sequence[Portion]) -> None:
        produce = producer.produce
        for portion in portions:
            (topic, partition), delivered = portion.part, portion.delivered
            for sent, (key, value, headers) in enumerate(portion.records):
                try:
                    produce(topic, value, key, partition, delivered, headers=headers)
                except (BufferError, KafkaException):
                    self._produce_in_time(producer, portion, portion.records[sent])
                if sent % _POLL_EVERY == 0:
                    producer.poll(0)
        if producer.flush(self._timeout_s):
            raise LogUnavailable(
                f"writing as '{self._id}': no acknowledgement in {self._timeout_s} s; are the brokers up, and "
                "as many replicas in sync as their min.insync.replicas asks for?"
            )
        for portion in portions:
            if portion.failed is not None:
                raise KafkaException(portion.failed)

    def _produce_in_time(self, producer: Producer, portion: Portion, record: Outgoing) -> None:
        """Wait where the library's queue is full or a partition is younger than what it knows."""
        topic, partition = portion.part
        deadline_s = time.perf_counter() + self._timeout_s
        while True:
            try:
                producer.produce(
                    topic, record.value, record.key, partition, portion.delivered, headers=record.headers
                )
            except BufferError:
                producer.poll(_QUEUE_FULL_S)
            except KafkaException as error:
                if error.args[0].code() not in _UNKNOWN_PART or time.perf_counter() > deadline_s:
                    raise
                producer.list_topics(topic, timeout=self._timeout_s)
                time.sleep(_RETRY_S)
            else:
                return

    def _commit(self, producer: Producer) -> None:
        deadline_s = time.perf_counter() + self._timeout_s
        while True:
            try:
                producer.commit_transaction(self._timeout_s)
            except KafkaException as error:
                cause = error.args[0]
                if cause.code() in _FENCED:
                    self._drop()
                    raise self._explained(error) from error
                if cause.txn_requires_abort():
                    self._abort(producer)
                    raise unavailable(error, f"committing as '{self._id}'") from error
                if not cause.retriable() or time.perf_counter() > deadline_s:
                    self._drop()
                    raise UnknownOutcome(
                        f"committing as '{self._id}': {cause.str()}; nobody knows whether it took place"
                    ) from error
                time.sleep(_RETRY_S)
            else:
                return

    def _abort(self, producer: Producer) -> bool:
        """Undo; where that does not succeed either, opening again does it. True if another has taken the name."""
        try:
            producer.purge()
            producer.abort_transaction(min(_ABORT_S, self._timeout_s))
        except KafkaException as error:
            self._drop()
            return error.args[0].code() in _FENCED
        return False

    def _drop(self) -> None:
        """Let go; what is open is aborted by whoever opens next, or by brokers after the transaction time-out."""
        producer, self._producer = self._producer, None
        if producer is not None:
            with contextlib.suppress(KafkaException):
                producer.purge()

    def _fenced(self) -> Fenced:
        return Fenced(
            f"another process writes as '{self._id}' now, or brokers ended its transaction because they had been away"
        )

    def _explained(self, error: KafkaException | PenstockError | SystemError) -> PenstockError:
        if isinstance(error, PenstockError):
            return error
        if isinstance(error, SystemError):
            return LogUnavailable(f"writing as '{self._id}': {error.__cause__ or error}")
        cause = error.args[0]
        if cause.code() in _FENCED:
            self._drop()
            return self._fenced()
        if cause.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            return PenstockError(
                "too_large", f"writing as '{self._id}': {cause.str()}; raise the topic's max.message.bytes"
            )
        return unavailable(error, f"writing as '{self._id}'")
