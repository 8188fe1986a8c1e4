"""The cluster as the log sees it: clients' settings, topics, ends of partitions; errors in Penstock's words."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Collection, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, NoReturn

from confluent_kafka import (
    OFFSET_INVALID,
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource  # where the library has them
from confluent_kafka.admin._listoffsets import OffsetSpec
from confluent_kafka.admin._resource import ResourceType
from confluent_kafka.cimpl import NewPartitions, NewTopic

from penstock.errors import LogUnavailable, PenstockError
from penstock.logs.kafka_security import Refusals, in_our_words, security_config
from penstock.logs.settings import KafkaLogSettings

__all__ = ["Cluster", "TopicPart", "unavailable"]

TopicPart = tuple[str, int]

#: The client library's own talk; what matters of it comes back as errors of calls.
_logger = logging.getLogger("penstock.kafka")
_logger.addHandler(logging.NullHandler())
_logger.propagate = False

_RETRY_S = 0.1
_NO_LEADER_YET_S = 0.01
_INTRODUCE_S = 1.0
_FIRST_ASKED_S = 1.0  # for ends of partitions, before it is asked again for twice as long: leaders change
_LOOK_S = 0.05  # between two looks at what connections of the admin client complain of


def unavailable(error: KafkaException | KafkaError, what: str) -> LogUnavailable:
    """The error of a call as the log's own."""
    cause = error.args[0] if isinstance(error, KafkaException) else error
    text = cause.str() if isinstance(cause, KafkaError) else str(cause)
    return LogUnavailable(f"{what}: {text}; are the brokers up and may this process use them?")


