"""Tasks: terms, restoring, and commits of outputs, positions, rejected events and state in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from penstock.errors import Fenced, LogUnavailable, PenstockError
from penstock.logs.admissible import check_derived, raised
from penstock.logs.kafka_appends import Marks, check_sizes
from penstock.logs.kafka_client import Cluster
from penstock.logs.kafka_names import Names
from penstock.logs.kafka_producer import Portion, TransactionalWriter, UnknownOutcome
from penstock.logs.kafka_reader import RangeReader
from penstock.logs.kafka_records import records_of
from penstock.logs.kafka_rejected import rejected_records
from penstock.logs.kafka_state import Manifest, StateFold, manifest_of, state_records
from penstock.logs.kafka_streams import KafkaStreams
from penstock.logs.metrics import COMMIT_SECONDS, NEAR_EXPIRY
from penstock.model.position import Position
from penstock.model.task import app_of
from penstock.ports.clock import Clock
from penstock.ports.log import AppRecord, DeltaKind, Restored, StateDelta, Transaction

__all__ = ["Tasks"]

_LABEL = "kafka"
_STATE_CONFIG = {"retention.ms": "-1", "retention.bytes": "-1", "cleanup.policy": "delete"}
_FIRST_SPAN = 4  # records read back from the end of a state topic for its newest manifest; grows by this factor

StreamPartition = tuple[str, int]

_logger = structlog.get_logger("penstock.log")


@dataclass(slots=True)
class _Task:
    """A task that this process runs, as its last commit left it."""

    writer: TransactionalWriter
    manifest: Manifest
    positions: dict[StreamPartition, int]
    first_offsets: dict[str, int]  # per operator: from where its state is needed
    manifest_offset: int
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    lost: bool = False


class Tasks:
    """Tasks of this process; positions of all."""

    def __init__(
        self, cluster: Cluster, names: Names, *, streams: KafkaStreams, reader: RangeReader, clock: Clock
    ) -> None:
        self._cluster, self._names, self._streams, self._reader = cluster, names, streams, reader
        self._clock = clock
        self._marks = Marks(streams)
        self._tasks: dict[str, _Task] = {}
        self._writers: dict[str, TransactionalWriter] = {}  # one a name, whatever term: it does one thing at a time
        self._acquiring: dict[str, asyncio.Lock] = {}

    async def acquire(self, name: str) -> Restored:
        """See `Log.acquire`."""
        app = app_of(name)
        if app not in self._streams.catalog.state.catalog.apps:
            raise PenstockError("unknown_app", f"there is no app '{app}'; deploy it first")
        async with self._acquiring.setdefault(name, asyncio.Lock()):
            old = self._tasks.pop(name, None)
            if old is not None:
                old.lost = True
            topic = self._names.state(name)
            await self._cluster.make_topics({topic: (1, _STATE_CONFIG)})
            writer = self._writers.setdefault(name, TransactionalWriter(self._cluster, topic))
            await writer.open()  # fences who ran the task before, and ends what it had begun
            await self._streams.follow_catalog()
            if (record := self._streams.catalog.state.catalog.apps.get(app)) is None:
                await writer.close()
                raise PenstockError("unknown_app", f"the app '{app}' has been removed")
            fold = StateFold()
            (first,), end = await asyncio.gather(
                self._cluster.starts([(topic, 0)]), self._streams.settled_end((topic, 0))
            )
            fold.feed(await self._reader.all_of((topic, 0), first, end))
            return await self._begin_term(name, writer, fold, record)

    async def commit(self, transaction: Transaction) -> list[Position]:
        """See `Log.commit`."""
        task = self._tasks.get(transaction.app)
        if task is None or task.lost or task.manifest.term != transaction.term:
            now = "nowhere in this process" if task is None else f"under term {task.manifest.term}"
            raise Fenced(f"'{transaction.app}' runs {now}, not under term {transaction.term}")
        async with task.lock:
            self._compare(task, transaction)
            state = self._streams.catalog.state
            for batch in transaction.appends:
                check_derived(state, batch, app=transaction.app)
            await self._marks.learn(transaction.appends)
            return await self._write(task, transaction)

    async def positions(self, name: str) -> Mapping[StreamPartition, int]:
        """See `Log.positions`: of any process's task, as its last committed manifest has them."""
        app = app_of(name)
        if app not in self._streams.catalog.state.catalog.apps:
            return {}
        topic = self._names.state(name)
        if name not in self._tasks and topic not in await self._cluster.topics():
            return {}
        manifest = await self._newest_manifest(topic)
        return self._in_force(app, manifest)

    async def forget_app(self, app: str) -> None:
        """The app is removed: whoever still runs a task of it is fenced."""
        for name in [name for name in self._tasks if app_of(name) == app]:
            self._tasks.pop(name).lost = True
        for name in [name for name in self._writers if app_of(name) == app]:
            await self._writers.pop(name).close()
        topics = [topic for topic in await self._cluster.topics() if self._names.is_state_of(topic, app)]
        await asyncio.gather(*(self._fence(topic) for topic in topics))

    async def trim(self, retention_s: float) -> None:
        """Delete what no restore of this process's tasks needs any more; warn of tasks that events may expire for."""
        await self._watch_retention(retention_s)
        floors = {
            (self._names.state(name), 0): min([task.manifest_offset, *task.first_offsets.values()])
            for name, task in self._tasks.items()
        }
        await self._cluster.delete_before(floors)

    async def close(self) -> None:
        """Let go of every task."""
        for task in self._tasks.values():
            task.lost = True
        for writer in self._writers.values():
            await writer.close()

    async def _watch_retention(self, default_s: float) -> None:
        """Say which positions lie at events older than half their retention: brokers delete without asking."""
        streams = self._streams.catalog.state.catalog.streams
        for name, task in self._tasks.items():
            for (stream, partition), position in task.positions.items():
                spec = streams.get(stream)
                if spec is None or spec.topic:
                    continue  # how long others keep their topics is not known here
                retention_s = default_s if spec.retention_s is None else spec.retention_s
                half_ms = round((self._clock.now_ms() / 1000 - retention_s / 2) * 1000)
                (offset,) = await self._cluster.offsets_at([(self._names.stream(stream), partition)], half_ms)
                head = await self._streams.head(spec, partition)
                late = position < head.next and (position < offset or offset < 0)
                NEAR_EXPIRY.labels(name, stream).set(late)
                if late:
                    _logger.warning("unread events near expiry", task=name, stream=stream, partition=partition,
                                    offset=position, remedy="raise the stream's retention")  # fmt: skip

    async def _begin_term(
        self, name: str, writer: TransactionalWriter, fold: StateFold, record: AppRecord
    ) -> Restored:
        app = app_of(name)
        born = self._streams.catalog.born.get(app, 0)
        positions = self._in_force(app, fold.manifest)
        current = fold.manifest is not None and fold.manifest.born == born
        deltas = fold.deltas() if current else {}
        term = fold.manifest.term + 1 if fold.manifest is not None else 1
        manifest = Manifest(term, 0, born, [(*key, offset) for key, offset in positions.items()])
        portion = self._state_portion(name, manifest)
        await writer.write([portion])
        self._streams.wrote(portion.part, portion.offsets[-1] + 1)
        first_offsets = fold.first_offsets() if current else {}
        self._tasks[name] = _Task(writer, manifest, positions, first_offsets, portion.offsets[-1])
        return Restored(term, dict(positions), deltas, record)

    def _in_force(self, app: str, manifest: Manifest | None) -> dict[StreamPartition, int]:
        """Positions of a manifest in streams and partitions that are still there."""
        catalog = self._streams.catalog
        if manifest is None or manifest.born != catalog.born.get(app, 0):
            return {}
        streams = catalog.state.catalog.streams
        return {
            (stream, partition): offset
            for stream, partition, offset in manifest.positions
            if stream in streams and partition < streams[stream].partitions
        }

    def _compare(self, task: _Task, transaction: Transaction) -> None:
        if task.lost or task.manifest.born != self._streams.catalog.born.get(app_of(transaction.app), 0):
            raise Fenced(f"'{transaction.app}' does not run under term {transaction.term} any more")
        for consumed in transaction.consumed:
            at = task.positions.get((consumed.stream, consumed.partition))
            if at != consumed.expected:
                raise Fenced(
                    f"'{transaction.app}' is at {at} of {consumed.stream}/{consumed.partition}, "
                    f"not at {consumed.expected}"
                )

    async def _write(self, task: _Task, transaction: Transaction) -> list[Position]:
        positions = dict(task.positions)
        for consumed in transaction.consumed:
            positions[consumed.stream, consumed.partition] = consumed.next
        manifest = Manifest(
            task.manifest.term,
            task.manifest.cycle + 1,
            task.manifest.born,
            [(*key, offset) for key, offset in positions.items()],
        )
        portions = await asyncio.to_thread(self._portions, transaction, manifest)
        try:
            with COMMIT_SECONDS.labels(_LABEL).time():
                await task.writer.write(portions)
        except UnknownOutcome:
            await self._settle(task, transaction.app, manifest)
        except PenstockError:
            task.lost = True
            raise
        for portion in portions:
            self._streams.wrote(portion.part, portion.offsets[-1] + 1)
        self._moved(task, transaction, manifest, portions[0].offsets)
        task.positions = positions
        outputs = portions[1 : 1 + len(transaction.appends)]
        return [
            self._marks.wrote(batch, portion.offsets)
            for batch, portion in zip(transaction.appends, outputs, strict=True)
        ]

    def _portions(self, transaction: Transaction, manifest: Manifest) -> list[Portion]:
        """State first, then one portion an output batch, then rejected events."""
        state = self._streams.catalog.state
        now_ms = self._clock.now_ms()
        limit_bytes = self._cluster.settings.record_max_bytes
        portions = [self._state_portion(transaction.app, manifest, transaction.deltas, transaction.dropped_operators)]
        running: dict[StreamPartition, int | None] = {}
        for batch in transaction.appends:
            key = (batch.stream, batch.partition)
            epoch, watermark_ms = self._marks.after(batch)
            running[key] = raised(running.get(key), watermark_ms)
            spec = state.stream(batch.stream)
            records = records_of(batch, spec, epoch=epoch, watermark_ms=running[key], now_ms=now_ms)
            check_sizes(records, batch.stream, limit_bytes)
            portions.append(Portion((self._names.stream(batch.stream), batch.partition), records))
        rejected = rejected_records(transaction.rejected, transaction.replayed, now_ms)
        if rejected:
            portions.append(Portion((self._names.rejected, 0), rejected))
        return portions

    def _state_portion(
        self, name: str, manifest: Manifest, deltas: Sequence[StateDelta] = (), dropped: Sequence[str] = ()
    ) -> Portion:
        records = state_records(manifest, deltas, dropped, piece_bytes=self._cluster.settings.record_max_bytes)
        return Portion((self._names.state(name), 0), records)

    def _moved(self, task: _Task, transaction: Transaction, manifest: Manifest, offsets: Sequence[int]) -> None:
        """Remember where the state that is needed begins now."""
        for operator in transaction.dropped_operators:
            task.first_offsets.pop(operator, None)
        for delta in transaction.deltas:
            if delta.kind is DeltaKind.REPLACE or delta.operator not in task.first_offsets:
                task.first_offsets[delta.operator] = offsets[0]
        task.manifest, task.manifest_offset = manifest, offsets[-1]

    async def _settle(self, task: _Task, name: str, manifest: Manifest) -> None:
        """After an unknown outcome: take the name again, which ends the transaction, and look whether it counted."""
        try:
            await task.writer.open()
            newest = await self._newest_manifest(self._names.state(name))
        except PenstockError:
            task.lost = True
            raise
        if newest != manifest:
            task.lost = True
            raise LogUnavailable(f"a cycle of '{name}' was not committed; it starts again from the log")

    async def _newest_manifest(self, topic: str) -> Manifest | None:
        (first,), end = await asyncio.gather(
            self._cluster.starts([(topic, 0)]), self._streams.settled_end((topic, 0))
        )
        span = _FIRST_SPAN
        while True:
            start = max(first, end - span)
            manifest = manifest_of(await self._reader.all_of((topic, 0), start, end))
            if manifest is not None or start <= first:
                return manifest
            span *= _FIRST_SPAN

    async def _fence(self, topic: str) -> None:
        writer = TransactionalWriter(self._cluster, topic)
        await writer.open()
        await writer.close()
