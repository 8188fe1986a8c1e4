"""Files of the SQLite log: their tables, their format version, how they are opened and who owns them."""

from __future__ import annotations

import fcntl
import os
import secrets
from pathlib import Path
from typing import IO

import apsw

from penstock.errors import PenstockError
from penstock.logs.settings import LogSettings

__all__ = ["FORMAT", "RoleLock", "file_of", "meta", "open_reader", "open_writer", "set_meta"]

#: Version of the on-disk format; a file with a greater one is refused, one with a lesser brought up to date by its
#: writer. 2: batches have a trace.
FORMAT = 2

_COMMON = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
CREATE TABLE heads (
  stream TEXT, partition INTEGER, epoch INTEGER NOT NULL, first INTEGER NOT NULL, next INTEGER NOT NULL,
  watermark_ms INTEGER, PRIMARY KEY (stream, partition)
) WITHOUT ROWID;
CREATE TABLE batches (
  id INTEGER PRIMARY KEY, stream TEXT NOT NULL, partition INTEGER NOT NULL, epoch INTEGER NOT NULL,
  first INTEGER NOT NULL, next INTEGER NOT NULL, encoding TEXT NOT NULL, min_time_ms INTEGER, max_time_ms INTEGER,
  watermark_ms INTEGER, appended_at_ms INTEGER NOT NULL, payload BLOB NOT NULL, trace TEXT
);
CREATE INDEX batches_by_offset ON batches (stream, partition, epoch, next);
CREATE TABLE rejected (
  id TEXT PRIMARY KEY, at_ms INTEGER NOT NULL, stream TEXT NOT NULL, app TEXT NOT NULL, statement TEXT,
  code TEXT NOT NULL, detail TEXT NOT NULL, partition INTEGER, "offset" INTEGER, replayed_at_ms INTEGER,
  raw BLOB NOT NULL
);
CREATE INDEX rejected_by_time ON rejected (at_ms, id);
"""

#: Format -> what makes the next one of it. Only such changes as leave an older reader that is at work able to read.
_MIGRATIONS = {1: "ALTER TABLE batches ADD COLUMN trace TEXT"}

_OF_ROLE = {
    "ingest": """
CREATE TABLE ids (id INTEGER PRIMARY KEY, stream TEXT NOT NULL, epoch INTEGER NOT NULL, at_ms INTEGER NOT NULL,
  hashes BLOB NOT NULL);
CREATE INDEX ids_by_time ON ids (stream, at_ms);
""",
    "processor": """
CREATE TABLE apps (
  name TEXT PRIMARY KEY, version INTEGER NOT NULL, sql TEXT NOT NULL, deployed_at_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE streams (name TEXT PRIMARY KEY, app TEXT NOT NULL, spec TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE epochs (stream TEXT PRIMARY KEY, epoch INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE terms (app TEXT PRIMARY KEY, term INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE positions (
  app TEXT, stream TEXT, partition INTEGER, next INTEGER NOT NULL, term INTEGER NOT NULL,
  PRIMARY KEY (app, stream, partition)
) WITHOUT ROWID;
CREATE TABLE deltas (id INTEGER PRIMARY KEY, app TEXT NOT NULL, operator TEXT NOT NULL, kind TEXT NOT NULL,
  payload BLOB NOT NULL);
CREATE INDEX deltas_by_operator ON deltas (app, operator);
""",
}


def file_of(directory: Path, role: str) -> Path:
    """`ingest.db` or `processor.db`."""
    return directory / f"{role}.db"


class RoleLock:
    """Holds `<role>.lock` for the life of a process: two writers of one file would fence each other for ever."""

    def __init__(self, directory: Path, role: str) -> None:
        path = directory / f"{role}.lock"
        self._file: IO[str] = path.open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            owner = self._file.read().strip() or "unknown"
            self._file.close()
            raise PenstockError(
                "conflict",
                f"the data folder {directory} is in use by another instance (role {role}, process {owner}); "
                "stop that one, or choose another folder with --data",
            ) from None
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()

    def release(self) -> None:
        """Let another process own the role. The file stays: removing it would race with the next owner."""
        self._file.close()


def open_writer(directory: Path, role: str, *, settings: LogSettings) -> apsw.Connection:
    """The one connection that writes and checkpoints a role's file; creates the file when there is none, and brings
    one of an older format up to date.
    """
    path = file_of(directory, role)
    connection = apsw.Connection(str(path), statementcachesize=200)
    connection.set_busy_timeout(settings.busy_timeout_ms)
    if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'meta'").get:
        check_format(connection, path)
    connection.execute("PRAGMA journal_mode = WAL").get  # noqa: B018 - the pragma runs when its row is fetched
    connection.execute(f"PRAGMA synchronous = {'OFF' if settings.unsafe_synchronous_off else 'FULL'}")
    connection.execute("PRAGMA wal_autocheckpoint = 0").get  # noqa: B018 - as above; the writer checkpoints
    connection.execute(f"PRAGMA journal_size_limit = {settings.wal_keep_bytes}").get  # noqa: B018 - as above
    connection.execute(f"PRAGMA cache_size = {-settings.writer_cache_kib}")
    with connection:
        if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'meta'").get:
            connection.execute(_COMMON)
            connection.execute(_OF_ROLE[role])
            set_meta(connection, "format", FORMAT)
            set_meta(connection, "log_id", secrets.token_hex(16))
            set_meta(connection, "commits", 0)
            if role == "processor":
                set_meta(connection, "catalog_version", 0)
        for version in range(int(str(meta(connection, "format"))), FORMAT):
            connection.execute(_MIGRATIONS[version])
            set_meta(connection, "format", version + 1)
    return connection


def open_reader(directory: Path, role: str, *, settings: LogSettings) -> apsw.Connection | None:
    """A connection that cannot write; None while the file's owner has never run."""
    path = file_of(directory, role)
    if not path.exists():
        return None
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY, statementcachesize=100)
    connection.set_busy_timeout(settings.busy_timeout_ms)
    if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'meta'").get:
        connection.close()  # its owner is about to create the tables
        return None
    check_format(connection, path)
    return connection


def check_format(connection: apsw.Connection, path: Path) -> None:
    """`conflict` if the file was written by a newer Penstock."""
    version = int(str(meta(connection, "format")))
    if version > FORMAT:
        raise PenstockError(
            "conflict",
            f"{path} has on-disk format {version}, this version reads up to {FORMAT}; "
            "install the version that wrote it, or choose another folder with --data",
        )


def meta(connection: apsw.Connection, name: str) -> object:
    """A value of the meta table; None if it is not there."""
    return connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).get


def set_meta(connection: apsw.Connection, name: str, value: int | str) -> None:
    """Write a value of the meta table."""
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))
