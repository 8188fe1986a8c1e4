"""The catalog in PostgreSQL (apps, streams, epochs, heads of every partition), and the terms of tasks."""

from __future__ import annotations

from collections.abc import Sequence

from penstock.errors import PenstockError
from penstock.logs import catalog_change
from penstock.logs.catalog_change import CatalogChange, CatalogState
from penstock.logs.postgres_schema import CATALOG_LOCK, Connection
from penstock.logs.specs import spec_from_text, spec_text
from penstock.model.stream import Relation, StreamSpec
from penstock.model.task import app_of
from penstock.ports.log import AppRecord, Catalog, DeltaKind, Restored, StateDelta

__all__ = ["acquire", "load_catalog", "read_positions", "remove", "replace"]

StreamPartition = tuple[str, int]


async def load_catalog(connection: Connection) -> CatalogState:
    """The catalog as of one statement; the caller's lock or transaction makes it one with what else it reads."""
    cursor = await connection.execute(
        "SELECT (SELECT value FROM meta WHERE name = 'catalog_version'), "
        "coalesce((SELECT array_agg(spec) FROM streams), '{}'), "
        "coalesce((SELECT array_agg(array[name, version::text, sql, deployed_at_ms::text]) FROM apps), '{}'), "
        "coalesce((SELECT array_agg(array[stream, epoch::text]) FROM epochs), '{}')"
    )
    version, specs, apps, epochs = await cursor.fetchone() or ("0", [], [], [])
    streams = {spec.name: spec for spec in map(spec_from_text, specs)}
    records = {name: AppRecord(name, int(number), sql, int(at)) for name, number, sql, at in apps}
    return CatalogState(Catalog(int(version), streams, records), {stream: int(epoch) for stream, epoch in epochs})


async def replace(
    connection: Connection, app: str, *, sql: str, streams: Sequence[StreamSpec], expected_version: int | None,
    now_ms: int,
) -> tuple[AppRecord, CatalogState]:  # fmt: skip
    """Deploy or replace an app: its record, and the catalog in force."""
    async with connection.transaction():
        state = await _alone(connection)
        change = catalog_change.put_app(
            state, app, sql=sql, streams=streams, expected_version=expected_version, now_ms=now_ms
        )
        record = change.state.catalog.apps[app]
        await connection.execute(
            "INSERT INTO apps VALUES (%s, %s, %s, %s) ON CONFLICT (name) DO UPDATE SET version = excluded.version, "
            "sql = excluded.sql, deployed_at_ms = excluded.deployed_at_ms",
            (app, record.version, sql, record.deployed_at_ms),
        )
        await _store(connection, app, change)
    return record, change.state


async def remove(connection: Connection, app: str, *, expected_version: int | None) -> CatalogState:
    """Remove an app with its streams, positions and state; an instance of it that still runs is fenced."""
    async with connection.transaction():
        state = await _alone(connection)
        change = catalog_change.delete_app(state, app, expected_version=expected_version)
        await connection.execute("DELETE FROM apps WHERE name = %s", (app,))
        cursor = await connection.execute("SELECT app FROM terms")
        tasks = sorted({app, *(name for (name,) in await cursor.fetchall() if app_of(name) == app)})
        for table in ("positions", "deltas"):
            await connection.execute(f"DELETE FROM {table} WHERE app = ANY(%s::text[])", (tasks,))
        await connection.execute(
            "INSERT INTO terms SELECT app, 1 FROM unnest(%s::text[]) AS app "
            "ON CONFLICT (app) DO UPDATE SET term = terms.term + 1",
            (tasks,),
        )
        await _store(connection, app, change)
    return change.state


async def acquire(connection: Connection, task: str) -> Restored:
    """A new term. Its row is locked first, so that no older term commits while positions and state are read."""
    async with connection.transaction():
        await connection.execute(f"SELECT pg_advisory_xact_lock_shared{CATALOG_LOCK}")
        found = await connection.execute(
            "SELECT name, version, sql, deployed_at_ms FROM apps WHERE name = %s", (app_of(task),)
        )
        deployed = await found.fetchone()
        if deployed is None:
            raise PenstockError("unknown_app", f"there is no app '{app_of(task)}'; deploy it first")
        cursor = await connection.execute(
            "INSERT INTO terms VALUES (%s, 1) ON CONFLICT (app) DO UPDATE SET term = terms.term + 1 RETURNING term",
            (task,),
        )
        (term,) = await cursor.fetchone() or (0,)
        positions = await read_positions(connection, task)
        rows = await connection.execute(
            "SELECT operator, kind, payload FROM deltas WHERE app = %s ORDER BY id", (task,), binary=True
        )
        deltas: dict[str, list[StateDelta]] = {}
        async for operator, kind, payload in rows:
            deltas.setdefault(operator, []).append(StateDelta(operator, DeltaKind(kind), payload))
    name, version, sql, at_ms = deployed
    return Restored(int(term), positions, deltas, AppRecord(name, int(version), sql, int(at_ms)))


async def read_positions(connection: Connection, task: str) -> dict[StreamPartition, int]:
    """Committed input positions of a task."""
    cursor = await connection.execute("SELECT stream, partition, next FROM positions WHERE app = %s", (task,))
    return {(stream, partition): next_offset for stream, partition, next_offset in await cursor.fetchall()}


async def _alone(connection: Connection) -> CatalogState:
    """Wait until no write is under way and keep others out; the catalog as it is then."""
    await connection.execute(f"SELECT pg_advisory_xact_lock{CATALOG_LOCK}")
    return await load_catalog(connection)


async def _store(connection: Connection, app: str, change: CatalogChange) -> None:
    state = change.state
    await connection.execute("DELETE FROM streams WHERE app = %s", (app,))
    for spec in state.catalog.streams.values():
        if spec.app == app:
            await connection.execute("INSERT INTO streams VALUES (%s, %s, %s)", (spec.name, app, spec_text(spec)))
            await connection.execute(
                "DELETE FROM positions WHERE stream = %s AND partition >= %s", (spec.name, spec.partitions)
            )
            await _store_heads(connection, spec, epoch=state.epochs[spec.name])
    gone = [*change.dropped, *change.moved]
    await connection.execute("DELETE FROM positions WHERE stream = ANY(%s::text[])", (gone,))
    for name in change.renewed:
        await connection.execute(
            "INSERT INTO epochs VALUES (%s, %s) ON CONFLICT (stream) DO UPDATE SET epoch = excluded.epoch",
            (name, state.epochs[name]),
        )
    await connection.execute(
        "UPDATE meta SET value = %s WHERE name = 'catalog_version'", (str(state.catalog.version),)
    )


async def _store_heads(connection: Connection, spec: StreamSpec, *, epoch: int) -> None:
    """Bring the heads to the epoch (a new one voids what they held; offsets go on), and make those that lack."""
    await connection.execute(
        "INSERT INTO heads (stream, partition, epoch, first, next) SELECT %s, p, %s, 0, 0 "
        "FROM generate_series(0, %s) AS p ON CONFLICT (stream, partition) DO UPDATE SET epoch = excluded.epoch, "
        "first = heads.next, watermark_ms = NULL WHERE heads.epoch < excluded.epoch",
        (spec.name, epoch, spec.partitions - 1),
    )
    if spec.relation is Relation.SOURCE:
        await connection.execute("INSERT INTO marks VALUES (%s, 0) ON CONFLICT DO NOTHING", (spec.name,))
