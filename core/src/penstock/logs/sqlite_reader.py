"""Reading from the files: a few threads, each with its own connection that cannot write, in short transactions."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import apsw

from penstock.errors import LogUnavailable
from penstock.logs.catalog_change import CatalogState
from penstock.logs.give_way import GiveWay
from penstock.logs.settings import LogSettings
from penstock.logs.sqlite_books import load_catalog, load_heads
from penstock.logs.sqlite_schema import file_of, open_reader
from penstock.ports.log import Head

__all__ = ["ForeignFile", "ForeignNews", "Readers"]

T = TypeVar("T")
StreamPartition = tuple[str, int]


class Readers:
    """Runs queries in threads. Errors of SQLite become LogUnavailable."""

    def __init__(self, directory: Path, *, settings: LogSettings, give_way: GiveWay) -> None:
        self._directory = directory
        self._settings = settings
        self._give_way = give_way
        self._executor = ThreadPoolExecutor(settings.reader_threads, thread_name_prefix="penstock-log-read")
        self._local = threading.local()
        self._opened: list[apsw.Connection] = []
        self._closed = False

    async def run(self, role: str, query: Callable[[apsw.Connection], T], *, absent: T) -> T:
        """The result of `query` on a role's file; `absent` while its owner has never run."""
        return await self._in_thread(self._run, role, query, absent)

    async def look(self, foreign: ForeignFile) -> ForeignNews | None:
        """`foreign.look()` in a thread; `close` waits for it."""
        return await self._in_thread(foreign.look)

    async def close(self) -> None:
        """Wait for the queries under way and close the connections."""
        self._closed = True
        await asyncio.to_thread(self._executor.shutdown)
        for connection in self._opened:
            connection.close()
        self._opened.clear()

    async def _in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        if self._closed:
            raise LogUnavailable("the log is closed")
        with self._give_way:
            return await asyncio.get_running_loop().run_in_executor(self._executor, work, *arguments)

    def _run(self, role: str, query: Callable[[apsw.Connection], T], absent: T) -> T:
        try:
            connection = self._connection(role)
            return absent if connection is None else query(connection)
        except apsw.Error as error:
            raise LogUnavailable(f"cannot read {file_of(self._directory, role)}: {error}") from error

    def _connection(self, role: str) -> apsw.Connection | None:
        connections: dict[str, apsw.Connection] = self._local.__dict__.setdefault("connections", {})
        if role not in connections:
            connection = open_reader(self._directory, role, settings=self._settings)
            if connection is None:
                return None
            connections[role] = connection
            self._opened.append(connection)
        return connections[role]


@dataclass(frozen=True, slots=True)
class ForeignNews:
    """What has changed in a file that another process writes: its heads, and the catalog if it changed."""

    heads: dict[StreamPartition, Head]
    catalog: CatalogState | None


class ForeignFile:
    """Looks for changes of a file that another process writes, by SQLite's `data_version`."""

    def __init__(self, directory: Path, role: str, *, settings: LogSettings) -> None:
        self.role = role
        self._directory = directory
        self._settings = settings
        self._connection: apsw.Connection | None = None
        self._data_version: object = None
        self._catalog_version = -1

    def look(self) -> ForeignNews | None:
        """News since the last look; None if there are none. Blocking; called by one thread at a time."""
        if self._connection is None:
            self._connection = open_reader(self._directory, self.role, settings=self._settings)
            if self._connection is None:
                return None
        version = self._connection.pragma("data_version")
        if version == self._data_version:
            return None
        heads = load_heads(self._connection)
        catalog = load_catalog(self._connection) if self.role == "processor" else None
        self._data_version = version
        if catalog is None or catalog.catalog.version == self._catalog_version:
            return ForeignNews(heads, None)
        self._catalog_version = catalog.catalog.version
        return ForeignNews(heads, catalog)

    def close(self) -> None:
        """Release the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
