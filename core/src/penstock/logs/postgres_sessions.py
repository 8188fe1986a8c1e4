"""Sessions with the database: how they are opened, a few that are shared, and what their errors mean to callers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus

from penstock.errors import LogFull, LogUnavailable, PenstockError
from penstock.logs.postgres_schema import SCHEMA, Connection
from penstock.logs.settings import LogSettings

__all__ = ["APPLICATION", "Sessions", "is_lasting", "place_of", "refusal_of"]

#: Start of the name under which the server lists our sessions.
APPLICATION = "penstock log"

T = TypeVar("T")
#: Refusals to connect that waiting does not heal.
_LASTING = ("28", "3D", "42")  # authorization, no such database, no privilege


def place_of(url: str) -> str:
    """Host, port and database, for messages: never the password. `bad_request` if `url` is none."""
    try:
        parts = conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        raise PenstockError(
            "bad_request", "the log's URL cannot be read; use postgresql://user@host:port/database"
        ) from error
    return f"{parts.get('host', 'localhost')}:{parts.get('port', 5432)}/{parts.get('dbname', parts.get('user', ''))}"


def refusal_of(error: psycopg.Error | OSError | TimeoutError, place: str) -> PenstockError:
    """What callers are told. Everything may heal: the server comes back, a disk gets room, a lock goes."""
    if isinstance(error, errors.DiskFull):
        return LogFull(f"the disk of the database {place} is full; free some space, nothing else needs to be done")
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    return LogUnavailable(f"the database {place}: {reason}")


def is_lasting(error: psycopg.Error) -> bool:
    """Whether a refused connection needs somebody to act."""
    text = str(error)
    by_text = "authentication failed" in text or "does not exist" in text or "no password supplied" in text
    return (error.sqlstate or "")[:2] in _LASTING or by_text


class Sessions:
    """Opens sessions, and keeps `reader_threads` of them for short transactions that anybody may run.

    A session that broke is thrown away; the next user opens another, so that a restarted database is found again.
    """

    def __init__(self, url: str, *, settings: LogSettings) -> None:
        self.place = place_of(url)
        logging.getLogger("psycopg").setLevel(logging.ERROR)  # its warnings are what it also raises
        self._url = url
        self._settings = settings
        self._free: list[Connection] = []
        self._slots = asyncio.Semaphore(settings.reader_threads)
        self._closed = False

    async def open(self, name: str) -> Connection:
        """A new session in autocommit. Raises `psycopg.Error`."""
        limits = self._settings.postgres
        connection = await psycopg.AsyncConnection.connect(
            self._url,
            autocommit=True,
            prepare_threshold=0,
            application_name=f"{APPLICATION} {name}",
            connect_timeout=limits.connect_timeout_s,
            keepalives=1,
            keepalives_idle=limits.keepalive_idle_s,
            keepalives_interval=limits.keepalive_interval_s,
            keepalives_count=limits.keepalive_count,
            target_session_attrs="read-write",
        )
        try:
            await connection.execute(self._set_up(), prepare=False)
        except BaseException:
            await connection.close()
            raise
        return connection

    @asynccontextmanager
    async def shared(self) -> AsyncIterator[Connection]:
        """One of the kept sessions, for one short transaction. LogUnavailable once closed."""
        async with self._slots:
            if self._closed:
                raise LogUnavailable("the log is closed")
            connection = self._free.pop() if self._free else await self.open("reader")
            try:
                yield connection
            finally:
                if self._closed or not _is_idle(connection):
                    await connection.close()
                else:
                    self._free.append(connection)

    async def run(self, work: Callable[[Connection], Awaitable[T]], *, repeat: bool = True) -> T:
        """`work` on a kept session, within `answer_timeout_s`. LogUnavailable or LogFull where the database fails.

        `repeat`: once more on a new session if the kept one proves dead; only for work that may be done twice.
        """
        while True:
            was_kept = bool(self._free)
            try:
                async with asyncio.timeout(self._settings.postgres.answer_timeout_s), self.shared() as connection:
                    return await work(connection)
            except (psycopg.Error, OSError, TimeoutError) as error:
                if not (repeat and was_kept and isinstance(error, psycopg.OperationalError)):
                    raise refusal_of(error, self.place) from error

    async def close(self) -> None:
        """Close those that are free; those in use close when they are given back."""
        self._closed = True
        while self._free:
            await self._free.pop().close()

    def _set_up(self) -> str:
        limits = self._settings.postgres
        settings: dict[str, str | int] = {
            "search_path": SCHEMA,
            "client_encoding": "UTF8",
            "default_transaction_isolation": "'read committed'",
            "lock_timeout": round(limits.lock_timeout_s * 1000),
            "idle_in_transaction_session_timeout": round(limits.idle_in_transaction_timeout_s * 1000),
            "statement_timeout": round(limits.statement_timeout_s * 1000),
            "tcp_keepalives_idle": limits.keepalive_idle_s,
            "tcp_keepalives_interval": limits.keepalive_interval_s,
            "tcp_keepalives_count": limits.keepalive_count,
        }
        if self._settings.unsafe_synchronous_off:
            settings["synchronous_commit"] = "off"
        return ";".join(f"SET {name} = {value}" for name, value in settings.items())


def _is_idle(connection: Connection) -> bool:
    return not connection.closed and connection.info.transaction_status is TransactionStatus.IDLE
