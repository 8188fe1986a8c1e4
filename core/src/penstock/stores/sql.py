"""The store in a SQL database through SQLAlchemy Core: one writing connection in one thread, a few that read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import sqlalchemy as sa

from penstock.errors import PenstockError
from penstock.model.stream import Column, StreamSpec
from penstock.ports.clock import Clock
from penstock.ports.store import Applied, Apply, Queried, Selected, Snapshot
from penstock.stores.archive_catalogue import ArchiveTables
from penstock.stores.changes import apply_changes
from penstock.stores.database import Database, ReadDeadline
from penstock.stores.migrate import HEAD, check_format, migrate
from penstock.stores.reads import query_rows, select_rows, snapshot_rows
from penstock.stores.rebuilds import RebuildTables
from penstock.stores.registry import prepare_relations, read_applied, read_applied_all, read_relations
from penstock.stores.settings import StoreSettings

__all__ = ["SqlStore"]

T = TypeVar("T")


class SqlStore(ArchiveTables, RebuildTables):
    """Implements `ports.store.Store` over a database. Open with `stores.open.open_store`.

    `writable` False: a process that only reads (the publish gateway beside a data service); what it reads may be made
    later. It never migrates: an older format is `not_ready`, a newer one `store_too_new`.
    """

    def __init__(self, database: Database, *, settings: StoreSettings, clock: Clock, writable: bool) -> None:
        self._database, self._settings, self._clock = database, settings, clock
        self._read_engine = database.reading_engine()
        self._read_threads = ThreadPoolExecutor(settings.readers, thread_name_prefix="store-read")
        self._query_engine = database.querying_engine()
        self._query_threads = ThreadPoolExecutor(settings.query_readers, thread_name_prefix="store-query")
        self._write_thread = ThreadPoolExecutor(1, thread_name_prefix="store-write")
        self._relations: Mapping[str, StreamSpec] | None = None
        self._description: dict[str, str] = {"format": HEAD}
        self._writer: sa.Connection | None = None
        self._format_known = writable
        if writable:
            self._write_thread.submit(self._open).result()

    async def prepare(self, specs: Sequence[StreamSpec], version: int, *, older: bool = False) -> None:
        """Create the tables of these relations; recreate those whose columns or keys changed; drop the others."""

        def write(connection: sa.Connection) -> Mapping[str, StreamSpec]:
            self._database.lock_format(connection)
            return prepare_relations(connection, specs, version, older=older)

        self._relations = await self._write("preparing tables", write)

    async def relations(self) -> Mapping[str, StreamSpec]:
        """The relations prepared. Cheap in the process that writes; another one reads them each time."""
        if self._relations is not None:
            return self._relations
        found = await self._read("listing relations", read_relations, timeout_s=self._settings.lock_wait_s)
        if self._writer is not None:
            self._relations = found
        return found

    async def applied(self, relation: str) -> Applied | None:
        """How far the relation is; None before the first apply."""
        return await self._read(
            f"reading the position of '{relation}'",
            lambda c: read_applied(c, relation),
            timeout_s=self._settings.lock_wait_s,
        )

    async def applied_all(self) -> Mapping[str, Applied]:
        """How far each relation is, in one look; relations without a position are left out."""
        return await self._read("reading positions", read_applied_all, timeout_s=self._settings.lock_wait_s)

    async def apply(self, changes: Sequence[Apply]) -> None:
        """Apply all changes and their positions in one transaction."""
        relations = await self.relations()
        specs = [_known(relations, change.relation) for change in changes]

        def write(connection: sa.Connection) -> None:
            apply_changes(connection, specs, changes, limits=self._settings)

        await self._write(f"applying {', '.join(sorted({c.relation for c in changes}))}", write)

    async def snapshot(self, relation: str) -> Snapshot:
        """All rows of a table with a primary key, and the position at which they were read."""
        spec = _known(await self.relations(), relation)
        return await self._read_within(
            f"reading '{relation}'",
            lambda c, deadline: snapshot_rows(c, spec, self._settings, deadline=deadline),
            timeout_s=self._settings.snapshot_time_s,
        )

    async def select(
        self, relation: str, statement: object, columns: Sequence[Column], *, row_limit: int, timeout_s: float
    ) -> Selected:
        """Run one select in a short read-only transaction."""
        if not isinstance(statement, sa.Select):
            raise TypeError("statement must be a SQLAlchemy select")
        return await self._read_within(
            f"reading '{relation}'",
            lambda c, deadline: select_rows(
                c,
                relation,
                statement,
                deadline=deadline,
                columns=columns,
                row_limit=row_limit,
                fetch_rows=self._settings.fetch_rows,
            ),
            timeout_s=timeout_s,
        )

    async def query(
        self, statement: object, columns: Sequence[Column], *, row_limit: int, size_limit_bytes: int, timeout_s: float
    ) -> Queried:
        """Run one select for a caller, on a connection that may only read tables of relations."""
        if not isinstance(statement, sa.Select):
            raise TypeError("statement must be a SQLAlchemy select")
        await self.relations()  # on a connection that may look whether the format is known
        return await self._read_within(
            "the query",
            lambda c, deadline: query_rows(
                c,
                statement,
                deadline=deadline,
                columns=columns,
                row_limit=row_limit,
                size_limit_bytes=size_limit_bytes,
            ),
            timeout_s=timeout_s,
            of_callers=True,
        )

    def describe(self) -> Mapping[str, str]:
        """The database's settings as read back when it was opened."""
        return self._description

    async def close(self) -> None:
        """Finish the write that was begun and release connections; the writer last, it checkpoints."""
        loop = asyncio.get_running_loop()
        for threads, engine in ((self._read_threads, self._read_engine), (self._query_threads, self._query_engine)):
            await loop.run_in_executor(None, threads.shutdown)
            engine.dispose()
        await loop.run_in_executor(self._write_thread, self._shut)
        self._write_thread.shutdown()

    def _open(self) -> None:
        """In the writing thread: connect, bring the format up to date, look at what was opened."""
        with self._database.translated(f"opening {self._database.address}"):
            self._writer = self._database.writing_engine().connect()
            try:
                with self._writer.begin():
                    self._database.lock_format(self._writer)
                    migrate(self._writer)
                with self._writer.begin():
                    self._description |= self._database.describe(self._writer)
                self._database.check_durable(self._description)
            except BaseException:
                self._shut()
                raise

    def _shut(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    async def _write(self, doing: str, work: Callable[[sa.Connection], T]) -> T:
        def run() -> T:
            if self._writer is None:
                raise PenstockError("store_unavailable", f"{doing}: this store is closed or was opened for reading")
            with self._database.translated(doing), self._writer.begin():
                return work(self._writer)

        # Shielded: a caller that goes away must not leave its transaction between two others unnoticed.
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._write_thread, run))

    async def _read(self, doing: str, work: Callable[[sa.Connection], T], *, timeout_s: float) -> T:
        return await self._read_within(doing, lambda connection, _: work(connection), timeout_s=timeout_s)

    async def _read_within(
        self,
        doing: str,
        work: Callable[[sa.Connection, ReadDeadline], T],
        *,
        timeout_s: float,
        of_callers: bool = False,
    ) -> T:
        """Run `work` in a reading thread; the time spent waiting for one is not counted.

        `of_callers`: on the connections for callers' queries, whose format is known already.
        """
        engine = self._query_engine if of_callers else self._read_engine
        started: list[ReadDeadline] = []
        left = False

        def run() -> T:
            deadline = ReadDeadline(self._clock, timeout_s)
            started.append(deadline)
            if left:
                deadline.leave()
            database = self._database
            if not database.exists():
                raise PenstockError("not_ready", f"{doing}: the store has not been made yet", retry_after_s=1.0)
            with database.translated(doing), engine.connect() as connection:
                if not self._format_known and not of_callers:
                    check_format(connection)
                    self._format_known = True
                with database.bounded(connection, deadline):
                    return work(connection, deadline)

        loop = asyncio.get_running_loop()
        reading = loop.run_in_executor(self._query_threads if of_callers else self._read_threads, run)
        try:
            return await reading
        finally:
            if not reading.done() or reading.cancelled():  # the caller went away: stop the statement, free the thread
                left = True
                for deadline in started:
                    loop.run_in_executor(None, deadline.leave)


def _known(relations: Mapping[str, StreamSpec], relation: str) -> StreamSpec:
    try:
        return relations[relation]
    except KeyError:
        raise PenstockError("unknown_relation", f"'{relation}' is not stored; set 'store' = 'true'") from None
