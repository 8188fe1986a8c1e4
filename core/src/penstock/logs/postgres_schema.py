"""Tables of the PostgreSQL log, their format version, and the checks before a database is trusted with events."""

from __future__ import annotations

import secrets

from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from penstock.errors import PenstockError
from penstock.logs.settings import LogSettings

__all__ = ["CATALOG_LOCK", "FORMAT", "SCHEMA", "Connection", "check_server", "create_tables", "read_server"]

#: Version of the tables; a database with a greater one is refused, one with a lesser brought up to date.
#: 2: batches have a trace.
FORMAT = 2
SCHEMA = "penstock_log"
#: Advisory locks (class, object). Writers share the second, a change of the catalog has it alone.
_LOCK_CLASS = 0x70656E73
_SCHEMA_LOCK = f"pg_advisory_xact_lock({_LOCK_CLASS}, 1)"
CATALOG_LOCK = f"({_LOCK_CLASS}, 2)"

Connection = AsyncConnection[TupleRow]

# Text compares by bytes whatever the database's collation: ids sort by time, locks are taken in one order.
# Heads and marks are updated by every append: room in their pages keeps that within the page (HOT).
_TABLES = """
CREATE TABLE meta (name text COLLATE "C" PRIMARY KEY, value text NOT NULL);
CREATE TABLE writers (
  writer text COLLATE "C" PRIMARY KEY, seq bigint NOT NULL, seen timestamptz NOT NULL
) WITH (fillfactor = 50);
CREATE TABLE heads (
  stream text COLLATE "C", partition integer, epoch bigint NOT NULL, first bigint NOT NULL, next bigint NOT NULL,
  watermark_ms bigint, size_bytes bigint NOT NULL DEFAULT 0, PRIMARY KEY (stream, partition)
) WITH (fillfactor = 50);
CREATE TABLE batches (
  stream text COLLATE "C", partition integer, next bigint, first bigint NOT NULL, epoch bigint NOT NULL,
  encoding text NOT NULL, min_time_ms bigint, max_time_ms bigint, watermark_ms bigint,
  appended_at_ms bigint NOT NULL, payload bytea NOT NULL, trace text, PRIMARY KEY (stream, partition, next)
);
ALTER TABLE batches ALTER COLUMN payload SET STORAGE EXTERNAL;
CREATE TABLE marks (
  stream text COLLATE "C" PRIMARY KEY, mark bigint NOT NULL
) WITH (fillfactor = 50);
CREATE TABLE ids (
  stream text COLLATE "C", mark bigint, epoch bigint NOT NULL, at_ms bigint NOT NULL, writer text NOT NULL,
  hashes bytea NOT NULL, PRIMARY KEY (stream, mark)
);
ALTER TABLE ids ALTER COLUMN hashes SET STORAGE EXTERNAL;
CREATE INDEX ids_by_time ON ids (stream, at_ms);
CREATE TABLE rejected (
  id text COLLATE "C" PRIMARY KEY, at_ms bigint NOT NULL, stream text NOT NULL, app text NOT NULL, statement text,
  code text NOT NULL, detail text NOT NULL, partition integer, "offset" bigint, replayed_at_ms bigint,
  raw bytea NOT NULL
);
CREATE INDEX rejected_by_time ON rejected (at_ms, id);
CREATE TABLE apps (
  name text COLLATE "C" PRIMARY KEY, version bigint NOT NULL, sql text NOT NULL, deployed_at_ms bigint NOT NULL
);
CREATE TABLE streams (name text COLLATE "C" PRIMARY KEY, app text COLLATE "C" NOT NULL, spec text NOT NULL);
CREATE TABLE epochs (stream text COLLATE "C" PRIMARY KEY, epoch bigint NOT NULL);
CREATE TABLE terms (app text COLLATE "C" PRIMARY KEY, term bigint NOT NULL);
CREATE TABLE positions (
  app text COLLATE "C", stream text COLLATE "C", partition integer, next bigint NOT NULL,
  PRIMARY KEY (app, stream, partition)
) WITH (fillfactor = 50);
CREATE TABLE deltas (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, app text COLLATE "C" NOT NULL,
  operator text COLLATE "C" NOT NULL, kind text NOT NULL, payload bytea NOT NULL
);
ALTER TABLE deltas ALTER COLUMN payload SET STORAGE EXTERNAL;
CREATE INDEX deltas_by_operator ON deltas (app, operator);
CREATE TABLE members (
  team text COLLATE "C", member text COLLATE "C", until timestamptz NOT NULL, PRIMARY KEY (team, member)
) WITH (fillfactor = 50);
"""

#: Format -> what makes the next one of it. Only such changes as leave older processes able to work.
_MIGRATIONS = {1: "ALTER TABLE batches ADD COLUMN trace text"}

_SERVER_SETTINGS = (
    "server_version",
    "server_encoding",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_sync_method",
    "synchronous_standby_names",
    "max_connections",
    "shared_buffers",
)


async def create_tables(connection: Connection, place: str) -> str:
    """Make the tables where there are none, or bring them up to date, one process at a time; the log's identity.

    `conflict` if a newer Penstock made them.
    """
    async with connection.transaction():
        await connection.execute(f"SELECT {_SCHEMA_LOCK}")
        found = await connection.execute("SELECT to_regclass(%s)", (f"{SCHEMA}.meta",))
        if (await found.fetchone()) == (None,):
            await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
            await connection.execute(_TABLES, prepare=False)
            values = {"format": FORMAT, "log_id": secrets.token_hex(16), "catalog_version": 0}
            for name, value in values.items():
                await connection.execute("INSERT INTO meta VALUES (%s, %s)", (name, str(value)))
        cursor = await connection.execute("SELECT name, value FROM meta WHERE name IN ('format', 'log_id')")
        meta = {str(name): str(value) for name, value in await cursor.fetchall()}
        for version in range(int(meta["format"]), FORMAT):
            await connection.execute(_MIGRATIONS[version], prepare=False)
            await connection.execute("UPDATE meta SET value = %s WHERE name = 'format'", (str(version + 1),))
    if int(meta["format"]) > FORMAT:
        raise PenstockError(
            "conflict",
            f"the log in {place} has format {meta['format']}, this version reads up to {FORMAT}; "
            "install the version that wrote it, or name another database",
        )
    return meta["log_id"]


async def read_server(connection: Connection) -> dict[str, object]:
    """Settings that the server says this session runs with."""
    cursor = await connection.execute(
        "SELECT name, current_setting(name) FROM unnest(%s::text[]) AS name", (list(_SERVER_SETTINGS),)
    )
    return {str(name): value for name, value in await cursor.fetchall()}


def check_server(server: dict[str, object], place: str, *, settings: LogSettings) -> None:
    """Refuse (`conflict`) a server that forgets what it has acknowledged, or cannot keep every text."""
    if server["server_encoding"] != "UTF8":
        raise PenstockError(
            "conflict",
            f"the database {place} has the encoding {server['server_encoding']}; create one with "
            "ENCODING 'UTF8' TEMPLATE template0",
        )
    if settings.unsafe_synchronous_off:
        return
    for name in ("fsync", "synchronous_commit"):
        if server[name] == "off":
            raise PenstockError(
                "conflict",
                f"the server of {place} runs with {name} = off and would lose acknowledged events when it crashes; "
                f"set {name} = on (ALTER SYSTEM SET {name} = on; SELECT pg_reload_conf();)",
            )
