"""The table of durable subscriptions, and what is done with it. Blocking; runs in the gateway's database thread."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

__all__ = ["POSITIONS", "Position", "PositionKey", "claim", "forget", "holders", "of_client", "position", "store"]

_metadata = sa.MetaData()
POSITIONS = sa.Table(
    "durable_subscriptions",
    _metadata,
    sa.Column("client_id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("topic", sa.Text, primary_key=True),
    sa.Column("cursor", sa.Text, nullable=False),
    sa.Column("holder", sa.Text, nullable=False),  # the connection that has it, whatever process that is in
    sa.Column("created_at_ms", sa.BigInteger, nullable=False),
    sa.Column("acked_at_ms", sa.BigInteger),
)
_t = POSITIONS.c


@dataclass(frozen=True, slots=True)
class PositionKey:
    """What tells durable subscriptions apart."""

    client_id: str
    name: str
    topic: str


@dataclass(frozen=True, slots=True)
class Position:
    """One durable subscription. `cursor`: everything up to it has been acknowledged, or lay before its beginning."""

    key: PositionKey
    cursor: str
    created_at_ms: int
    acked_at_ms: int | None


def position(connection: sa.Connection, key: PositionKey) -> str | None:
    """The cursor of a durable subscription; None if there is none of that name."""
    return connection.execute(sa.select(_t.cursor).where(_is(key))).scalar()


def of_client(connection: sa.Connection, client_id: str) -> list[Position]:
    """All of a client."""
    rows = connection.execute(sa.select(POSITIONS).where(_t.client_id == client_id).order_by(_t.name, _t.topic))
    return [
        Position(PositionKey(row.client_id, row.name, row.topic), row.cursor, row.created_at_ms, row.acked_at_ms)
        for row in rows
    ]


def claim(
    connection: sa.Connection, key: PositionKey, holder: str, *, cursor: str, now_ms: int, per_client_max: int
) -> bool:
    """Give a durable subscription to a connection, and make it at `cursor` if there is none.

    False without effect where the client has as many as it may have.
    """
    taken = connection.execute(sa.update(POSITIONS).where(_is(key)).values(holder=holder))
    if taken.rowcount:
        return True
    count = connection.execute(sa.select(sa.func.count()).where(_t.client_id == key.client_id)).scalar_one()
    if count >= per_client_max:
        return False
    row = {"client_id": key.client_id, "name": key.name, "topic": key.topic}
    made = sa.insert(POSITIONS).values(**row, cursor=cursor, holder=holder, created_at_ms=now_ms, acked_at_ms=None)
    try:
        with connection.begin_nested():
            connection.execute(made)
    except sa.exc.IntegrityError:  # another replica was faster
        connection.execute(sa.update(POSITIONS).where(_is(key)).values(holder=holder))
    return True


def store(connection: sa.Connection, cursors: Mapping[tuple[PositionKey, str], str], now_ms: int) -> None:
    """Keep what connections acknowledged, as far as they still have their durable subscriptions: (key, holder) →
    cursor.
    """
    for (key, holder), cursor in cursors.items():
        where = sa.and_(_is(key), _t.holder == holder)
        connection.execute(sa.update(POSITIONS).where(where).values(cursor=cursor, acked_at_ms=now_ms))


def holders(connection: sa.Connection, keys: Iterable[PositionKey]) -> dict[PositionKey, str]:
    """Who has them now; those that are gone are missing."""
    found: dict[PositionKey, str] = {}
    for key in keys:
        holder = connection.execute(sa.select(_t.holder).where(_is(key))).scalar()
        if holder is not None:
            found[key] = holder
    return found


def forget(connection: sa.Connection, client_id: str, name: str, topic: str | None) -> list[PositionKey]:
    """Delete those of that name, of one topic or of all; what was deleted."""
    where = sa.and_(_t.client_id == client_id, _t.name == name)
    if topic is not None:
        where = sa.and_(where, _t.topic == topic)
    gone = [PositionKey(client_id, name, row.topic) for row in connection.execute(sa.select(_t.topic).where(where))]
    connection.execute(sa.delete(POSITIONS).where(where))
    return gone


def _is(key: PositionKey) -> sa.ColumnElement[bool]:
    return sa.and_(_t.client_id == key.client_id, _t.name == key.name, _t.topic == key.topic)
