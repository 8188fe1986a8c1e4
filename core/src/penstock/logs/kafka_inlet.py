"""The inlet in Kafka: a topic `<stream>.in` for each source, which any producer may write."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from penstock.errors import LogUnavailable, PenstockError
from penstock.logs.kafka_appends import Appends, check_sizes
from penstock.logs.kafka_catalog import topics_of
from penstock.logs.kafka_client import Cluster, TopicPart, unavailable
from penstock.logs.kafka_names import Names
from penstock.logs.kafka_producer import Portion
from penstock.logs.kafka_records import Outgoing
from penstock.logs.kafka_streams import KafkaStreams
from penstock.logs.metrics import LOST_TO_RETENTION
from penstock.logs.settings import LogSettings
from penstock.model.batch import NewBatch, RejectedEvent
from penstock.model.position import Position
from penstock.model.stream import Relation, StreamSpec
from penstock.ports.inlet import InletRecord, NewInletRecord, Taken
from penstock.ports.log import Consumed

__all__ = ["KafkaInlet"]

_QUEUE_FULL_S = 0.05

StreamPartition = tuple[str, int]
Result = TypeVar("Result")


class _Append(Protocol):
    """`KafkaLog._append`."""

    def __call__(
        self,
        batches: Sequence[NewBatch],
        rejected: Sequence[RejectedEvent],
        replayed: Sequence[str],
        *,
        known: Mapping[str, int] | None,
        consumed: Sequence[Consumed],
    ) -> Awaitable[list[Position]]: ...


class KafkaInlet:
    """Implements `ports.inlet.Inlet`. What it holds fetched is bounded by `log.kafka.inlet_queue_max_kib`."""

    def __init__(
        self,
        cluster: Cluster,
        names: Names,
        *,
        streams: KafkaStreams,
        settings: LogSettings,
        append: _Append,
        appends: Appends,
    ) -> None:
        self._cluster, self._names, self._streams, self._settings = cluster, names, streams, settings
        self._append, self._appends = append, appends
        self._consumer: Consumer | None = None
        self._producer: Producer | None = None
        self._thread = ThreadPoolExecutor(1, "penstock-kafka-inlet")
        self._assigned: dict[TopicPart, StreamPartition] = {}
        self._for_catalog: object = None
        self._topics: set[str] = set()  # that there are, as far as was looked
        self._next: dict[StreamPartition, int] = {}  # after what was taken; committed once it is appended
        #: Ends that were met, and the position from which on nothing but markers of transactions lies before them.
        self._ended: dict[StreamPartition, tuple[int, int]] = {}

    @property
    def is_admitter(self) -> bool:
        """See `Inlet.is_admitter`."""
        return self._appends.is_admitter

    async def take_over(self) -> None:
        """See `Inlet.take_over`."""
        await self._appends.take_over()
        await self.rewind()

    async def cease(self) -> None:
        """See `Inlet.cease`."""
        await self._appends.cease()
        await self.rewind()

    async def take(self, *, records_max: int, timeout_s: float) -> list[Taken]:
        """See `Inlet.take`."""
        if not self.is_admitter:
            raise LogUnavailable("another ingest gateway takes what was left for it")
        catalog = self._streams.catalog
        if self._for_catalog is not catalog:
            added, gone = await self._changed_parts()
            await self._threaded(lambda: self._assign(added, gone))
            self._for_catalog = catalog
        messages = await self._threaded(lambda: self._poll(records_max, timeout_s))
        return self._sorted(messages)

    async def rewind(self) -> None:
        """See `Inlet.rewind`."""
        parts = list(self._assigned)
        self._assigned.clear()
        self._next.clear()
        self._for_catalog = None
        await self._threaded(lambda: self._assign({}, parts))

    async def append(
        self,
        batches: Sequence[NewBatch],
        rejected: Sequence[RejectedEvent],
        replayed: Sequence[str] = (),
        *,
        known: Mapping[str, int] | None,
        consumed: Sequence[Consumed],
    ) -> list[Position]:
        """See `Inlet.append`."""
        return await self._append(batches, rejected, replayed, known=known, consumed=consumed)

    async def put(self, stream: str, records: Sequence[NewInletRecord]) -> dict[int, int]:
        """See `Inlet.put`."""
        spec = self._source(stream)
        topic = self._names.inlet(stream)
        if topic not in await self._known_topics(topic):
            await self._make([spec])
        by_partition: dict[int, list[Outgoing]] = {}
        for record in records:
            headers: list[tuple[str, str | bytes | None]] = list(record.headers.items())
            by_partition.setdefault(record.partition, []).append(Outgoing(record.key, record.value, headers or None))
        portions = [Portion((topic, partition), outgoing) for partition, outgoing in by_partition.items()]
        for portion in portions:
            check_sizes(portion.records, stream, self._cluster.settings.record_max_bytes)
        if self._producer is None:
            self._producer = self._cluster.producer()
        await asyncio.to_thread(self._send, self._producer, portions)
        return {portion.part[1]: portion.offsets[-1] + 1 for portion in portions}

    async def ends(self, stream: str) -> list[int]:
        """See `Inlet.ends`."""
        spec = self._source(stream)
        topic = self._names.inlet(stream)
        if topic not in await self._known_topics(topic):
            return [0] * spec.partitions
        return await self._cluster.ends([(topic, partition) for partition in range(spec.partitions)])

    def reached(self, stream: str) -> list[int]:
        """See `Inlet.reached`."""
        return [self._reached((stream, partition)) for partition in range(self._source(stream).partitions)]

    async def close(self) -> None:
        """Let go of the connections."""
        if self._consumer is not None:
            await self._threaded(self._consumer.close)
            self._consumer = None
        self._thread.shutdown(wait=False)
        if self._producer is not None:
            await asyncio.to_thread(self._producer.flush, 0)
            self._producer = None

    def _source(self, stream: str) -> StreamSpec:
        spec = self._streams.catalog.state.stream(stream)
        if not _has_inlet(spec):
            raise PenstockError("unknown_stream", f"'{stream}' of app '{spec.app}' takes no events; it has no inlet")
        return spec

    def _reached(self, place: StreamPartition) -> int:
        committed = self._appends.inlet_positions.get(place, 0)
        end, after = self._ended.get(place, (0, 0))
        return max(committed, end) if committed >= after else committed

    async def _known_topics(self, topic: str) -> set[str]:
        if topic not in self._topics:
            self._topics = set(await self._cluster.topics())
        return self._topics

    async def _make(self, specs: Iterable[StreamSpec]) -> None:
        inlets = {self._names.inlet(spec.name) for spec in specs}
        wanted = topics_of(list(specs), self._names, self._settings)
        await self._cluster.make_topics({topic: wanted[topic] for topic in inlets})

    async def _changed_parts(self) -> tuple[dict[TopicPart, int], list[TopicPart]]:
        """Partitions of inlets that are to be taken from now on, with the offset to begin at; and those that are not
        there any more."""
        sources = [s for s in self._streams.catalog.state.catalog.streams.values() if _has_inlet(s)]
        topics = await self._cluster.topics()
        missing = [s for s in sources if topics.get(self._names.inlet(s.name), 0) < s.partitions]
        if missing:
            await self._make(missing)
        wanted = {
            (self._names.inlet(spec.name), partition): (spec.name, partition)
            for spec in sources
            for partition in range(spec.partitions)
        }
        gone = [part for part in self._assigned if part not in wanted]
        for part in gone:
            self._next.pop(self._assigned.pop(part), None)
        new = [part for part in wanted if part not in self._assigned]
        firsts = dict(zip(new, await self._cluster.starts(new), strict=True)) if new else {}
        added = {}
        for part in new:
            place = self._assigned[part] = wanted[part]
            position = self._appends.inlet_positions.get(place)
            added[part] = firsts[part] if position is None else position
            if position is not None:
                self._next[place] = position
        return added, gone

    def _assign(self, added: Mapping[TopicPart, int], gone: Sequence[TopicPart]) -> None:
        if self._consumer is None:
            if not added:
                return
            settings = self._cluster.settings
            self._consumer = self._cluster.consumer(
                fetch_wait_ms=settings.fetch_wait_ms, queue_max_kib=settings.inlet_queue_max_kib
            )
        if gone:
            with contextlib.suppress(KafkaException):  # of partitions that it has not
                self._consumer.incremental_unassign([TopicPartition(*part) for part in gone])
        if added:
            self._cluster.introduce(self._consumer, {topic for topic, _ in added})
            self._consumer.incremental_assign([TopicPartition(*part, first) for part, first in added.items()])

    def _poll(self, records_max: int, timeout_s: float) -> list[Message]:
        if self._consumer is None:
            time.sleep(timeout_s)  # there is no source
            return []
        try:
            first = self._consumer.poll(timeout_s)
            if first is None:
                return []
            messages = [first]
            if records_max > 1:
                messages += self._consumer.consume(records_max - 1, 0)
            for message in messages:
                self._check(message)
        except KafkaException as error:
            raise unavailable(error, "taking what was left for admission") from error
        return messages

    def _check(self, message: Message) -> None:
        """Go on where a partition begins now, if what was to be taken next has expired; raises KafkaException."""
        error, topic, partition = message.error(), message.topic(), message.partition()
        if error is None or error.code() == KafkaError._PARTITION_EOF:  # the library's name for it
            return
        if error.code() != KafkaError._AUTO_OFFSET_RESET or topic is None or partition is None:  # as above
            raise KafkaException(error)
        assert self._consumer is not None
        part = TopicPartition(topic, partition)
        first, _ = self._consumer.get_watermark_offsets(part, timeout=self._cluster.settings.timeout_s, cached=False)
        place = self._assigned.get((topic, partition))
        if place is not None:
            LOST_TO_RETENTION.labels(f"{place[0]}.in").inc(max(0, first - self._next.get(place, first)))
        self._consumer.incremental_unassign([part])
        self._consumer.incremental_assign([TopicPartition(topic, partition, first)])

    def _sorted(self, messages: Sequence[Message]) -> list[Taken]:
        records: dict[StreamPartition, list[InletRecord]] = {}
        ends: dict[StreamPartition, int] = {}
        for message in messages:
            place = self._assigned.get((message.topic() or "", message.partition() or 0))
            offset = message.offset()
            if place is None or offset is None:
                continue
            if message.error() is None:
                records.setdefault(place, []).append(_record_of(message, offset))
            elif message.error().code() == KafkaError._PARTITION_EOF:  # type: ignore[union-attr]  # just asked
                ends[place] = offset
        taken = []
        for place, of_place in records.items():
            one = Taken(*place, of_place, self._next.get(place))
            self._next[place] = one.next
            taken.append(one)
        self._ended.update({place: (end, self._next.get(place, 0)) for place, end in ends.items()})
        return taken

    def _send(self, producer: Producer, portions: Sequence[Portion]) -> None:
        try:
            for portion in portions:
                for record in portion.records:
                    self._produce(producer, portion, record)
        except KafkaException as error:
            raise unavailable(error, "leaving events for admission") from error
        producer.flush(self._cluster.settings.timeout_s)
        for portion in portions:
            if portion.failed is not None:
                raise unavailable(portion.failed, "leaving events for admission")
            if len(portion.offsets) != len(portion.records):
                raise LogUnavailable("leaving events for admission: no acknowledgement; are the brokers up?")

    def _produce(self, producer: Producer, portion: Portion, record: Outgoing) -> None:
        topic, partition = portion.part
        while True:
            try:
                producer.produce(
                    topic, record.value, record.key, partition, portion.delivered, headers=record.headers
                )
            except BufferError:
                producer.poll(_QUEUE_FULL_S)
            else:
                return

    async def _threaded(self, call: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)


def _has_inlet(spec: StreamSpec) -> bool:
    return spec.relation is Relation.SOURCE and not spec.topic


def _record_of(message: Message, offset: int) -> InletRecord:
    value = message.value()
    found: Sequence[tuple[str, object]] = message.headers() or []  # type: ignore[assignment]  # they come as pairs
    headers = {name: content for name, content in found if isinstance(content, bytes)}
    assert value is None or isinstance(value, bytes)
    return InletRecord(offset, value, headers, message.timestamp()[1])
