"""The log in Apache Kafka: a topic a stream, one event a record, every write a transaction.

What Kafka adds to the contract, and what it takes away, is in docs/kafka.md. Reading is in `kafka_streams`, ingest's
writing in `kafka_appends`, the tasks' in `kafka_tasks`; this file holds the catalog and puts the parts together.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

import confluent_kafka

from penstock.errors import Fenced, LogUnavailable
from penstock.logs import catalog_change
from penstock.logs.catalog_change import CatalogChange, CatalogState
from penstock.logs.kafka_appends import Appends
from penstock.logs.kafka_catalog import (
    CATALOG_KEY,
    ClusterCatalog,
    after_change,
    catalog_text,
    newest_catalog,
    topics_of,
)
from penstock.logs.kafka_client import Cluster, TopicPart
from penstock.logs.kafka_foreign import begins_of
from penstock.logs.kafka_ids import KafkaIds
from penstock.logs.kafka_inlet import KafkaInlet
from penstock.logs.kafka_members import KafkaMembers
from penstock.logs.kafka_names import Names, parse_url
from penstock.logs.kafka_producer import Portion, TransactionalWriter
from penstock.logs.kafka_reader import RangeReader
from penstock.logs.kafka_records import Outgoing, Record
from penstock.logs.kafka_rejected import RejectedFold
from penstock.logs.kafka_streams import KafkaStreams
from penstock.logs.kafka_tail import Tail
from penstock.logs.kafka_tasks import Tasks
from penstock.logs.rejected_ids import RejectedIds
from penstock.logs.settings import LogSettings
from penstock.logs.ticks import Ticks
from penstock.model.batch import Batch, NewBatch, RejectedEvent
from penstock.model.position import Position
from penstock.model.stream import StreamSpec
from penstock.ports.clock import Clock
from penstock.ports.log import (
    AppRecord,
    Capabilities,
    Catalog,
    Consumed,
    Head,
    RejectedFilter,
    Restored,
    Transaction,
)

__all__ = ["KafkaLog"]

_CATALOG_ATTEMPTS = 3
_MEMBERS_RETENTION_MS = 600_000

StreamPartition = tuple[str, int]
Change = Callable[[CatalogState], CatalogChange]


class KafkaLog:
    """Implements `ports.log.Log`. `open` makes one."""

    def __init__(self, cluster: Cluster, names: Names, *, clock: Clock, settings: LogSettings) -> None:
        self._cluster, self._names, self._clock, self._settings = cluster, names, clock, settings
        self.capabilities = Capabilities(
            scope="cluster",
            durable=True,
            retention_holds=False,
            several_writers=True,
            brokers=frozenset(cluster.bootstrap.split(",")),
            commit_interval_s=settings.kafka.commit_interval_s,
        )
        self._ticks = Ticks()
        self._tail = Tail(cluster)
        self._reader = RangeReader(cluster, threads=settings.reader_threads)
        self._streams = KafkaStreams(
            cluster, names, tail=self._tail, reader=self._reader, ticks=self._ticks, settings=settings
        )
        streams, reader = self._streams, self._reader
        self._ids = KafkaIds(cluster, names, streams=streams, reader=reader, settings=settings)
        self._appends = Appends(
            cluster, names, streams=streams, reader=reader, ids=self._ids, clock=clock, settings=settings
        )
        self.inlet = KafkaInlet(cluster, names, streams=self._streams, settings=settings, append=self._append,
                                appends=self._appends)  # fmt: skip
        self._tasks = Tasks(cluster, names, streams=self._streams, reader=self._reader, clock=clock)
        self._members = KafkaMembers(cluster, names.members, tail=self._tail, now_s=clock.monotonic_s)
        self._rejected = RejectedFold(settings.kafka.rejected_max_events)
        self._rejected_ids = RejectedIds("k")
        self._instance = secrets.token_hex(3)  # two processes may reject something in the same millisecond
        self._changing = asyncio.Lock()
        self._catalog_writer = TransactionalWriter(cluster, names.catalog)
        self._closed = False

    @classmethod
    async def open(cls, url: str, *, clock: Clock, settings: LogSettings | None = None) -> KafkaLog:
        """Connect, make what Penstock itself needs, and read the catalog. `bad_request` for a garbled
        URL, and where brokers refuse this process or it them: `kafka.security` says as whom it comes."""
        settings = settings or LogSettings()
        bootstrap, names = parse_url(url)
        cluster = await asyncio.to_thread(Cluster, bootstrap, settings.kafka)
        await cluster.wait_until_up()
        stamped = {"message.timestamp.type": "LogAppendTime"}
        await cluster.make_topics(
            {
                names.catalog: (1, {"cleanup.policy": "compact"}),
                names.rejected: (
                    1, stamped | {"retention.ms": str(round(settings.rejected_retention_s * 1000))},
                ),
                names.inlets: (1, {"cleanup.policy": "delete", "retention.ms": "-1"}),
                names.members: (1, stamped | {"retention.ms": str(_MEMBERS_RETENTION_MS)}),
            }
        )  # fmt: skip
        log = cls(cluster, names, clock=clock, settings=settings)
        part = (names.catalog, 0)
        (first,) = await cluster.starts([part])
        log._tail.follow(part, first, _CatalogFold(log._take_catalog))
        await log._tail.reach(part, await log._streams.settled_end(part))
        return log

    async def probe(self) -> None:
        """See `Log.probe`: the end of the catalog's topic can be asked for, so its leader answers."""
        self._check_open()
        await self._cluster.probe((self._names.catalog, 0))

    def failure(self) -> str | None:
        """Always None: what brokers refuse now they may take later."""
        return None

    def describe(self) -> dict[str, object]:
        """See `Log.describe`."""
        return {
            "adapter": "kafka",
            "bootstrap": self._cluster.bootstrap,
            "security": self._settings.kafka.security.protocol,
            "prefix": self._names.prefix,
            "client": f"confluent-kafka {confluent_kafka.__version__}, librdkafka {confluent_kafka.libversion()[0]}",
            "acks": "all",
        }

    async def append(
        self,
        batches: Sequence[NewBatch],
        rejected: Sequence[RejectedEvent] = (),
        replayed: Sequence[str] = (),
        *,
        known: Mapping[str, int] | None = None,
    ) -> list[Position]:
        """See `Log.append`: LogUnavailable where another gateway has become the admitter (`ports.inlet`)."""
        return await self._append(batches, rejected, replayed, known=known, consumed=())

    async def read(
        self, stream: str, partition: int, offset: int, max_bytes: int, max_batches: int = 1000
    ) -> list[Batch]:
        """See `Log.read`."""
        self._check_open()
        spec = self._streams.catalog.state.partition(stream, partition)
        return await self._streams.read(spec, partition, offset=offset, max_bytes=max_bytes, max_batches=max_batches)

    async def head(self, stream: str, partition: int) -> Head:
        """See `Log.head`."""
        self._check_open()
        return await self._streams.head(self._streams.catalog.state.partition(stream, partition), partition)

    async def wait(self, streams: Collection[str], since: int, timeout_s: float) -> int:
        """See `Log.wait`."""
        self._check_open()
        await self._streams.follow(streams)
        return await self._ticks.wait(streams, since, timeout_s)

    async def catalog(self) -> Catalog:
        """See `Log.catalog`."""
        self._check_open()
        return self._streams.catalog.state.catalog

    async def put_app(
        self, app: str, sql: str, streams: Sequence[StreamSpec], expected_version: int | None
    ) -> AppRecord:
        """See `Log.put_app`."""
        self._check_open()
        self._names.state(app)  # refuses names that no topic can have
        changed = await self._change(
            lambda state: catalog_change.put_app(
                state,
                app,
                sql=sql,
                streams=streams,
                expected_version=expected_version,
                now_ms=self._clock.now_ms(),
            )
        )
        return changed.state.catalog.apps[app]

    async def delete_app(self, app: str, expected_version: int | None) -> None:
        """See `Log.delete_app`."""
        self._check_open()
        await self._change(lambda state: catalog_change.delete_app(state, app, expected_version=expected_version))
        await self._tasks.forget_app(app)

    async def acquire(self, app: str) -> Restored:
        """See `Log.acquire`."""
        self._check_open()
        return await self._tasks.acquire(app)

    async def commit(self, transaction: Transaction) -> list[Position]:
        """See `Log.commit`."""
        self._check_open()
        return await self._tasks.commit(replace(transaction, rejected=self._with_ids(transaction.rejected)))

    async def positions(self, app: str) -> Mapping[StreamPartition, int]:
        """See `Log.positions`."""
        self._check_open()
        return await self._tasks.positions(app)

    async def rejected(self, where: RejectedFilter) -> list[RejectedEvent]:
        """See `Log.rejected`: of the newest `kafka.rejected_max_events`."""
        self._check_open()
        part = (self._names.rejected, 0)
        end = await self._streams.settled_end(part)
        if not self._tail.follows(part):
            (first,) = await self._cluster.starts([part])
            start = max(first, end - self._settings.kafka.rejected_max_events)
            if not self._tail.follows(part):
                self._tail.follow(part, start, self._rejected)
        await self._tail.reach(part, end)
        return self._rejected.list(where)

    async def ids(self, stream: str, since_ms: int) -> list[tuple[int, bytes]]:
        """See `Log.ids`."""
        self._check_open()
        return await self._ids.since(stream, since_ms)

    async def ids_after(self, stream: str, mark: int | None) -> tuple[list[tuple[int, bytes]], int]:
        """See `Log.ids_after`."""
        self._check_open()
        return await self._appends.ids_after(stream, mark)

    async def beat(self, group: str, member: str, ttl_s: float) -> list[str]:
        """See `Log.beat`."""
        self._check_open()
        return await self._members.beat(group, member, ttl_s)

    async def trim(self, floors: Mapping[StreamPartition, int]) -> int:
        """See `Log.trim`. Events expire by the topics' own retention; here goes the state that nobody needs."""
        self._check_open()
        await self._tasks.trim(self._settings.retention_s)
        await self._appends.trim()
        return 0

    async def close(self) -> None:
        """See `Log.close`."""
        if self._closed:
            return
        self._closed = True
        self._ticks.wake_all()
        await self.inlet.close()
        await self._appends.close()
        await self._tasks.close()
        await self._catalog_writer.close()
        await self._members.close()
        await self._tail.close()
        await self._reader.close()

    async def _append(
        self,
        batches: Sequence[NewBatch],
        rejected: Sequence[RejectedEvent],
        replayed: Sequence[str],
        *,
        known: Mapping[str, int] | None,
        consumed: Sequence[Consumed],
    ) -> list[Position]:
        self._check_open()
        return await self._appends.append(batches, self._with_ids(rejected), replayed, known=known, consumed=consumed)

    def _check_open(self) -> None:
        if self._closed:
            raise LogUnavailable("the log is closed")

    def _with_ids(self, rejected: Sequence[RejectedEvent]) -> list[RejectedEvent]:
        now_ms = self._clock.now_ms()
        return [
            event if event.id else replace(event, id=self._rejected_ids.next(now_ms) + self._instance)
            for event in rejected
        ]

    async def _change(self, decide: Change) -> CatalogChange:
        """Read the catalog to its end, decide, write: under a name that only one process has at a time."""
        part = (self._names.catalog, 0)
        async with self._changing:
            for _ in range(_CATALOG_ATTEMPTS):
                if not self._catalog_writer.is_open:
                    await self._catalog_writer.open()
                await self._tail.reach(part, await self._streams.settled_end(part))
                before = self._streams.catalog
                change = decide(before.state)
                begins = await begins_of(self._cluster, self._names, before.state, change)
                after = after_change(before, change, await self._ends_of(change, before), begins=begins)
                await self._cluster.make_topics(self._topics_to_make(before, change))
                portion = Portion(part, [Outgoing(CATALOG_KEY, catalog_text(after), None)])
                try:
                    await self._catalog_writer.write([portion])
                except Fenced:
                    continue  # another process has changed it: look again
                self._streams.wrote(part, portion.offsets[-1] + 1)
                self._take_catalog(after)
                await self._cluster.delete_before(self._void(change, after, begins))
                return change
        raise LogUnavailable("other processes keep changing the catalog; try again")

    async def _ends_of(self, change: CatalogChange, before: ClusterCatalog) -> dict[StreamPartition, int]:
        """Where the events of streams end whose epoch ends now."""
        specs = before.state.catalog.streams
        ending = [
            (specs[name], partition)
            for name in change.changed
            if name in specs and not specs[name].topic
            for partition in range(specs[name].partitions)
        ]
        heads = await asyncio.gather(*(self._streams.head(spec, partition) for spec, partition in ending))
        return {(spec.name, partition): head.next for (spec, partition), head in zip(ending, heads, strict=True)}

    def _topics_to_make(self, before: ClusterCatalog, change: CatalogChange) -> dict[str, tuple[int, dict[str, str]]]:
        old = before.state.catalog.streams
        new = [spec for name, spec in change.state.catalog.streams.items() if old.get(name) != spec]
        return topics_of(new, self._names, self._settings)

    def _void(self, change: CatalogChange, after: ClusterCatalog, foreign: Collection[str]) -> dict[TopicPart, int]:
        """What lies below the new epochs: brokers need not keep it, except in `foreign` topics."""
        return {
            (self._names.stream(name), partition): start
            for name in change.changed
            for partition, start in enumerate(after.starts.get(name, ()))
            if start > 0 and name not in foreign
        }

    def _take_catalog(self, catalog: ClusterCatalog) -> None:
        if catalog.state.catalog.version > self._streams.catalog.state.catalog.version:
            self._streams.renew(catalog)


class _CatalogFold:
    """Tells of every change of the catalog, whoever made it."""

    def __init__(self, take: Callable[[ClusterCatalog], None]) -> None:
        self._take = take

    def digest(self, records: list[Record], *, at_end: bool) -> ClusterCatalog | None:
        del at_end
        return newest_catalog(records)

    def apply(self, digested: ClusterCatalog | None) -> None:
        if digested is not None:
            self._take(digested)

    def lost(self, first: int) -> None:
        """Compaction keeps the newest: nothing to do."""
