"""The embedded log: SQLite, one database file per writing role in one folder.

`ingest.db` has the source streams, admission's rejected events and the hashes of dedupe keys; `processor.db` has
everything else. Whoever owns a role writes and checkpoints its file through one connection in one thread; others
open it read only. No clause of the contract needs a transaction across the two files: a source stream's epoch is in
the catalog (processor.db), and the ingest side adopts it with its next append or read.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Coroutine, Mapping, Sequence
from functools import partial as bind
from pathlib import Path
from typing import cast

import apsw
import structlog

from penstock.errors import LogUnavailable, PenstockError
from penstock.logs import metrics, sqlite_catalog, sqlite_cycles, sqlite_rejected
from penstock.logs.admissible import check_source
from penstock.logs.catalog_change import CatalogState
from penstock.logs.give_way import GiveWay
from penstock.logs.members import Members
from penstock.logs.settings import LogSettings
from penstock.logs.sqlite_appends import append_sources, read_batches, read_head, read_ids
from penstock.logs.sqlite_books import load_catalog, load_heads
from penstock.logs.sqlite_housekeeping import Housekeeping, role_of
from penstock.logs.sqlite_reader import ForeignFile, ForeignNews, Readers
from penstock.logs.sqlite_schema import RoleLock, file_of, meta, open_writer
from penstock.logs.sqlite_writer import Effects, Writer
from penstock.logs.tail import TailCache
from penstock.logs.ticks import CATALOG, Ticks
from penstock.model.batch import Batch, NewBatch, RejectedEvent
from penstock.model.position import Position
from penstock.model.stream import StreamSpec
from penstock.ports.clock import Clock
from penstock.ports.log import AppRecord, Capabilities, Catalog, Head, RejectedFilter, Restored, Transaction

__all__ = ["ROLES", "SqliteLog"]

#: Roles that write, each to its own file.
ROLES = frozenset({"ingest", "processor"})

StreamPartition = tuple[str, int]
_log = structlog.get_logger(__name__)


class SqliteLog:
    """Implements `ports.log.Log` for the processes of one machine. Made by `open`."""

    capabilities = Capabilities(scope="machine", durable=True, retention_holds=True)

    def __init__(self, directory: Path, *, roles: frozenset[str], clock: Clock, settings: LogSettings) -> None:
        self._directory = directory
        self._roles = roles
        self._clock = clock
        self._settings = settings
        self._state = CatalogState()
        self._heads: dict[StreamPartition, Head] = {}
        self._tail = TailCache(settings.tail_cache_bytes)
        self._ticks = Ticks()
        self._give_way = GiveWay()
        self._readers = Readers(directory, settings=settings, give_way=self._give_way)
        self._writers: dict[str, Writer] = {}
        self._housekeeping = Housekeeping(self._writers, settings=settings)
        self._locks: list[RoleLock] = []
        self._foreign: list[ForeignFile] = []
        self._members = Members()
        self._tasks: set[asyncio.Task[None]] = set()
        self._described: dict[str, dict[str, object]] = {}
        self._closed = False

    @classmethod
    async def open(
        cls, directory: Path, *, roles: frozenset[str] = ROLES, clock: Clock, settings: LogSettings | None = None
    ) -> SqliteLog:
        """Open or create the log in `directory`, owning the files of `roles`; `conflict` if another instance does."""
        if not roles <= ROLES:
            raise ValueError(f"roles that write a log are {sorted(ROLES)}, not {sorted(roles)}")
        log = cls(directory, roles=roles, clock=clock, settings=settings or LogSettings())
        try:
            await log._start()
        except BaseException:
            await log.close()
            raise
        return log

    async def probe(self) -> None:
        """See `Log.probe`: both files can be read, or have not been made by their owners yet."""
        self._check_open()
        if self.failure():
            raise LogUnavailable(str(self.failure()))
        for role in sorted(ROLES):
            await self._readers.run(role, bind(meta, name="commits"), absent=None)
        for writer in self._writers.values():
            if (full := writer.full()) is not None:
                raise full

    def failure(self) -> str | None:
        """Why the log has stopped acknowledging for good (the process must exit); None while it works."""
        return next((writer.failure for writer in self._writers.values() if writer.failure), None)

    def describe(self) -> dict[str, object]:
        """Settings as read back from the writing connections, for benches and for the log at start."""
        used = {role: {"used_bytes": writer.used_bytes} for role, writer in self._writers.items()}
        files = {role: {**described, **used[role]} for role, described in self._described.items()}
        return {"adapter": "sqlite", "sqlite": apsw.sqlite_lib_version(), "files": files}

    async def append(
        self,
        batches: Sequence[NewBatch],
        rejected: Sequence[RejectedEvent] = (),
        replayed: Sequence[str] = (),
        *,
        known: Mapping[str, int] | None = None,
    ) -> list[Position]:
        """See `Log.append`."""
        writer = self._writer("ingest")
        admitted = [(batch, check_source(self._state, batch)) for batch in batches]
        if not (batches or rejected or replayed):
            return []
        done = writer.submit(
            bind(append_sources, batches=admitted, rejected=rejected, replayed=replayed),
            size_bytes=sum(len(b.payload) + len(b.ids) for b in batches) + sum(len(event.raw) for event in rejected),
            savepoint=False,
            grows=True,
        )
        return cast(list[Position], await done)

    async def read(
        self, stream: str, partition: int, offset: int, max_bytes: int, max_batches: int = 1000
    ) -> list[Batch]:
        """See `Log.read`."""
        self._check_open()
        spec = self._state.partition(stream, partition)
        head = await self.head(stream, partition)
        if offset > head.next:
            raise LogUnavailable(
                f"offset {offset} of {stream}/{partition} lies beyond its end {head.next}: the log in "
                f"{self._directory} was restored from an older backup, or a file of it was removed"
            )
        if offset == head.next:
            return []
        held = self._tail.read(stream, partition, offset=offset, max_bytes=max_bytes, max_batches=max_batches)
        if held is not None:
            return held
        query = bind(
            read_batches,
            stream=stream,
            partition=partition,
            epoch=head.epoch,
            offset=offset,
            max_bytes=max_bytes,
            max_batches=max_batches,
        )
        return await self._readers.run(role_of(spec), query, absent=[])

    async def head(self, stream: str, partition: int) -> Head:
        """See `Log.head`."""
        self._check_open()
        spec = self._state.partition(stream, partition)
        epoch = self._state.epochs[stream]
        role = role_of(spec)
        if role not in self._roles:
            query = bind(read_head, stream=stream, partition=partition, epoch=epoch)
            return await self._readers.run(role, query, absent=Head(epoch, 0, 0, None))
        head = self._heads.get((stream, partition))
        if head is None:
            return Head(epoch, 0, 0, None)
        return head if head.epoch >= epoch else Head(epoch, head.next, head.next, None)

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
        work = bind(sqlite_catalog.replace, app=app, sql=sql, streams=streams, expected_version=expected_version)
        return cast(AppRecord, await self._writer("processor").submit(work))

    async def delete_app(self, app: str, expected_version: int | None) -> None:
        """See `Log.delete_app`."""
        await self._writer("processor").submit(
            bind(sqlite_catalog.remove, app=app, expected_version=expected_version)
        )

    async def acquire(self, app: str) -> Restored:
        """See `Log.acquire`."""
        return cast(Restored, await self._writer("processor").submit(bind(sqlite_cycles.acquire, app=app)))

    async def commit(self, transaction: Transaction) -> list[Position]:
        """See `Log.commit`."""
        size_bytes = sum(len(batch.payload) for batch in transaction.appends) + sum(
            len(delta.payload) for delta in transaction.deltas
        )
        done = self._writer("processor").submit(
            bind(sqlite_cycles.commit, transaction=transaction), size_bytes=size_bytes
        )
        return cast(list[Position], await done)

    async def positions(self, app: str) -> Mapping[StreamPartition, int]:
        """See `Log.positions`."""
        absent: dict[StreamPartition, int] = {}
        return await self._readers.run("processor", bind(sqlite_cycles.read_positions, app=app), absent=absent)

    async def rejected(self, where: RejectedFilter) -> list[RejectedEvent]:
        """See `Log.rejected`."""
        before: tuple[int, str] | None = None
        if where.before_id is not None:
            query = bind(sqlite_rejected.time_of, id_=where.before_id)
            times = [at for role in ROLES if (at := await self._readers.run(role, query, absent=None)) is not None]
            if not times:
                raise PenstockError("not_found", f"there is no rejected event '{where.before_id}' to page on from")
            before = (times[0], where.before_id)
        listed: list[RejectedEvent] = []
        for role in ROLES:
            listed += await self._readers.run(
                role, bind(sqlite_rejected.list_rejected, where=where, before=before), absent=[]
            )
        listed.sort(key=lambda event: (event.at_ms, event.id), reverse=True)
        return listed[: where.limit]

    async def ids(self, stream: str, since_ms: int) -> list[tuple[int, bytes]]:
        """See `Log.ids`. At most `ids_read_max_bytes`, the newest."""
        self._check_open()
        self._state.stream(stream)
        query = bind(
            read_ids,
            stream=stream,
            epoch=self._state.epochs[stream],
            since_ms=since_ms,
            max_bytes=self._settings.ids_read_max_bytes,
        )
        return await self._readers.run("ingest", query, absent=[])

    async def ids_after(self, stream: str, mark: int | None) -> tuple[list[tuple[int, bytes]], int]:
        """See `Log.ids_after`: one process owns ingest.db, so nobody else appends ids."""
        self._check_open()
        self._state.stream(stream)
        return [], 0

    async def beat(self, group: str, member: str, ttl_s: float) -> list[str]:
        """See `Log.beat`: one process owns the files of a role, so only members within it can be alive."""
        self._check_open()
        return self._members.beat(group, member, ttl_s=ttl_s, now_s=self._clock.monotonic_s())

    async def trim(self, floors: Mapping[StreamPartition, int]) -> int:
        """See `Log.trim`. Trims the files that this process owns."""
        self._check_open()
        now_ms = self._clock.now_ms()
        absent: dict[StreamPartition, int] = {}
        held = await self._readers.run("processor", sqlite_cycles.least_positions, absent=absent)
        deleted = await self._housekeeping.trim(self._state, floors=floors, held=held, now_ms=now_ms)
        await self._purge()
        return deleted

    async def close(self) -> None:
        """See `Log.close`."""
        if self._closed:
            return
        self._closed = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers.values():
            await writer.close()
        await self._readers.close()
        for foreign in self._foreign:
            foreign.close()
        for lock in self._locks:
            lock.release()
        self._ticks.wake_all()

    async def _start(self) -> None:
        connections = await asyncio.to_thread(self._open_files)
        for role, connection in connections.items():
            self._writers[role] = Writer(
                connection,
                directory=self._directory,
                role=role,
                clock=self._clock,
                settings=self._settings,
                give_way=self._give_way,
                publish=bind(self._publish, role),
                other_files_bytes=bind(self._bytes_beside, role),
            )
        for foreign in self._foreign:
            self._hear(await self._readers.look(foreign))
            self._spawn(self._listen(foreign))
        self._spawn(self._purge())
        _log.info("log opened", directory=str(self._directory), roles=sorted(self._roles), **self.describe())

    def _open_files(self) -> dict[str, apsw.Connection]:
        _create(self._directory)
        connections: dict[str, apsw.Connection] = {}
        for role in sorted(self._roles):
            self._locks.append(RoleLock(self._directory, role))
        try:
            for role in sorted(self._roles):
                connection = open_writer(self._directory, role, settings=self._settings)
                connections[role] = connection
                self._heads.update(load_heads(connection))
                self._described[role] = _read_settings(connection)
        except apsw.Error as error:
            for connection in connections.values():
                connection.close()
            raise LogUnavailable(f"cannot open {file_of(self._directory, role)}: {error}") from error
        if "processor" in connections:
            self._state = load_catalog(connections["processor"])
        if self._settings.unsafe_acknowledge_before_commit or self._settings.unsafe_synchronous_off:
            _log.warning("THE LOG RUNS UNSAFE: ACKNOWLEDGED EVENTS WILL BE LOST", directory=str(self._directory))
        self._foreign = [
            ForeignFile(self._directory, role, settings=self._settings) for role in sorted(ROLES - self._roles)
        ]
        return connections

    def _publish(self, role: str, group: Sequence[Effects]) -> None:
        changed: set[str] = set()
        events = size_bytes = 0
        for effects in group:
            if effects.catalog is not None:
                self._adopt(effects.catalog, effects.changed)
            self._heads.update(effects.heads)
            changed |= effects.changed
            for batch in effects.batches:
                events += batch.count
                size_bytes += len(batch.payload)
                if batch.epoch == self._state.epochs.get(batch.stream):
                    self._tail.add(batch)
            if not effects.changed:
                for (stream, partition), head in effects.heads.items():
                    self._tail.trim(stream, partition, first=head.first)
        metrics.APPENDED_EVENTS.labels(role).inc(events)
        metrics.APPENDED_BYTES.labels(role).inc(size_bytes)
        self._ticks.bump(changed)

    def _adopt(self, state: CatalogState, changed: Collection[str]) -> None:
        self._state = state
        for stream in changed:
            self._tail.forget(stream)
        self._spawn(self._purge())

    async def _listen(self, foreign: ForeignFile) -> None:
        """Look for what another process has written until the log is closed."""
        while True:
            await asyncio.sleep(self._settings.foreign_poll_ms / 1000)
            try:
                self._hear(await self._readers.look(foreign))
            except apsw.Error as error:
                _log.warning("cannot look at a file of another process", file=foreign.role, reason=str(error))

    def _hear(self, news: ForeignNews | None) -> None:
        if news is None:
            return
        changed = {key[0] for key, head in news.heads.items() if self._heads.get(key) != head}
        self._heads.update(news.heads)
        if news.catalog is not None:
            before = self._state.epochs
            renewed = {name for name, epoch in news.catalog.epochs.items() if before.get(name) != epoch}
            gone = self._state.catalog.streams.keys() - news.catalog.catalog.streams.keys()
            changed |= {CATALOG, *renewed, *gone}
            self._adopt(news.catalog, renewed | gone)
        self._ticks.bump(changed)

    async def _purge(self) -> None:
        """Delete batches that a change of the catalog made void, in this process's files."""
        known = {role: list(self._heads) for role in self._roles}
        await self._housekeeping.purge(self._state, known)

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.warning("background work of the log ended; it is taken up at the next trim", reason=str(error))

    def _writer(self, role: str) -> Writer:
        self._check_open()
        writer = self._writers.get(role)
        if writer is None:
            raise PenstockError("internal", f"this process does not own {role}.db; it has the roles {self._roles}")
        return writer

    def _bytes_beside(self, role: str) -> int:
        """Bytes of the log in the other files; called by a writing thread."""
        total = 0
        for other in ROLES - {role}:
            if other in self._writers:
                total += self._writers[other].used_bytes
            elif file_of(self._directory, other).exists():
                total += file_of(self._directory, other).stat().st_size
        return total

    def _check_open(self) -> None:
        if self._closed:
            raise LogUnavailable("the log is closed")


def _create(directory: Path) -> None:
    """Make the folder, durable itself: SQLite syncs the folder's entries, nobody else its parent's."""
    if directory.is_dir():
        return
    directory.mkdir(parents=True, mode=0o700)
    descriptor = os.open(directory.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_settings(connection: apsw.Connection) -> dict[str, object]:
    names = ("journal_mode", "synchronous", "page_size", "wal_autocheckpoint", "journal_size_limit")
    return {name: connection.pragma(name) for name in names}
