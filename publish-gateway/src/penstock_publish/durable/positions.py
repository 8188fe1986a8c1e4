"""The table of durable subscriptions, and what is done with it. Blocking; runs in the gateway's database thread."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

__all__ = ["POSITIONS", "Position", "PositionKey", "claim", "expire", "forget", "holders", "of_owner", "position",
           "store", "touch"]  # fmt: skip

_metadata = sa.MetaData()
POSITIONS = sa.Table(
    "durable_subscriptions",
    _metadata,
    sa.Column("client_id", sa.Text, primary_key=True),  # the owner: see `PositionKey`
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("topic", sa.Text, primary_key=True),
    sa.Column("cursor", sa.Text, nullable=False),
    sa.Column("holder", sa.Text, nullable=False),  # the connection that has it, whatever process that is in
    sa.Column("created_at_ms", sa.BigInteger, nullable=False),
    sa.Column("acked_at_ms", sa.BigInteger),
    sa.Column("used_at_ms", sa.BigInteger),  # when a connection was last known to have it
)
_t = POSITIONS.c
_used_at_ms = sa.func.coalesce(_t.used_at_ms, _t.acked_at_ms, _t.created_at_ms)


@dataclass(frozen=True, slots=True)
class PositionKey:
    """What tells durable subscriptions apart. `owner`: a client, or a person at a client (`owner_of`)."""

    owner: str
    name: str
    topic: str


@dataclass(frozen=True, slots=True)
class Position:
    """One durable subscription. `cursor`: everything up to it has been acknowledged, or lay before its beginning."""

    key: PositionKey
    cursor: str
    created_at_ms: int
    acked_at_ms: int | None
    used_at_ms: int


def position(connection: sa.Connection, key: PositionKey) -> str | None:
    """The cursor of a durable subscription; None if there is none of that name."""
    return connection.execute(sa.select(_t.cursor).where(_is(key))).scalar()


def of_owner(connection: sa.Connection, owner: str) -> list[Position]:
    """All of an owner."""
    found = sa.select(POSITIONS, _used_at_ms.label("used")).where(_t.client_id == owner).order_by(_t.name, _t.topic)
    return [
        Position(
            PositionKey(row.client_id, row.name, row.topic), row.cursor, row.created_at_ms, row.acked_at_ms, row.used
        )
        for row in connection.execute(found)
    ]


def claim(
    connection: sa.Connection, key: PositionKey, holder: str, *, cursor: str, now_ms: int, per_client_max: int
) -> bool:
    """Give a durable subscription to a connection, and make it at `cursor` if there is none.

    False without effect where the owner has as many as it may have.
    """
    taking = sa.update(POSITIONS).where(_is(key)).values(holder=holder, used_at_ms=now_ms)
    taken = connection.execute(taking)
    if taken.rowcount:
        return True
    count = connection.execute(sa.select(sa.func.count()).where(_t.client_id == key.owner)).scalar_one()
    if count >= per_client_max:
        return False
    row = {"client_id": key.owner, "name": key.name, "topic": key.topic, "cursor": cursor, "holder": holder}
    made = sa.insert(POSITIONS).values(**row, created_at_ms=now_ms, acked_at_ms=None, used_at_ms=now_ms)
    try:
        with connection.begin_nested():
            connection.execute(made)
    except sa.exc.IntegrityError:  # another replica was faster
        connection.execute(taking)
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


def touch(connection: sa.Connection, held: Mapping[PositionKey, str], now_ms: int) -> None:
    """Connections have these now: key → holder."""
    for key, holder in held.items():
        where = sa.and_(_is(key), _t.holder == holder)
        connection.execute(sa.update(POSITIONS).where(where).values(used_at_ms=now_ms))


def expire(connection: sa.Connection, before_ms: int) -> int:
    """Delete those that no connection has had since; how many."""
    return connection.execute(sa.delete(POSITIONS).where(_used_at_ms < before_ms)).rowcount


def forget(connection: sa.Connection, owner: str, name: str, topic: str | None) -> list[PositionKey]:
    """Delete those of that name, of one topic or of all; what was deleted."""
    where = sa.and_(_t.client_id == owner, _t.name == name)
    if topic is not None:
        where = sa.and_(where, _t.topic == topic)
    gone = [PositionKey(owner, name, row.topic) for row in connection.execute(sa.select(_t.topic).where(where))]
    connection.execute(sa.delete(POSITIONS).where(where))
    return gone


def _is(key: PositionKey) -> sa.ColumnElement[bool]:
    return sa.and_(_t.client_id == key.owner, _t.name == key.name, _t.topic == key.topic)
