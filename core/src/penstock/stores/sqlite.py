"""A SQLite file as the store's database: one connection that writes and checkpoints, a few that only read."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import NullPool, QueuePool

from penstock.errors import PenstockError
from penstock.stores.database import ReadDeadline
from penstock.stores.settings import StoreSettings
from penstock.stores.sqlite_queries import confine

__all__ = ["SqliteDatabase"]

_KIB = 1024
_INTERRUPTED = "interrupted"  # what SQLite says when a progress handler has ended a statement
_OUT_OF_RANGE = ("integer overflow", "string or blob too big")
_TOO_LARGE = ("Expression tree is too large", "parser stack overflow", "too many")
_CONFINED = "penstock_confined"
_RETRY_AFTER_S = 2.0


class SqliteDatabase:
    """Implements `stores.database.Database` over one file, made by the first writing connection."""

    def __init__(self, path: Path, settings: StoreSettings) -> None:
        self._path, self._settings = path, settings
        self.address = str(path)

    def writing_engine(self) -> sa.Engine:
        """WAL, `synchronous=FULL`, transactions begin with the write lock."""
        self._path.parent.mkdir(parents=True, exist_ok=True)

        def connect() -> sqlite3.Connection:
            raw = self._connect("rwc")
            raw.execute("PRAGMA journal_mode = WAL")
            raw.execute("PRAGMA synchronous = FULL")
            raw.execute(f"PRAGMA wal_autocheckpoint = {self._settings.checkpoint_pages}")
            raw.execute(f"PRAGMA cache_size = -{self._settings.writer_cache_mib * _KIB}")
            return raw

        return _engine(connect, NullPool, "BEGIN IMMEDIATE")

    def reading_engine(self) -> sa.Engine:
        """Opened read-only, so that they can neither write nor checkpoint."""

        def connect() -> sqlite3.Connection:
            raw = self._connect("ro")
            raw.execute("PRAGMA query_only = ON")
            raw.execute("PRAGMA case_sensitive_like = ON")  # LIKE is, in SQL
            raw.execute(f"PRAGMA cache_size = -{self._settings.reader_cache_mib * _KIB}")
            return raw

        return _engine(connect, QueuePool, "BEGIN", pool_size=self._settings.readers, max_overflow=0)

    def querying_engine(self) -> sa.Engine:
        """As for reading, and confined to rows of relations (`sqlite_queries`)."""

        def connect() -> sqlite3.Connection:
            raw = self._connect("ro")
            raw.execute("PRAGMA query_only = ON")
            raw.execute("PRAGMA trusted_schema = OFF")
            raw.execute("PRAGMA case_sensitive_like = ON")
            raw.execute(f"PRAGMA cache_size = -{self._settings.reader_cache_mib * _KIB}")
            return raw

        engine = _engine(connect, QueuePool, "BEGIN", pool_size=self._settings.query_readers, max_overflow=0)

        @sa.event.listens_for(engine, "checkout")  # SQLAlchemy itself asks a new connection for its settings first
        def _confine(raw: Any, record: Any, _: object) -> None:
            if not record.info.get(_CONFINED):
                confine(raw, value_max_bytes=self._settings.query_value_max_bytes)
                record.info[_CONFINED] = True

        return engine

    def exists(self) -> bool:
        """True once a writer has made the file."""
        return self._path.exists()

    def lock_format(self, connection: sa.Connection) -> None:
        """Nothing to do: a writing transaction has the file to itself."""

    def describe(self, connection: sa.Connection) -> dict[str, str]:
        """Engine, journal and sync levels, sizes."""

        def pragma(name: str) -> str:
            return str(connection.exec_driver_sql(f"PRAGMA {name}").scalar())

        levels = {"0": "OFF", "1": "NORMAL", "2": "FULL", "3": "EXTRA"}
        return {
            "file": self.address,
            "engine": f"SQLite {sqlite3.sqlite_version}",
            "journal_mode": pragma("journal_mode"),
            "synchronous": levels.get(pragma("synchronous"), "?"),
            "wal_autocheckpoint_pages": pragma("wal_autocheckpoint"),
            "page_size_bytes": pragma("page_size"),
            "cache_size": pragma("cache_size"),
        }

    def check_durable(self, settings: Mapping[str, str]) -> None:
        """WAL and FULL, or `store_unavailable`."""
        if settings["journal_mode"] != "wal" or settings["synchronous"] != "FULL":
            found = f"journal_mode={settings['journal_mode']}, synchronous={settings['synchronous']}"
            raise PenstockError(
                "store_unavailable",
                f"the store runs with {found}; it needs WAL and FULL: put the data folder on a local file system",
            )

    @contextmanager
    def bounded(self, connection: sa.Connection, deadline: ReadDeadline) -> Iterator[None]:
        """SQLite asks every `progress_steps` machine steps, in a query every `query_progress_steps`."""
        raw = connection.connection.driver_connection
        assert raw is not None  # a checked-out connection
        limits = self._settings
        steps = limits.query_progress_steps if connection.info.get(_CONFINED) else limits.progress_steps
        raw.set_progress_handler(lambda: int(deadline.over()), steps)
        try:
            yield
        finally:
            raw.set_progress_handler(None, 0)

    @contextmanager
    def translated(self, doing: str) -> Iterator[None]:
        """See `Database.translated`."""
        try:
            yield
        except (sa.exc.OperationalError, sa.exc.DatabaseError) as error:
            raise _failure(doing, str(error.orig)) from error

    def _connect(self, mode: str) -> sqlite3.Connection:
        # isolation_level None: transactions begin where SQLAlchemy says so, not before the first INSERT.
        return sqlite3.connect(
            f"{self._path.absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=self._settings.lock_wait_s,
            isolation_level=None,
            check_same_thread=False,
        )


def _failure(doing: str, reason: str) -> PenstockError:
    if reason == _INTERRUPTED:
        return PenstockError(
            "query_timeout",
            f"{doing} took longer than allowed: narrow the filter or the range",
            retry_after_s=_RETRY_AFTER_S,
        )
    if reason.startswith(("no such table", "no such column")):
        return PenstockError(
            "not_ready", f"{doing}: the relation is being changed, ask again", retry_after_s=_RETRY_AFTER_S
        )
    if reason in _OUT_OF_RANGE:
        return PenstockError("out_of_range", f"{doing}: {reason}; narrow it, or CAST to DOUBLE or DECIMAL first")
    if reason.startswith(_TOO_LARGE):
        return PenstockError("too_large", f"{doing}: {reason}; make it smaller")
    return PenstockError(
        "store_unavailable",
        f"{doing}: {reason}; check the disk's free space and that one process only writes the store",
        retry_after_s=_RETRY_AFTER_S,
    )


def _engine(connect: Any, pool: Any, begin: str, **options: Any) -> sa.Engine:
    engine = sa.create_engine("sqlite://", creator=connect, poolclass=pool, **options)

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine
