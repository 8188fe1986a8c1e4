"""What other processes have written to the PostgreSQL log: asked for now and then, and when one of them says so.

Notifications are hints that may be lost; asking is the truth. They are sent after the commit, in a transaction of
their own that waits for no disk: a commit that notifies holds a lock of the whole server until it is on disk, which
would make all writers wait for each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import psycopg
import structlog

from penstock.errors import PenstockError
from penstock.logs.catalog_change import CatalogState
from penstock.logs.postgres_catalog import load_catalog
from penstock.logs.postgres_reader import load_heads
from penstock.logs.postgres_schema import Connection
from penstock.logs.postgres_sessions import Sessions
from penstock.ports.log import Head

__all__ = ["Hints", "Listener", "News"]

_log = structlog.get_logger(__name__)
_CHANNEL = "penstock_log"
_BACKOFF_S = 0.5

StreamPartition = tuple[str, int]


@dataclass(frozen=True, slots=True)
class News:
    """All heads, and the catalog if its version is another than the one asked about."""

    heads: dict[StreamPartition, Head]
    catalog: CatalogState | None


async def ask(connection: Connection, *, version: int) -> News:
    """The news as of now. The catalog is read first: heads may be newer than it, never older."""
    cursor = await connection.execute("SELECT value FROM meta WHERE name = 'catalog_version'")
    (stored,) = await cursor.fetchone() or ("0",)
    catalog = None if int(stored) == version else await load_catalog(connection)
    return News(await load_heads(connection), catalog)


class Listener:
    """Tells `hear` the news until it is stopped; opens a session again whenever it breaks."""

    def __init__(
        self,
        sessions: Sessions,
        *,
        poll_s: float,
        own: Callable[[], str],
        look: Callable[[Connection], Awaitable[None]],
        check: Callable[[Connection], Awaitable[None]],
    ) -> None:
        self._sessions = sessions
        self._poll_s = poll_s
        self._own = own
        self._look = look
        self._check = check
        self._reported = False

    async def run(self) -> None:
        """Look, wait for a notification or `poll_s`, look again."""
        while True:
            try:
                connection = await self._sessions.open("listener")
            except (psycopg.Error, OSError) as error:
                self._report(error)
                await asyncio.sleep(_BACKOFF_S)
                continue
            try:
                await self._listen(connection)
            except (psycopg.Error, OSError, PenstockError) as error:
                self._report(error)
                await asyncio.sleep(_BACKOFF_S)
            finally:
                await connection.close()

    async def _listen(self, connection: Connection) -> None:
        await self._check(connection)
        await connection.execute(f"LISTEN {_CHANNEL}")
        loop = asyncio.get_running_loop()
        while True:
            await self._look(connection)
            if self._reported:
                self._reported = False
                _log.info("the database answers again", database=self._sessions.place)
            until_s = loop.time() + self._poll_s
            while (left_s := until_s - loop.time()) > 0:
                told = [notice.payload async for notice in connection.notifies(timeout=left_s, stop_after=1)]
                if any(payload != self._own() for payload in told):
                    break

    def _report(self, error: Exception) -> None:
        if not self._reported:
            self._reported = True
            _log.warning("cannot ask the database for news", database=self._sessions.place, reason=str(error))


class Hints:
    """Sends a notification soon after `send`; several in the meantime are one."""

    def __init__(self, sessions: Sessions, *, own: Callable[[], str]) -> None:
        self._sessions = sessions
        self._own = own
        self._due = asyncio.Event()

    def send(self) -> None:
        """Others should look."""
        self._due.set()

    async def run(self) -> None:
        """Until cancelled. What cannot be sent is dropped: the others look by themselves."""
        connection: Connection | None = None
        try:
            while True:
                await self._due.wait()
                self._due.clear()
                try:
                    if connection is None:
                        connection = await self._sessions.open("notifier")
                        await connection.execute("SET synchronous_commit = off")
                    await connection.execute("SELECT pg_notify(%s, %s)", (_CHANNEL, self._own()))
                except (psycopg.Error, OSError):
                    if connection is not None:
                        await connection.close()
                        connection = None
                    await asyncio.sleep(_BACKOFF_S)
        finally:
            if connection is not None:
                await connection.close()