class Cluster:
    """Admin calls, each bounded by `timeout_s`; and what every client is opened with."""

    def __init__(self, bootstrap: str, settings: KafkaLogSettings) -> None:
        self.bootstrap = bootstrap
        self.settings = settings
        self._security = security_config(settings.security)
        self._refusals = Refusals(settings.security)
        try:
            self._admin = AdminClient(self._config() | {"error_cb": self._heard})
        except KafkaException as error:
            raise PenstockError("bad_request", f"the log in Kafka: {in_our_words(error.args[0].str())}") from error

    def consumer(self, *, fetch_wait_ms: int, queue_max_kib: int | None = None) -> Consumer:
        """Reads committed records where it is told to, never where it thinks it should; announces ends."""
        config = self._config() | {
            "group.id": "penstock",  # the library wants one; no group is ever joined, no offset committed
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "isolation.level": "read_committed",
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
            "allow.auto.create.topics": False,
            "fetch.wait.max.ms": fetch_wait_ms,
            "fetch.error.backoff.ms": 50,
            "fetch.queue.backoff.ms": 20,
            "queued.max.messages.kbytes": queue_max_kib or self.settings.queue_max_kib,
            "check.crcs": True,
        }
        try:
            return Consumer(config)
        except KafkaException as error:
            self._cannot_open(error)

    def introduce(self, consumer: Consumer, topics: Collection[str]) -> None:
        """Before it is assigned partitions of topics that it may not know: it would look for their leaders only once
        a second (measured: 1,000 ms to the first record of a topic instead of 9). Blocks.
        """
        for topic in topics:
            with contextlib.suppress(KafkaException):  # then it finds them by itself, when brokers are there again
                consumer.list_topics(topic, timeout=_INTRODUCE_S)

    def producer(self, transactional_id: str | None = None) -> Producer:
        """Idempotent, acknowledged by all in-sync replicas."""
        config = self._config() | {
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": 1,
            "allow.auto.create.topics": False,
            "compression.type": "lz4",
            "queue.buffering.max.kbytes": self.settings.queue_max_kib,
            "queue.buffering.max.messages": 1_000_000,
        }
        if transactional_id is None:
            config["delivery.timeout.ms"] = round(self.settings.timeout_s * 1000)
        else:
            config["transactional.id"] = transactional_id
            config["transaction.timeout.ms"] = round(self.settings.transaction_timeout_s * 1000)
        try:
            return Producer(config)
        except KafkaException as error:
            self._cannot_open(error)

    async def wait_until_up(self) -> None:
        """Until a broker answers; LogUnavailable after `open_wait_s`. `bad_request` if they refuse this process."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + self.settings.open_wait_s
        while True:
            asked = self._admin.describe_cluster(request_timeout=self.settings.timeout_s)
            try:
                if (refusal := await self._refusal_of(self._answer(asked, "the cluster"))) is None:
                    return
                raise PenstockError("bad_request", f"the brokers at {self.bootstrap}: {refusal}")
            except LogUnavailable as error:
                if loop.time() >= deadline_s:
                    protocol = self.settings.security.protocol
                    hint = f"do they speak '{protocol}' there (log.kafka.security.protocol)?"
                    raise LogUnavailable(f"{error.detail} If they are at {self.bootstrap}, {hint}") from error
                await asyncio.sleep(_RETRY_S)

    async def probe(self, part: TopicPart) -> None:
        """Whether the leader of a partition answers; LogUnavailable, at once if brokers refuse this process."""
        if (refusal := await self._refusal_of(self.ends([part]))) is not None:
            raise LogUnavailable(f"the brokers at {self.bootstrap}: {refusal}")

    async def topics(self) -> Mapping[str, int]:
        """Names of all topics and their numbers of partitions."""
        try:
            found = await asyncio.to_thread(self._admin.list_topics, timeout=self.settings.timeout_s)
        except KafkaException as error:
            raise self._unavailable(error, "the list of topics") from error
        self._refusals.answered()
        return {name: len(topic.partitions) for name, topic in found.topics.items()}

    async def make_topics(self, wanted: Mapping[str, tuple[int, Mapping[str, str]]]) -> None:
        """Topics with at least so many partitions and these settings, made or changed where they differ."""
        existing = await self.topics()
        new = [
            NewTopic(name, count, self.settings.replication_factor, config=dict(config))
            for name, (count, config) in wanted.items()
            if name not in existing
        ]
        grown = [
            NewPartitions(name, count)
            for name, (count, _) in wanted.items()
            if name in existing and existing[name] < count
        ]
        kept = [name for name in wanted if name in existing]
        if new:
            for future in self._admin.create_topics(new, operation_timeout=self.settings.timeout_s).values():
                await self._answer(future, "making a topic", ok=KafkaError.TOPIC_ALREADY_EXISTS)
            await self._await_leaders({topic.topic for topic in new})
        if grown:
            for future in self._admin.create_partitions(grown).values():
                await self._answer(future, "adding partitions", ok=KafkaError.INVALID_PARTITIONS)
        if kept:
            resources = [
                ConfigResource(
                    ResourceType.TOPIC,
                    name,
                    incremental_configs=[
                        ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
                        for key, value in wanted[name][1].items()
                    ],
                )
                for name in kept
                if wanted[name][1]
            ]
            for future in self._admin.incremental_alter_configs(resources).values() if resources else ():
                await self._answer(future, "changing a topic")

    async def ends(self, parts: Sequence[TopicPart]) -> list[int]:
        """The last stable offset of each partition: everything below is committed or aborted."""
        return await self._offsets(parts, OffsetSpec.latest())  # type: ignore[no-untyped-call]  # the library has no types here

    async def starts(self, parts: Sequence[TopicPart]) -> list[int]:
        """The earliest offset kept of each partition."""
        return await self._offsets(parts, OffsetSpec.earliest())  # type: ignore[no-untyped-call]  # as above

    async def offsets_at(self, parts: Sequence[TopicPart], at_ms: int) -> list[int]:
        """The first offset that brokers wrote at or after a time; -1 if there is none."""
        return await self._offsets(parts, OffsetSpec.for_timestamp(at_ms))

    async def delete_before(self, floors: Mapping[TopicPart, int]) -> None:
        """Delete the records below these offsets."""
        if not floors:
            return
        wanted = [TopicPartition(*part, offset) for part, offset in floors.items()]
        for future in self._admin.delete_records(wanted).values():
            await self._answer(future, "deleting records", ok=KafkaError.OFFSET_OUT_OF_RANGE)

    async def _offsets(self, parts: Sequence[TopicPart], spec: OffsetSpec) -> list[int]:
        """Tried again until the time-out: a topic that has just been made has no leader yet, and a leader that was
        killed is asked until brokers have chosen another.
        """
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + self.settings.timeout_s
        patience_s = _FIRST_ASKED_S
        while True:
            wanted = {TopicPartition(*part): spec for part in parts}
            futures = self._admin.list_offsets(
                wanted,
                isolation_level=IsolationLevel.READ_COMMITTED,
                request_timeout=min(patience_s, self.settings.timeout_s),
            )
            try:
                found = {
                    (part.topic, part.partition): await asyncio.wrap_future(future)
                    for part, future in futures.items()
                }
                offsets: list[int] = [found[part].offset for part in parts]
                if OFFSET_INVALID in offsets:  # what the library gives, without an error, for who did not answer
                    raise KafkaException(KafkaError(KafkaError._TIMED_OUT))  # the library's name
            except KafkaException as error:
                if loop.time() > deadline_s:
                    raise self._unavailable(error, f"the ends of {parts[0][0]}") from error
                await self._await_leaders({topic for topic, _ in parts})
                patience_s *= 2
            else:
                self._refusals.answered()
                return offsets

    async def _await_leaders(self, topics: Collection[str]) -> None:
        """Until each partition of these topics has a leader, or the time-out; the client learns it by asking."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + self.settings.timeout_s
        for topic in topics:
            while loop.time() < deadline_s:
                with contextlib.suppress(KafkaException):
                    found = await asyncio.to_thread(self._admin.list_topics, topic, self.settings.timeout_s)
                    partitions = found.topics[topic].partitions.values()
                    if partitions and all(partition.leader >= 0 for partition in partitions):
                        break
                await asyncio.sleep(_NO_LEADER_YET_S)

    async def _answer(self, future: Future[Any], what: str, *, ok: int | None = None) -> Any:
        try:
            answer = await asyncio.wait_for(asyncio.wrap_future(future), self.settings.timeout_s + 1)
        except KafkaException as error:
            if ok is not None and error.args[0].code() == ok:
                return None
            if error.args[0].code() in (KafkaError.POLICY_VIOLATION, KafkaError.INVALID_CONFIG):
                raise PenstockError("bad_request", f"{what}: {error.args[0].str()}") from error
            raise self._unavailable(error, what) from error
        except TimeoutError as error:
            raise LogUnavailable(f"{what}: the brokers did not answer in {self.settings.timeout_s} s") from error
        self._refusals.answered()
        return answer

    async def _refusal_of(self, call: Coroutine[Any, Any, object]) -> str | None:
        """Why brokers let nobody like us in, as soon as that is known; None when the call has been answered."""
        loop = asyncio.get_running_loop()
        asked = loop.create_task(call)
        try:
            while not asked.done():
                await asyncio.wait((asked,), timeout=_LOOK_S)
                self._admin.poll(0)  # calls `_heard`
                if not asked.done() and (refusal := self._refusals.lasting(time.perf_counter())) is not None:
                    return refusal
            asked.result()
            return None
        finally:
            asked.cancel()

    def _heard(self, error: KafkaError) -> None:
        self._refusals.told(error, time.perf_counter())

    def _unavailable(self, error: KafkaException, what: str) -> LogUnavailable:
        hint = f" ({self._refusals.hint})" if self._refusals.hint else ""
        return unavailable(error, what + hint)

    def _cannot_open(self, error: KafkaException) -> NoReturn:
        """Files have changed since the log was opened: somebody puts them right again."""
        raise LogUnavailable(f"a client of Kafka: {in_our_words(error.args[0].str())}") from error

    def _config(self) -> dict[str, Any]:
        return {
            "bootstrap.servers": self.bootstrap,
            "client.id": "penstock",
            "logger": _logger,
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 1000,
            "socket.keepalive.enable": True,
            "topic.metadata.refresh.interval.ms": 30_000,
            **self._security,
        }
