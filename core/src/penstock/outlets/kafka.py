"""Rows to a topic on brokers of others. AT_LEAST_ONCE, or EXACTLY_ONCE for readers of what is committed.

`'connector' = 'kafka'` appends rows; `'upsert-kafka'` writes a row per change of its primary key, and a record
without value where the key was deleted: EFFECTIVELY_ONCE by key. With `'sink.delivery-guarantee' = 'exactly-once'` a
batch is a transaction, in which the group `penstock.<task>` commits how far it was brought (as the offset of
partition 0 of the topic, the epoch beside it); whoever had the transactional id before is fenced.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

import polars as pl
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from penstock.codecs.rows import rows_to_lines
from penstock.model.batch import OP_COLUMN, Op
from penstock.model.stream import StreamSpec
from penstock.outlets.options import KafkaOutletOptions, UpsertKafkaOutletOptions
from penstock.ports.outlet import BatchRefused, Guarantee, OutBatch, OutletUnavailable, Reached, RefusedRow

__all__ = ["KafkaOutlet"]

_OF_RECORDS = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG, KafkaError.INVALID_RECORD,
                         KafkaError.RECORD_LIST_TOO_LARGE})  # fmt: skip
_POLL_EVERY = 10_000  # records between two looks at what was acknowledged
_QUEUE_FULL_S = 0.05
_logger = logging.getLogger("penstock.outlets.kafka")
_logger.addHandler(logging.NullHandler())
_logger.propagate = False  # the library's words about its connections: `detail` has them where they matter


class KafkaOutlet:
    """Implements `ports.outlet.Outlet`. Calls of the library that may block are made in threads, one at a time."""

    def __init__(
        self, spec: StreamSpec, options: KafkaOutletOptions | UpsertKafkaOutletOptions, *, task: str
    ) -> None:
        self._spec, self._options, self._task = spec, options, task
        self._exactly = options.delivery == "exactly-once"
        self._place = TopicPartition(options.topic, 0)
        self._producer: Producer | None = None
        self._group: Consumer | None = None
        self._lock = asyncio.Lock()

    @property
    def guarantee(self) -> Guarantee:
        """As the option says; a topic of the newest row of each key is brought to the same state again."""
        if self._exactly:
            return Guarantee.EXACTLY_ONCE
        return Guarantee.EFFECTIVELY_ONCE if self._options.upserts else Guarantee.AT_LEAST_ONCE

    async def open(self) -> Reached | None:
        """Connect and see that the topic is there; with transactions, take the id and read how far it was brought."""
        found: Reached | None = await self._in_thread(self._open)
        return found

    async def deliver(self, batch: OutBatch) -> Sequence[RefusedRow]:
        """All records acknowledged by all in-sync replicas, or, with transactions, committed."""
        refused: Sequence[RefusedRow] = await self._in_thread(self._transact if self._exactly else self._write, batch)
        return refused

    async def close(self) -> None:
        """Let go of the connections; what is not acknowledged was not delivered."""
        await self._in_thread(self._close)

    async def _in_thread(self, work: Callable[..., Any], *values: object) -> Any:
        """One at a time, also when who asked is cancelled meanwhile."""
        await self._lock.acquire()
        try:
            running = asyncio.get_running_loop().run_in_executor(None, work, *values)
        except BaseException:
            self._lock.release()
            raise
        running.add_done_callback(self._ended)
        try:
            return await asyncio.shield(running)
        except KafkaException as error:
            raise self._unavailable(error.args[0]) from error

    def _ended(self, work: asyncio.Future[Any]) -> None:
        self._lock.release()
        if not work.cancelled():
            work.exception()  # seen, also if nobody waits for it any more

    def _open(self) -> Reached | None:
        options, timeout_s = self._options, self._options.timeout_s
        config = {**options.client_config(), "logger": _logger}
        more: dict[str, Any] = {"transactional.id": f"{options.id_prefix}.{self._task}"} if self._exactly else {}
        self._producer = Producer({
            **config, **more, "acks": "all", "enable.idempotence": True, "linger.ms": 5, "compression.type": "lz4",
            "partitioner": "murmur2_random", "delivery.timeout.ms": round(timeout_s * 1000),
            "message.timeout.ms": round(timeout_s * 1000),
        })  # fmt: skip
        known = self._producer.list_topics(options.topic, timeout=timeout_s).topics[options.topic]
        if known.error is not None:
            raise self._unavailable(known.error)
        if not self._exactly:
            return None
        self._producer.init_transactions(timeout_s)
        self._group = Consumer(
            {**config, "group.id": f"{options.id_prefix}.{self._task}", "enable.auto.commit": False}
        )
        (at,) = self._group.committed([self._place], timeout=timeout_s)
        if at.error is not None:
            raise self._unavailable(at.error)
        return Reached(int(at.metadata), at.offset) if at.offset >= 0 and at.metadata else None

    def _write(self, batch: OutBatch) -> Sequence[RefusedRow]:
        refused, failed = self._sent(batch)
        if failed is not None:
            raise self._unavailable(failed)
        return refused

    def _transact(self, batch: OutBatch) -> Sequence[RefusedRow]:
        producer, group, timeout_s = self._producer, self._group, self._options.timeout_s
        assert producer is not None, "opened first"
        assert group is not None, "opened for transactions"
        producer.begin_transaction()
        refused, failed = self._sent(batch)
        if failed is not None or refused:
            producer.abort_transaction(timeout_s)
            if failed is not None:
                raise self._unavailable(failed)
            raise BatchRefused(f"topic {self._options.topic}: {refused[0].detail}")
        reached = TopicPartition(self._place.topic, 0, batch.next, metadata=str(batch.epoch))
        producer.send_offsets_to_transaction([reached], group.consumer_group_metadata(), timeout_s)
        producer.commit_transaction(timeout_s)
        return []

    def _sent(self, batch: OutBatch) -> tuple[list[RefusedRow], KafkaError | None]:
        """Rows that brokers or the library refused for what they are, and the first other failure."""
        producer = self._producer
        assert producer is not None, "opened first"
        refused: list[RefusedRow] = []
        failures: list[KafkaError] = []
        keys, values = self._records(batch)
        for row in range(batch.count):

            def told(error: KafkaError | None, _: Message, row: int = row) -> None:
                if error is None:
                    return
                if error.code() in _OF_RECORDS:
                    refused.append(RefusedRow(row, error.str()))
                else:
                    failures.append(error)

            key = None if keys is None else keys[row]
            try:
                self._produce(producer, key, values[row], told)
            except KafkaException as error:
                told(error.args[0], None)  # type: ignore[arg-type]  # the message is not looked at
            if row % _POLL_EVERY == 0:
                producer.poll(0)
        left = producer.flush(self._options.timeout_s)
        if left and not failures:
            failures.append(KafkaError(KafkaError._TIMED_OUT))
        if left:
            producer.purge()
        return sorted(refused, key=lambda one: one.row), failures[0] if failures else None

    def _produce(self, producer: Producer, key: bytes | None, value: bytes | None, told: Callable[..., None]) -> None:
        while True:
            try:
                producer.produce(self._options.topic, value, key, on_delivery=told)
            except BufferError:
                producer.poll(_QUEUE_FULL_S)
            else:
                return

    def _records(self, batch: OutBatch) -> tuple[Sequence[bytes] | None, Sequence[bytes | None]]:
        """Keys, if the topic has them, and values: JSON objects, of which a deleted key has none."""
        lines: list[bytes | None] = [*rows_to_lines(batch.frame, self._spec.columns)]
        names = self._spec.primary_key if self._options.upserts else self._options.key_names
        keys = rows_to_lines(batch.frame, [self._spec.column(name) for name in names]) if names else None
        if not self._options.upserts:
            return keys, lines
        deleted = batch.frame.select(pl.col(OP_COLUMN) == int(Op.DELETE)).to_series().to_list()
        return keys, [None if gone else line for gone, line in zip(deleted, lines, strict=True)]

    def _close(self) -> None:
        producer, self._producer = self._producer, None
        group, self._group = self._group, None
        if producer is not None:
            producer.purge()
            producer.flush(0)
        if group is not None:
            group.close()

    def _unavailable(self, error: KafkaError) -> OutletUnavailable:
        remedy = ""
        if error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):
            remedy = "; create the topic"
        elif error.code() in (KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED):
            remedy = "; correct 'properties.sasl.*'"
        return OutletUnavailable(f"topic {self._options.topic} at {self._options.servers}: {error.str()}{remedy}")
