"""What a store needs of a database engine; one adapter per engine (`stores.sqlite`, `stores.postgres`)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Protocol

import sqlalchemy as sa

from penstock.ports.clock import Clock

__all__ = ["Database", "ReadDeadline"]


class ReadDeadline:
    """When one read must end: after `timeout_s`, or once its caller has gone away. Shared by two threads."""

    def __init__(self, clock: Clock, timeout_s: float) -> None:
        self._clock = clock
        self._until_s = clock.monotonic_s() + timeout_s
        self._gone = threading.Event()
        self._lock = threading.Lock()
        self._interrupt: Callable[[], None] | None = None

    def over(self) -> bool:
        """True when the read must end now."""
        return self._gone.is_set() or self._clock.monotonic_s() > self._until_s

    def left_s(self) -> float:
        """Seconds that the read may still take; not below 0."""
        return 0.0 if self._gone.is_set() else max(0.0, self._until_s - self._clock.monotonic_s())

    def leave(self) -> None:
        """The caller went away: stop the statement. May block for a moment where an engine was asked to be told."""
        self._gone.set()
        with self._lock:
            if self._interrupt is not None:
                self._interrupt()

    def tell(self, interrupt: Callable[[], None] | None) -> None:
        """The reading thread: what stops the statement from another thread; None when there is none any more."""
        with self._lock:
            self._interrupt = interrupt


class Database(Protocol):
    """One database: its connections, their limits, its failures as Penstock's errors.

    Blocking. The writing engine's connection belongs to one thread; each reading connection to one at a time.
    """

    address: str  # for people; without a password

    def writing_engine(self) -> sa.Engine:
        """The engine of the one writing connection; makes what must be there before a connection (a folder)."""
        ...

    def reading_engine(self) -> sa.Engine:
        """The engine of the reading connections: they cannot write, and one transaction sees one moment."""
        ...

    def querying_engine(self) -> sa.Engine:
        """The engine of connections for callers' queries: as for reading, confined to relations' rows."""
        ...

    def exists(self) -> bool:
        """False while there is nothing to connect to and a writer will make it."""
        ...

    def lock_format(self, connection: sa.Connection) -> None:
        """Within a transaction: let nobody else migrate or prepare until it ends; make missing schemas."""
        ...

    def describe(self, connection: sa.Connection) -> dict[str, str]:
        """Settings as the database reports them, not as they were asked for."""
        ...

    def check_durable(self, settings: Mapping[str, str]) -> None:
        """Refuse a database that does not keep what it commits; `settings` are those of `describe`."""
        ...

    def bounded(self, connection: sa.Connection, deadline: ReadDeadline) -> AbstractContextManager[None]:
        """End statements on this connection when the deadline says so."""
        ...

    def translated(self, doing: str) -> AbstractContextManager[None]:
        """Failures as `query_timeout`, `not_ready`, `out_of_range`, `too_large` or `store_unavailable`: what was
        being done, and the remedy.
        """
        ...
