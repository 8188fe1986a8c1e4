"""Connections to a SQLite store: one that writes and checkpoints, a few that only read; and their failures."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import NullPool, QueuePool

from penstock.errors import PenstockError
from penstock.stores.settings import StoreSettings

__all__ = ["INTERRUPTED", "check_durable", "describe", "reading_engine", "translated", "writing_engine"]

_KIB = 1024
#: What SQLite says when a progress handler has ended a statement.
INTERRUPTED = "interrupted"
_RETRY_AFTER_S = 2.0


def writing_engine(path: Path, settings: StoreSettings) -> sa.Engine:
    """The engine of the one writing connection: WAL, `synchronous=FULL`, transactions begin with the write lock."""

    def connect() -> sqlite3.Connection:
        raw = _connect(f"{path.absolute().as_uri()}?mode=rwc", settings)
        raw.execute("PRAGMA journal_mode = WAL")
        raw.execute("PRAGMA synchronous = FULL")
        raw.execute(f"PRAGMA wal_autocheckpoint = {settings.checkpoint_pages}")
        raw.execute(f"PRAGMA cache_size = -{settings.writer_cache_mib * _KIB}")
        return raw

    return _engine(connect, NullPool, "BEGIN IMMEDIATE")


def reading_engine(path: Path, settings: StoreSettings) -> sa.Engine:
    """The engine of the reading connections: opened read-only, so that they can neither write nor checkpoint."""

    def connect() -> sqlite3.Connection:
        raw = _connect(f"{path.absolute().as_uri()}?mode=ro", settings)
        raw.execute("PRAGMA query_only = ON")
        raw.execute("PRAGMA case_sensitive_like = ON")  # LIKE is, in SQL
        raw.execute(f"PRAGMA cache_size = -{settings.reader_cache_mib * _KIB}")
        return raw

    return _engine(connect, QueuePool, "BEGIN", pool_size=settings.readers, max_overflow=0)


def describe(connection: sa.Connection) -> dict[str, str]:
    """Settings as the database reports them, not as they were asked for."""

    def pragma(name: str) -> str:
        return str(connection.exec_driver_sql(f"PRAGMA {name}").scalar())

    levels = {"0": "OFF", "1": "NORMAL", "2": "FULL", "3": "EXTRA"}
    return {
        "engine": f"SQLite {sqlite3.sqlite_version}",
        "journal_mode": pragma("journal_mode"),
        "synchronous": levels.get(pragma("synchronous"), "?"),
        "wal_autocheckpoint_pages": pragma("wal_autocheckpoint"),
        "page_size_bytes": pragma("page_size"),
        "cache_size": pragma("cache_size"),
    }


def check_durable(settings: Mapping[str, str]) -> None:
    """Refuse a database that does not keep what it commits."""
    if settings["journal_mode"] != "wal" or settings["synchronous"] != "FULL":
        raise PenstockError(
            "store_unavailable",
            f"the store runs with journal_mode={settings['journal_mode']}, synchronous={settings['synchronous']}; it "
            "needs WAL and FULL: put the data folder on a local file system",
        )


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Failures of the database as Penstock's errors: what was being done, and what to do about it."""
    try:
        yield
    except (sa.exc.OperationalError, sa.exc.DatabaseError) as error:
        reason = str(error.orig)
        if reason == INTERRUPTED:
            raise PenstockError(
                "query_timeout", f"{doing} took longer than allowed: narrow the filter or the range",
                retry_after_s=_RETRY_AFTER_S,
            ) from error  # fmt: skip
        if reason.startswith(("no such table", "no such column")):
            raise PenstockError(
                "not_ready", f"{doing}: the relation is being changed, ask again", retry_after_s=_RETRY_AFTER_S
            ) from error
        raise PenstockError(
            "store_unavailable",
            f"{doing}: {reason}; check the disk's free space and that one process only writes the store",
            retry_after_s=_RETRY_AFTER_S,
        ) from error


def _connect(uri: str, settings: StoreSettings) -> sqlite3.Connection:
    # isolation_level None: transactions begin where SQLAlchemy says so, not before the first INSERT.
    return sqlite3.connect(uri, uri=True, timeout=settings.lock_wait_s, isolation_level=None, check_same_thread=False)


def _engine(connect: Any, pool: Any, begin: str, **options: Any) -> sa.Engine:
    engine = sa.create_engine("sqlite://", creator=connect, poolclass=pool, **options)

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine
