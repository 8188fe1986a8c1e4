"""Reading the PostgreSQL log: batches, heads, hashes of dedupe keys, rejected events. One statement each."""

from __future__ import annotations

from typing import Any

from penstock.errors import PenstockError
from penstock.logs.postgres_schema import Connection
from penstock.model.batch import Batch, Encoding, RejectedEvent
from penstock.ports.log import Head, RejectedFilter

__all__ = ["answer", "beat", "list_rejected", "load_heads", "read_batches", "read_head", "read_ids", "read_ids_after"]

StreamPartition = tuple[str, int]

_BATCHES = (
    "SELECT first, next, encoding, payload, min_time_ms, max_time_ms, watermark_ms, appended_at_ms, NULL, "
    "coalesce(trace, '') FROM ("
    "SELECT *, sum(octet_length(payload)) OVER (ORDER BY next) AS upto FROM ("
    "SELECT * FROM batches WHERE stream = %s AND partition = %s AND epoch = %s AND next > %s "
    "ORDER BY next LIMIT %s) AS b) AS c WHERE upto <= %s OR upto = octet_length(payload) ORDER BY next"
)
_IDS = (
    "SELECT at_ms, hashes FROM (SELECT at_ms, mark, hashes, sum(octet_length(hashes)) OVER ("
    "ORDER BY at_ms DESC, mark DESC) AS upto FROM ids WHERE stream = %s AND epoch = %s AND at_ms >= %s) AS i "
    "WHERE upto <= %s ORDER BY at_ms, mark"
)
_IDS_AFTER = (
    "SELECT m.mark, i.at_ms, i.hashes FROM marks m LEFT JOIN ids i ON i.stream = m.stream AND i.mark > %s "
    "AND i.epoch = %s AND i.writer <> %s WHERE m.stream = %s ORDER BY i.mark"
)
_COLUMNS = 'id, at_ms, stream, app, statement, code, detail, raw, partition, "offset", replayed_at_ms'


async def answer(connection: Connection) -> None:
    """Have the server say something."""
    await connection.execute("SELECT 1")


async def load_heads(connection: Connection) -> dict[StreamPartition, Head]:
    """All heads, those of dropped streams too."""
    cursor = await connection.execute(
        "SELECT stream, partition, epoch, first, next, watermark_ms FROM heads", binary=True
    )
    return {(stream, partition): Head(*head) for stream, partition, *head in await cursor.fetchall()}


async def read_head(connection: Connection, stream: str, partition: int) -> Head | None:
    """The head of a partition; None if it never had one."""
    cursor = await connection.execute(
        "SELECT epoch, first, next, watermark_ms FROM heads WHERE (stream, partition) = (%s, %s)",
        (stream, partition),
        binary=True,
    )
    row = await cursor.fetchone()
    return None if row is None else Head(*row)


async def read_batches(
    connection: Connection, stream: str, partition: int, *, epoch: int, offset: int, max_bytes: int, max_batches: int
) -> list[Batch]:
    """Batches of `epoch` that hold events at or after `offset`, at least one if there is any."""
    cursor = await connection.execute(
        _BATCHES, (stream, partition, epoch, offset, max(1, max_batches), max_bytes), binary=True
    )
    return [
        Batch(stream, partition, epoch, first, next_offset, Encoding(encoding), payload, *rest)
        for first, next_offset, encoding, payload, *rest in await cursor.fetchall()
    ]


async def read_ids(
    connection: Connection, stream: str, *, epoch: int, since_ms: int, max_bytes: int
) -> list[tuple[int, bytes]]:
    """(appended_at_ms, hashes) since then, oldest first; where there is more than `max_bytes`, the newest of it."""
    cursor = await connection.execute(_IDS, (stream, epoch, since_ms, max_bytes), binary=True)
    return [(at_ms, hashes) for at_ms, hashes in await cursor.fetchall()]


async def read_ids_after(
    connection: Connection, stream: str, *, epoch: int, mark: int | None, writer: str
) -> tuple[list[tuple[int, bytes]], int]:
    """What writers other than `writer` appended after `mark`, and the mark now, as of one moment."""
    if mark is None:
        cursor = await connection.execute("SELECT mark FROM marks WHERE stream = %s", (stream,))
        (now,) = await cursor.fetchone() or (0,)
        return [], int(now)
    cursor = await connection.execute(_IDS_AFTER, (mark, epoch, writer, stream), binary=True)
    rows = await cursor.fetchall()
    return [(at_ms, hashes) for _, at_ms, hashes in rows if at_ms is not None], int(rows[0][0])


async def list_rejected(connection: Connection, where: RejectedFilter) -> list[RejectedEvent]:
    """Rejected events, newest first; `not_found` if there is none to page on from."""
    conditions = ["TRUE"]
    values: list[object] = []
    for column, value in (("stream", where.stream), ("app", where.app), ("code", where.code)):
        if value is not None:
            conditions.append(f"{column} = %s")
            values.append(value)
    if where.ids:
        conditions.append("id = ANY(%s::text[])")
        values.append(list(where.ids))
    if not where.include_replayed:
        conditions.append("replayed_at_ms IS NULL")
    if where.before_id is not None:
        found = await connection.execute("SELECT at_ms FROM rejected WHERE id = %s", (where.before_id,))
        row = await found.fetchone()
        if row is None:
            raise PenstockError("not_found", f"there is no rejected event '{where.before_id}' to page on from")
        conditions.append("(at_ms, id) < (%s, %s)")
        values += [row[0], where.before_id]
    cursor = await connection.execute(
        f"SELECT {_COLUMNS} FROM rejected WHERE {' AND '.join(conditions)} ORDER BY at_ms DESC, id DESC LIMIT %s",
        (*values, where.limit),
        binary=True,
    )
    return [_event(row) for row in await cursor.fetchall()]


async def beat(connection: Connection, group: str, member: str, *, ttl_s: float) -> list[str]:
    """See `Log.beat`; times are the database's, so that the members' clocks do not matter."""
    if ttl_s <= 0:
        await connection.execute("DELETE FROM members WHERE (team, member) = (%s, %s)", (group, member))
    else:
        await connection.execute(
            "INSERT INTO members VALUES (%s, %s, clock_timestamp() + make_interval(secs => %s)) "
            "ON CONFLICT (team, member) DO UPDATE SET until = excluded.until",
            (group, member, ttl_s),
        )
    cursor = await connection.execute(
        "SELECT member FROM members WHERE team = %s AND until > clock_timestamp() ORDER BY member", (group,)
    )
    return [str(name) for (name,) in await cursor.fetchall()]


def _event(row: tuple[Any, ...]) -> RejectedEvent:
    id_, at_ms, stream, app, statement, code, detail, raw, partition, offset, replayed_at_ms = row
    position = None if partition is None else (partition, offset)
    return RejectedEvent(id_, at_ms, stream, app, statement, code, detail, raw, position, replayed_at_ms)
