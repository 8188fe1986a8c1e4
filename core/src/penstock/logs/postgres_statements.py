"""The two round trips of a group of writes: lock and read what it depends on; write what was decided, and commit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from psycopg import AsyncCursor
from psycopg.rows import TupleRow

from penstock.logs.catalog_change import CatalogState
from penstock.logs.postgres_catalog import load_catalog
from penstock.logs.postgres_plan import Changes, Held, Needs, News
from penstock.logs.postgres_schema import CATALOG_LOCK, Connection
from penstock.ports.log import Head

__all__ = ["lock", "store"]

Cursor = AsyncCursor[TupleRow]
StreamPartition = tuple[str, int]

# Fewer statements are fewer system calls on both sides: what may share a snapshot shares a statement.
_BEGIN_LANE = (
    "WITH lane AS (UPDATE writers SET seq = %s, seen = now() WHERE writer = %s) "
    f"SELECT pg_advisory_xact_lock_shared{CATALOG_LOCK}"
)
_TERMS = "SELECT app, term FROM terms WHERE app = ANY(%s::text[]) ORDER BY app FOR UPDATE"
_POSITIONS = "SELECT app, stream, partition, next FROM positions WHERE app = ANY(%s::text[])"
_MARKS = "SELECT stream, mark FROM marks WHERE stream = ANY(%s::text[]) ORDER BY stream FOR UPDATE"
_NEWS = "SELECT mark, hashes FROM ids WHERE stream = %s AND mark > %s AND writer <> %s ORDER BY mark DESC LIMIT %s"
_HEADS = (
    "SELECT h.stream, h.partition, h.epoch, h.first, h.next, h.watermark_ms FROM heads h "
    "JOIN unnest(%s::text[], %s::integer[]) AS k(stream, partition) USING (stream, partition) "
    "ORDER BY h.stream, h.partition FOR UPDATE OF h"
)
_SIZE = "SELECT coalesce(sum(size_bytes), 0)::bigint FROM heads"

_INSERT_BATCHES = (
    "INSERT INTO batches (stream, partition, epoch, first, next, encoding, min_time_ms, max_time_ms, watermark_ms, "
    "appended_at_ms, payload, trace) SELECT * FROM unnest(%s::text[], %s::integer[], %s::bigint[], %s::bigint[], "
    "%s::bigint[], %s::text[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %b::bytea[], %s::text[])"
)
_UPDATE_HEADS = (
    "UPDATE heads h SET next = n.next, watermark_ms = n.watermark_ms, size_bytes = h.size_bytes + n.size_bytes "
    "FROM unnest(%s::text[], %s::integer[], %s::bigint[], %s::bigint[], %s::bigint[]) "
    "AS n(stream, partition, next, watermark_ms, size_bytes) WHERE (h.stream, h.partition) = (n.stream, n.partition)"
)
_UPDATE_MARKS = (
    "UPDATE marks m SET mark = n.mark FROM unnest(%s::text[], %s::bigint[]) AS n(stream, mark) "
    "WHERE m.stream = n.stream"
)
_INSERT_IDS = (
    "WITH written AS (INSERT INTO ids (stream, mark, epoch, at_ms, writer, hashes) SELECT n.stream, n.mark, n.epoch, "
    "n.at_ms, %s, n.hashes FROM unnest(%s::text[], %s::bigint[], %s::bigint[], %s::bigint[], %b::bytea[]) "
    "AS n(stream, mark, epoch, at_ms, hashes)) " + _UPDATE_MARKS
)
_PUT_POSITIONS = (
    "INSERT INTO positions SELECT * FROM unnest(%s::text[], %s::text[], %s::integer[], %s::bigint[]) "
    "ON CONFLICT (app, stream, partition) DO UPDATE SET next = excluded.next"
)
_FORGET = (
    "DELETE FROM deltas d USING unnest(%s::text[], %s::text[]) AS g(app, operator) "
    "WHERE (d.app, d.operator) = (g.app, g.operator)"
)
_INSERT_DELTAS = (
    "INSERT INTO deltas (app, operator, kind, payload) SELECT app, operator, kind, payload FROM "
    "unnest(%s::text[], %s::text[], %s::text[], %b::bytea[]) WITH ORDINALITY "
    "AS n(app, operator, kind, payload, place) ORDER BY place"
)
_PUT_REJECTED = (
    'INSERT INTO rejected (id, at_ms, stream, app, statement, code, detail, raw, partition, "offset", '
    "replayed_at_ms) VALUES (%s, %s, %s, %s, %s, %s, %s, %b, %s, %s, %s) ON CONFLICT (id) DO UPDATE SET "
    '(at_ms, stream, app, statement, code, detail, raw, partition, "offset", replayed_at_ms) = '
    "(excluded.at_ms, excluded.stream, excluded.app, excluded.statement, excluded.code, excluded.detail, "
    'excluded.raw, excluded.partition, excluded."offset", excluded.replayed_at_ms)'
)
_MARK_REPLAYED = "UPDATE rejected SET replayed_at_ms = %s WHERE id = ANY(%s::text[])"


async def lock(
    connection: Connection,
    needs: Needs,
    *,
    state: CatalogState,
    lane: str,
    seq: int,
    writer: str,
    news_max_rows: int,
    limit_bytes: int | None,
) -> Held:
    """Begin a transaction, lock what the group needs and read it, in one round trip.

    The row of `lane` is locked first, and its `seq` set: whoever asks later for the outcome waits for its end. The
    catalog cannot change until the transaction ends; `state` is given back, or what replaced it.
    """
    size: Cursor | None = None
    news: dict[str, Cursor] = {}
    async with connection.pipeline():
        await connection.execute("BEGIN")
        await connection.execute(_BEGIN_LANE, (seq, lane))
        version = await connection.execute("SELECT value FROM meta WHERE name = 'catalog_version'")
        terms = await _ask(connection, _TERMS, needs.tasks, needs.tasks)
        positions = await _ask(connection, _POSITIONS, needs.tasks, needs.tasks)
        marks = await _ask(connection, _MARKS, needs.marks, needs.marks)
        streams, partitions = ([key[i] for key in needs.heads] for i in (0, 1))
        heads = await _ask(connection, _HEADS, needs.heads, streams, partitions)
        for stream, mark in needs.known.items():
            news[stream] = await connection.execute(_NEWS, (stream, mark, writer, news_max_rows + 1), binary=True)
        if limit_bytes is not None:
            size = await connection.execute(_SIZE)
    if int((await version.fetchone() or ("0",))[0]) != state.catalog.version:
        state = await load_catalog(connection)
    held_positions: dict[str, dict[StreamPartition, int]] = {}
    for app, stream, partition, next_offset in await _rows(positions):
        held_positions.setdefault(app, {})[stream, partition] = next_offset
    return Held(
        state=state,
        terms=dict(await _rows(terms)),
        positions=held_positions,
        heads={(stream, partition): Head(*head) for stream, partition, *head in await _rows(heads)},
        marks=dict(await _rows(marks)),
        news={stream: _news(await _rows(cursor), most=news_max_rows) for stream, cursor in news.items()},
        room_bytes=None if size is None or limit_bytes is None else limit_bytes - (await _rows(size))[0][0],
    )


async def store(connection: Connection, changes: Changes, *, writer: str, now_ms: int) -> None:
    """Write the changes and commit, in one round trip. Where the connection breaks, the outcome is unknown."""
    async with connection.pipeline():
        await _store_batches(connection, changes)
        await _store_ids(connection, changes, writer=writer)
        await _store_cycles(connection, changes)
        for id_ in sorted(changes.rejected):
            await _store_rejected(connection, changes, id_)
        if changes.replayed:
            await connection.execute(_MARK_REPLAYED, (now_ms, changes.replayed))
        await connection.execute("COMMIT")


async def _store_batches(connection: Connection, changes: Changes) -> None:
    sizes = dict.fromkeys(changes.heads, 0)
    if changes.batches:
        for batch in changes.batches:
            sizes[batch.stream, batch.partition] += len(batch.payload)
        rows = (
            (
                batch.stream, batch.partition, batch.epoch, batch.first, batch.next, batch.encoding.value,
                batch.min_time_ms, batch.max_time_ms, batch.watermark_ms, batch.appended_at_ms, batch.payload,
                batch.trace or None,
            )
            for batch in changes.batches
        )  # fmt: skip
        await connection.execute(_INSERT_BATCHES, _columns(rows))
    if changes.heads:
        await connection.execute(
            _UPDATE_HEADS,
            _columns((*key, head.next, head.watermark_ms, sizes[key]) for key, head in changes.heads.items()),
        )


async def _store_ids(connection: Connection, changes: Changes, *, writer: str) -> None:
    if changes.ids:
        rows = ((row.stream, row.mark, row.epoch, row.at_ms, row.hashes) for row in changes.ids)
        await connection.execute(_INSERT_IDS, (writer, *_columns(rows), *_columns(changes.marks.items())))


async def _store_cycles(connection: Connection, changes: Changes) -> None:
    if changes.positions:
        await connection.execute(
            _PUT_POSITIONS, _columns((*key, to) for key, to in sorted(changes.positions.items()))
        )
    if changes.forgotten:
        await connection.execute(_FORGET, _columns(sorted(changes.forgotten)))
    if changes.deltas:
        rows = ((task, delta.operator, delta.kind.value, delta.payload) for task, delta in changes.deltas)
        await connection.execute(_INSERT_DELTAS, _columns(rows))


async def _store_rejected(connection: Connection, changes: Changes, id_: str) -> None:
    event = changes.rejected[id_]
    partition, offset = event.position or (None, None)
    await connection.execute(
        _PUT_REJECTED,
        (
            id_, event.at_ms, event.stream, event.app, event.statement, event.code, _printable(event.detail),
            event.raw, partition, offset, event.replayed_at_ms,
        ),
    )  # fmt: skip


async def _ask(
    connection: Connection, query: str, wanted: Sequence[object], *parameters: Sequence[object]
) -> Cursor | None:
    """The query, unless nothing is wanted."""
    return await connection.execute(query, parameters) if wanted else None


async def _rows(cursor: Cursor | None) -> list[TupleRow]:
    return [] if cursor is None else await cursor.fetchall()


def _news(rows: Sequence[tuple[int, bytes]], *, most: int) -> News:
    return News(rows, whole=len(rows) <= most)


def _columns(rows: Iterable[tuple[object, ...]]) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _printable(text: str) -> str:
    """PostgreSQL keeps no NUL in text."""
    return text.replace("\x00", "\\u0000")
