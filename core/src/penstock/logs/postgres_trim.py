"""Deleting from the PostgreSQL log, a chunk a transaction, so that no append waits long behind it.

Two processes may do this at the same time: what one has deleted, the other no longer finds, and counts are of rows
that a statement itself deleted. Rows of `batches` are deleted before the head is touched, never the other way round.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial as bind
from typing import Protocol

from penstock.logs.catalog_change import CatalogState
from penstock.logs.postgres_schema import CATALOG_LOCK, Connection
from penstock.logs.retention import expired, floor_of
from penstock.logs.settings import LogSettings
from penstock.model.stream import Relation, StreamSpec

__all__ = ["least_positions", "purge", "size_bytes", "trim"]

StreamPartition = tuple[str, int]
Chunk = Callable[[Connection], Awaitable[tuple[int, int]]]  # (what is counted, rows deleted)

_OLDEST = (
    "SELECT next, appended_at_ms FROM batches WHERE stream = %s AND partition = %s AND epoch = %s "
    "ORDER BY next LIMIT %s"
)
_DELETE = (
    "WITH gone AS (DELETE FROM batches WHERE stream = %s AND partition = %s AND {which} "
    "RETURNING next - first AS events, octet_length(payload) AS size_bytes) "
    "SELECT coalesce(sum(events), 0)::bigint, count(*), coalesce(sum(size_bytes), 0)::bigint FROM gone"
)
_DELETE_BELOW = _DELETE.format(which="epoch = %s AND next <= %s")
_DELETE_VOID = _DELETE.format(
    which="next IN (SELECT next FROM batches WHERE stream = %s AND partition = %s AND epoch < %s LIMIT %s)"
)
_HEAD = (
    "UPDATE heads SET first = CASE WHEN epoch = %s THEN greatest(first, %s) ELSE first END, "
    "size_bytes = size_bytes - %s WHERE (stream, partition) = (%s, %s)"
)
_SHRINK = "UPDATE heads SET size_bytes = size_bytes - %s WHERE (stream, partition) = (%s, %s)"
_DELETE_IDS = (
    "DELETE FROM ids WHERE stream = %s AND mark IN (SELECT mark FROM ids WHERE stream = %s AND (at_ms < %s OR "
    "epoch < %s) LIMIT %s)"
)
_DELETE_REJECTED = (
    "DELETE FROM rejected WHERE id IN (SELECT id FROM rejected WHERE at_ms < %s ORDER BY at_ms, id LIMIT %s)"
)
#: Rows of lanes and members whose process ended without removing them.
_DELETE_LEFT = (
    "DELETE FROM writers WHERE seen < now() - interval '7 days'",
    "DELETE FROM members WHERE until < now() - interval '1 hour'",
)


class Run(Protocol):
    """Runs one chunk on a session of its own."""

    async def __call__(self, chunk: Chunk, /) -> tuple[int, int]:
        """What the chunk returned."""
        ...


async def size_bytes(connection: Connection) -> int:
    """Payload of all batches that are kept."""
    row = await (await connection.execute("SELECT coalesce(sum(size_bytes), 0)::bigint FROM heads")).fetchone()
    return 0 if row is None else int(row[0])


async def least_positions(connection: Connection) -> dict[StreamPartition, int]:
    """Per partition, the least committed position over all apps: what retention must not pass."""
    cursor = await connection.execute("SELECT stream, partition, min(next) FROM positions GROUP BY 1, 2")
    return {(stream, partition): next_offset for stream, partition, next_offset in await cursor.fetchall()}


async def trim(
    run: Run,
    state: CatalogState,
    *,
    roles: frozenset[str],
    floors: Mapping[StreamPartition, int],
    held: Mapping[StreamPartition, int],
    now_ms: int,
    settings: LogSettings,
) -> int:
    """Delete expired batches of the streams that `roles` write, below `floors` and `held` (the apps' positions), and
    what else has expired. Returns events deleted.
    """
    rows = settings.trim_chunk_batches
    deleted = 0
    for spec in state.catalog.streams.values():
        if not _is_of(spec, roles):
            continue
        retention_s = settings.retention_s if spec.retention_s is None else spec.retention_s
        for partition in range(spec.partitions):
            key = (spec.name, partition)
            chunk = bind(
                _trim_chunk,
                key=key,
                epoch=state.epochs[spec.name],
                floor=floor_of(key, floors=floors, positions=held),
                before_ms=now_ms - round(retention_s * 1000),
                rows=rows,
            )
            deleted += await _repeat(run, chunk, rows=rows)
        if spec.relation is Relation.SOURCE:
            before_ms = now_ms - round(settings.ids_retention_s * 1000)
            await _repeat(run, _ids_chunk(spec.name, before_ms, state.epochs[spec.name], rows=rows), rows=rows)
    if roles:
        before_ms = now_ms - round(settings.rejected_retention_s * 1000)
        await _repeat(run, bind(_delete, query=_DELETE_REJECTED, parameters=(before_ms, rows)), rows=rows)
        for query in _DELETE_LEFT:
            await run(bind(_delete, query=query, parameters=()))
    return deleted


async def purge(
    run: Run, state: CatalogState, known: list[StreamPartition], *, roles: frozenset[str], rows: int
) -> None:
    """Delete batches and ids of earlier epochs and of streams that are gone. `known`: every partition with a head."""
    for stream, partition in known:
        spec = state.catalog.streams.get(stream)
        if not roles or (spec is not None and not _is_of(spec, roles)):
            continue
        below_epoch = state.epochs.get(stream, 0) + (spec is None)
        await _repeat(run, bind(_void_chunk, key=(stream, partition), epoch=below_epoch, rows=rows), rows=rows)
        await _repeat(run, _ids_chunk(stream, 0, below_epoch, rows=rows), rows=rows)


def _is_of(spec: StreamSpec, roles: frozenset[str]) -> bool:
    return ("ingest" if spec.relation is Relation.SOURCE else "processor") in roles


def _ids_chunk(stream: str, before_ms: int, below_epoch: int, *, rows: int) -> Chunk:
    return bind(_delete, query=_DELETE_IDS, parameters=(stream, stream, before_ms, below_epoch, rows))


async def _repeat(run: Run, chunk: Chunk, *, rows: int) -> int:
    total = 0
    while True:
        counted, deleted = await run(chunk)
        total += counted
        if deleted < rows:
            return total


async def _delete(connection: Connection, *, query: str, parameters: tuple[object, ...]) -> tuple[int, int]:
    cursor = await connection.execute(query, parameters)
    return cursor.rowcount, cursor.rowcount


async def _trim_chunk(
    connection: Connection, *, key: StreamPartition, epoch: int, floor: int | None, before_ms: int, rows: int
) -> tuple[int, int]:
    oldest = await connection.execute(_OLDEST, (*key, epoch, rows))
    gone = expired(await oldest.fetchall(), floor=floor, before_ms=before_ms)
    if not gone:
        return 0, 0
    async with connection.transaction():
        await connection.execute(f"SELECT pg_advisory_xact_lock_shared{CATALOG_LOCK}")
        cursor = await connection.execute(_DELETE_BELOW, (*key, epoch, gone[-1]))
        events, deleted, size_bytes = await cursor.fetchone() or (0, 0, 0)
        await connection.execute(_HEAD, (epoch, gone[-1], size_bytes, *key))
    return events, deleted


async def _void_chunk(connection: Connection, *, key: StreamPartition, epoch: int, rows: int) -> tuple[int, int]:
    async with connection.transaction():
        cursor = await connection.execute(_DELETE_VOID, (*key, *key, epoch, rows))
        events, deleted, size_bytes = await cursor.fetchone() or (0, 0, 0)
        if deleted:
            await connection.execute(_SHRINK, (size_bytes, *key))
    return events, deleted
