"""The log in memory: the contract without a disk. For tests, `penstock eval` and as the model of other adapters.

Every method decides and writes without an await in between, so each is atomic within one event loop.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from penstock.errors import Fenced, LogFull, LogUnavailable, PenstockError
from penstock.logs import catalog_change
from penstock.logs.admissible import check_derived, check_source, follow
from penstock.logs.catalog_change import CatalogChange, CatalogState
from penstock.logs.members import Members
from penstock.logs.rejected_ids import RejectedIds
from penstock.logs.retention import expired, floor_of
from penstock.logs.settings import LogSettings
from penstock.logs.ticks import CATALOG, Ticks
from penstock.model.batch import Batch, NewBatch, RejectedEvent
from penstock.model.position import Position
from penstock.model.stream import StreamSpec
from penstock.model.task import app_of
from penstock.ports.clock import Clock
from penstock.ports.log import (
    AppRecord,
    Capabilities,
    Catalog,
    DeltaKind,
    Head,
    RejectedFilter,
    Restored,
    StateDelta,
    Transaction,
)

__all__ = ["MemoryLog"]

StreamPartition = tuple[str, int]


@dataclass(slots=True)
class _Partition:
    """One partition: its end and its batches in order."""

    head: Head
    batches: list[Batch] = field(default_factory=list)


class MemoryLog:
    """Implements `ports.log.Log`; everything is gone when the process ends."""

    capabilities = Capabilities(scope="process", durable=False, retention_holds=True)

    def __init__(self, *, clock: Clock, settings: LogSettings | None = None) -> None:
        self._clock = clock
        self._settings = settings or LogSettings()
        self._state = CatalogState()
        self._ticks = Ticks()
        self._partitions: dict[StreamPartition, _Partition] = {}
        self._positions: dict[str, dict[StreamPartition, int]] = {}
        self._terms: dict[str, int] = {}
        self._deltas: dict[str, list[StateDelta]] = {}
        self._rejected: dict[str, RejectedEvent] = {}
        self._rejected_ids = RejectedIds("m")
        self._ids: dict[str, list[tuple[int, bytes]]] = {}
        self._members = Members()
        self._size_bytes = 0
        self._closed = False

    async def probe(self) -> None:
        """See `Log.probe`."""
        self._check_open()

    def failure(self) -> str | None:
        """Always None: there is no disk that could fail."""
        return None

    def describe(self) -> dict[str, object]:
        """Settings as they are in force, for benches."""
        return {"adapter": "memory", "size_bytes": self._size_bytes}

    async def append(
        self,
        batches: Sequence[NewBatch],
        rejected: Sequence[RejectedEvent] = (),
        replayed: Sequence[str] = (),
        *,
        known: Mapping[str, int] | None = None,
    ) -> list[Position]:
        """See `Log.append`."""
        return self.append_now(batches, rejected, replayed)

    def append_now(
        self, batches: Sequence[NewBatch], rejected: Sequence[RejectedEvent], replayed: Sequence[str]
    ) -> list[Position]:
        """`append` without an `await`, for what must be atomic with it (`logs.memory_inlet`)."""
        self._check_open()
        epochs = [check_source(self._state, batch) for batch in batches]
        size_bytes = sum(len(batch.payload) for batch in batches)
        limit_bytes = self._settings.max_size_bytes
        if limit_bytes is not None and self._size_bytes + size_bytes > limit_bytes:
            raise LogFull(f"the log holds {self._size_bytes} bytes and may hold {limit_bytes}; raise max_size_bytes")
        positions = self._write(batches, epochs)
        self._keep_rejected(rejected, replayed)
        return positions

    def partitions_of(self, stream: str) -> int:
        """Number of partitions of a stream; `unknown_stream` if there is none."""
        return self._state.stream(stream).partitions

    async def read(
        self, stream: str, partition: int, offset: int, max_bytes: int, max_batches: int = 1000
    ) -> list[Batch]:
        """See `Log.read`."""
        self._check_open()
        head = await self.head(stream, partition)
        if offset > head.next:
            raise LogUnavailable(f"offset {offset} of {stream}/{partition} lies beyond its end {head.next}")
        batches = self._partition(stream, partition).batches
        out: list[Batch] = []
        size_bytes = 0
        for batch in batches[bisect_right(batches, offset, key=lambda b: b.next) :]:
            size_bytes += len(batch.payload)
            if out and (size_bytes > max_bytes or len(out) >= max_batches):
                break
            out.append(batch)
        return out

    async def head(self, stream: str, partition: int) -> Head:
        """See `Log.head`."""
        self._check_open()
        self._state.partition(stream, partition)
        return self._partition(stream, partition).head

    async def wait(self, streams: Collection[str], since: int, timeout_s: float) -> int:
        """See `Log.wait`."""
        self._check_open()
        return await self._ticks.wait(streams, since, timeout_s)

    async def catalog(self) -> Catalog:
        """See `Log.catalog`."""
        self._check_open()
        return self._state.catalog

    async def put_app(
        self, app: str, sql: str, streams: Sequence[StreamSpec], expected_version: int | None
    ) -> AppRecord:
        """See `Log.put_app`."""
        self._check_open()
        change = catalog_change.put_app(
            self._state,
            app,
            sql=sql,
            streams=streams,
            expected_version=expected_version,
            now_ms=self._clock.now_ms(),
        )
        self._change(change)
        return change.state.catalog.apps[app]

    async def delete_app(self, app: str, expected_version: int | None) -> None:
        """See `Log.delete_app`."""
        self._check_open()
        change = catalog_change.delete_app(self._state, app, expected_version=expected_version)
        for task in [name for name in {app, *self._terms} if app_of(name) == app]:
            self._positions.pop(task, None)
            self._deltas.pop(task, None)
            self._terms[task] = self._terms.get(task, 0) + 1  # an instance that still runs is fenced
        self._change(change)

    async def acquire(self, app: str) -> Restored:
        """See `Log.acquire`."""
        self._check_open()
        if app_of(app) not in self._state.catalog.apps:
            raise PenstockError("unknown_app", f"there is no app '{app_of(app)}'; deploy it first")
        term = self._terms[app] = self._terms.get(app, 0) + 1
        deltas: dict[str, list[StateDelta]] = {}
        for delta in self._deltas.get(app, ()):
            deltas.setdefault(delta.operator, []).append(delta)
        return Restored(term, dict(self._positions.get(app, {})), deltas, self._state.catalog.apps[app_of(app)])

    async def commit(self, transaction: Transaction) -> list[Position]:
        """See `Log.commit`."""
        self._check_open()
        self._compare(transaction)
        epochs = [check_derived(self._state, batch, app=transaction.app) for batch in transaction.appends]
        positions = self._positions.setdefault(transaction.app, {})
        for consumed in transaction.consumed:
            positions[consumed.stream, consumed.partition] = consumed.next
        self._keep_deltas(transaction)
        written = self._write(transaction.appends, epochs)
        self._keep_rejected(transaction.rejected, transaction.replayed)
        return written

    async def positions(self, app: str) -> Mapping[StreamPartition, int]:
        """See `Log.positions`."""
        self._check_open()
        return dict(self._positions.get(app, {}))

    async def rejected(self, where: RejectedFilter) -> list[RejectedEvent]:
        """See `Log.rejected`."""
        self._check_open()
        newest_first = sorted(self._rejected.values(), key=lambda e: (e.at_ms, e.id), reverse=True)
        if where.before_id is not None:
            last = self._rejected.get(where.before_id)
            if last is None:
                raise PenstockError("not_found", f"there is no rejected event '{where.before_id}' to page on from")
            newest_first = [e for e in newest_first if (e.at_ms, e.id) < (last.at_ms, last.id)]
        return [event for event in newest_first if _matches(event, where)][: where.limit]

    async def ids(self, stream: str, since_ms: int) -> list[tuple[int, bytes]]:
        """See `Log.ids`."""
        self._check_open()
        self._state.stream(stream)
        return [entry for entry in self._ids.get(stream, ()) if entry[0] >= since_ms]

    async def ids_after(self, stream: str, mark: int | None) -> tuple[list[tuple[int, bytes]], int]:
        """See `Log.ids_after`: nobody else writes to this log."""
        self._check_open()
        self._state.stream(stream)
        return [], 0

    async def beat(self, group: str, member: str, ttl_s: float) -> list[str]:
        """See `Log.beat`."""
        self._check_open()
        return self._members.beat(group, member, ttl_s=ttl_s, now_s=self._clock.monotonic_s())

    async def trim(self, floors: Mapping[StreamPartition, int]) -> int:
        """See `Log.trim`."""
        self._check_open()
        now_ms = self._clock.now_ms()
        held: dict[StreamPartition, int] = {}
        for positions in self._positions.values():
            for key, offset in positions.items():
                held[key] = min(offset, held.get(key, offset))
        deleted = sum(
            self._trim_partition(key, floors=floors, held=held, now_ms=now_ms) for key in list(self._partitions)
        )
        ids_from_ms = now_ms - round(self._settings.ids_retention_s * 1000)
        for stream, entries in self._ids.items():
            self._ids[stream] = [entry for entry in entries if entry[0] >= ids_from_ms]
        rejected_from_ms = now_ms - round(self._settings.rejected_retention_s * 1000)
        self._rejected = {id_: event for id_, event in self._rejected.items() if event.at_ms >= rejected_from_ms}
        return deleted

    async def close(self) -> None:
        """See `Log.close`."""
        self._closed = True
        self._ticks.wake_all()

    def _check_open(self) -> None:
        if self._closed:
            raise LogUnavailable("the log is closed")

    def _partition(self, stream: str, partition: int) -> _Partition:
        key = (stream, partition)
        if key not in self._partitions:
            self._partitions[key] = _Partition(Head(self._state.epochs[stream], 0, 0, None))
        return self._partitions[key]

    def _write(self, batches: Sequence[NewBatch], epochs: Sequence[int]) -> list[Position]:
        now_ms = self._clock.now_ms()
        positions: list[Position] = []
        changed: set[str] = set()
        for batch, epoch in zip(batches, epochs, strict=True):
            partition = self._partition(batch.stream, batch.partition)
            before = partition.head
            partition.head, stored = follow(before, batch, now_ms=now_ms)
            if partition.head != before:
                changed.add(batch.stream)
            if stored is not None:
                partition.batches.append(stored)
                self._size_bytes += len(stored.payload)
                if batch.ids:
                    self._ids.setdefault(batch.stream, []).append((now_ms, batch.ids))
            positions.append(Position(epoch, batch.partition, partition.head.next))
        self._ticks.bump(changed)
        return positions

    def _compare(self, transaction: Transaction) -> None:
        term = self._terms.get(transaction.app, 0)
        if transaction.term != term:
            raise Fenced(f"app '{transaction.app}' runs under term {term}, not {transaction.term}")
        positions = self._positions.get(transaction.app, {})
        for consumed in transaction.consumed:
            at = positions.get((consumed.stream, consumed.partition))
            if at != consumed.expected:
                raise Fenced(
                    f"app '{transaction.app}' is at {at} of {consumed.stream}/{consumed.partition}, "
                    f"not at {consumed.expected}"
                )

    def _keep_deltas(self, transaction: Transaction) -> None:
        dropped = set(transaction.dropped_operators)
        deltas = [delta for delta in self._deltas.get(transaction.app, ()) if delta.operator not in dropped]
        for delta in transaction.deltas:
            if delta.kind is DeltaKind.REPLACE:
                deltas = [earlier for earlier in deltas if earlier.operator != delta.operator]
            deltas.append(delta)
        self._deltas[transaction.app] = deltas

    def _keep_rejected(self, rejected: Sequence[RejectedEvent], replayed: Sequence[str]) -> None:
        now_ms = self._clock.now_ms()
        for event in rejected:
            kept = event if event.id else replace(event, id=self._rejected_ids.next(now_ms))
            self._rejected[kept.id] = kept
        for id_ in replayed:
            if id_ in self._rejected:
                self._rejected[id_] = replace(self._rejected[id_], replayed_at_ms=now_ms)

    def _change(self, change: CatalogChange) -> None:
        self._state = change.state
        for key, partition in self._partitions.items():
            if key[0] in change.changed:
                epoch = self._state.epochs[key[0]]
                self._size_bytes -= sum(len(batch.payload) for batch in partition.batches)
                partition.batches.clear()
                partition.head = Head(epoch, partition.head.next, partition.head.next, None)
        for stream in change.changed:
            self._ids.pop(stream, None)
        streams = self._state.catalog.streams
        for positions in self._positions.values():
            for key in list(positions):
                if key[0] not in streams or key[0] in change.moved or key[1] >= streams[key[0]].partitions:
                    del positions[key]
        self._ticks.bump({CATALOG, *change.changed})

    def _trim_partition(
        self,
        key: StreamPartition,
        *,
        floors: Mapping[StreamPartition, int],
        held: Mapping[StreamPartition, int],
        now_ms: int,
    ) -> int:
        spec = self._state.catalog.streams.get(key[0])
        partition = self._partitions[key]
        if spec is None or not partition.batches:
            return 0
        retention_s = self._settings.retention_s if spec.retention_s is None else spec.retention_s
        gone = expired(
            ((batch.next, batch.appended_at_ms) for batch in partition.batches),
            floor=floor_of(key, floors=floors, positions=held),
            before_ms=now_ms - round(retention_s * 1000),
        )
        if not gone:
            return 0
        self._size_bytes -= sum(len(batch.payload) for batch in partition.batches[: len(gone)])
        deleted = sum(batch.count for batch in partition.batches[: len(gone)])
        del partition.batches[: len(gone)]
        partition.head = replace(partition.head, first=gone[-1])
        return deleted


def _matches(event: RejectedEvent, where: RejectedFilter) -> bool:
    return (
        (where.stream is None or event.stream == where.stream)
        and (where.app is None or event.app == where.app)
        and (where.code is None or event.code == where.code)
        and (not where.ids or event.id in where.ids)
        and (where.include_replayed or event.replayed_at_ms is None)
    )
