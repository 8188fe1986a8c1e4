"""The store in a SQL database through SQLAlchemy Core; SQLite: one file, one writing connection in one thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa

from penstock.errors import PenstockError
from penstock.model.stream import Column, StreamSpec
from penstock.ports.clock import Clock
from penstock.ports.store import Applied, Apply, Selected, Snapshot
from penstock.stores.archive_catalogue import ArchiveTables
from penstock.stores.changes import apply_change
from penstock.stores.connect import check_durable, describe, reading_engine, translated, writing_engine
from penstock.stores.migrate import HEAD, migrate
from penstock.stores.reads import deadline, select_rows, snapshot_rows
from penstock.stores.rebuilds import RebuildTables
from penstock.stores.registry import prepare_relations, read_applied, read_relations
from penstock.stores.settings import StoreSettings

__all__ = ["SqlStore"]

T = TypeVar("T")


class SqlStore(ArchiveTables, RebuildTables):
    """Implements `ports.store.Store` over `<data>/store.db`. Open with `stores.open.open_store`.

    `writable` False: a process that only reads (the publish gateway beside a data service); the file may come later.
    """

    def __init__(self, path: Path, *, settings: StoreSettings, clock: Clock, writable: bool) -> None:
        self._path, self._settings, self._clock = path, settings, clock
        self._read_engine = reading_engine(path, settings)
        self._read_threads = ThreadPoolExecutor(settings.readers, thread_name_prefix="store-read")
        self._write_thread = ThreadPoolExecutor(1, thread_name_prefix="store-write")
        self._relations: Mapping[str, StreamSpec] | None = None
        self._description: dict[str, str] = {"file": str(path), "format": HEAD}
        self._writer: sa.Connection | None = None
        if writable:
            self._write_thread.submit(self._open).result()

    async def prepare(self, specs: Sequence[StreamSpec]) -> None:
        """Create the tables of these relations; recreate those whose columns or keys changed; drop the others."""
        self._relations = await self._write("preparing tables", lambda c: prepare_relations(c, specs))

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

    async def apply(self, changes: Sequence[Apply]) -> None:
        """Apply all changes and their positions in one transaction."""
        relations = await self.relations()
        specs = [_known(relations, change.relation) for change in changes]

        def write(connection: sa.Connection) -> None:
            for spec, change in zip(specs, changes, strict=True):
                apply_change(connection, spec, change)

        await self._write(f"applying {', '.join(sorted({c.relation for c in changes}))}", write)

    async def snapshot(self, relation: str) -> Snapshot:
        """All rows of a table with a primary key, and the position at which they were read."""
        spec = _known(await self.relations(), relation)
        return await self._read(
            f"reading '{relation}'",
            lambda c: snapshot_rows(c, spec, self._settings),
            timeout_s=self._settings.snapshot_time_s,
        )

    async def select(
        self, relation: str, statement: object, columns: Sequence[Column], *, row_limit: int, timeout_s: float
    ) -> Selected:
        """Run one select in a short read-only transaction."""
        if not isinstance(statement, sa.Select):
            raise TypeError("statement must be a SQLAlchemy select")
        return await self._read(
            f"reading '{relation}'",
            lambda c: select_rows(
                c,
                relation,
                statement,
                columns=columns,
                row_limit=row_limit,
                fetch_rows=self._settings.fetch_rows,
            ),
            timeout_s=timeout_s,
        )

    def describe(self) -> Mapping[str, str]:
        """The database's settings as read back when it was opened."""
        return self._description

    async def close(self) -> None:
        """Finish the write that was begun and release connections; the writer last, it checkpoints."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self._read_threads.shutdown)
        self._read_engine.dispose()
        await loop.run_in_executor(self._write_thread, self._shut)
        self._write_thread.shutdown()

    def _open(self) -> None:
        """In the writing thread: connect, bring the format up to date, look at what was opened."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with translated(f"opening {self._path}"):
            self._writer = writing_engine(self._path, self._settings).connect()
            try:
                with self._writer.begin():
                    migrate(self._writer)
                with self._writer.begin():
                    self._description |= describe(self._writer)
                check_durable(self._description)
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
            with translated(doing), self._writer.begin():
                return work(self._writer)

        # Shielded: a caller that goes away must not leave its transaction between two others unnoticed.
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._write_thread, run))

    async def _read(self, doing: str, work: Callable[[sa.Connection], T], *, timeout_s: float) -> T:
        gone = threading.Event()

        def run() -> T:
            until_s = self._clock.monotonic_s() + timeout_s

            def over() -> bool:
                return gone.is_set() or self._clock.monotonic_s() > until_s

            if not self._path.exists():
                raise PenstockError("not_ready", f"{doing}: the store has not been made yet", retry_after_s=1.0)
            steps = self._settings.progress_steps
            with translated(doing), self._read_engine.connect() as connection, deadline(connection, over, steps):
                return work(connection)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._read_threads, run)
        finally:
            gone.set()  # the caller went away: stop the statement, free the thread


def _known(relations: Mapping[str, StreamSpec], relation: str) -> StreamSpec:
    try:
        return relations[relation]
    except KeyError:
        raise PenstockError("unknown_relation", f"'{relation}' is not stored; set 'store' = 'true'") from None
