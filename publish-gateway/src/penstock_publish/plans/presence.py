"""Which processes an application uses at the moment, in the database that replicas and workers share. Blocking.

A process writes what changed for its applications, and that it is alive; one that is silent for too long no longer
counts. Times are epoch seconds of the processes' clocks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

__all__ = ["TABLES", "Presence", "forget_silent", "leave", "others_of", "say"]

_AT_ONCE = 5_000  # ids in one statement: PostgreSQL takes 65,535 parameters

_metadata = sa.MetaData()
_processes = sa.Table(
    "gateway_processes",
    _metadata,
    sa.Column("process", sa.Text, primary_key=True),
    sa.Column("seen_s", sa.Double, nullable=False),
)
_presence = sa.Table(
    "application_presence",
    _metadata,
    sa.Column("client_id", sa.Text, primary_key=True),
    sa.Column("process", sa.Text, primary_key=True, index=True),
    sa.Column("connections", sa.BigInteger, nullable=False),
    sa.Column("active", sa.BigInteger, nullable=False),  # 0 or 1, to be added up
)
TABLES = (_processes, _presence)


@dataclass(frozen=True, slots=True)
class Presence:
    """`connections` open; `active`: in how many processes something is delivered or asked for."""

    connections: int = 0
    active: int = 0


def say(connection: sa.Connection, process: str, changed: Mapping[str, Presence], now_s: float) -> None:
    """This process is alive, and has this of applications; what is Presence() is no longer there."""
    alive = postgresql.insert(_processes).values(process=process, seen_s=now_s)
    connection.execute(alive.on_conflict_do_update(index_elements=["process"], set_={"seen_s": now_s}))
    gone = [client_id for client_id, own in changed.items() if own == Presence()]
    if gone:
        own_rows = _presence.c.process == process, _presence.c.client_id == sa.bindparam("gone")
        connection.execute(sa.delete(_presence).where(*own_rows), [{"gone": client_id} for client_id in gone])
    rows = [
        {"client_id": client_id, "process": process, "connections": own.connections, "active": own.active}
        for client_id, own in changed.items()
        if own != Presence()
    ]
    if rows:
        row = postgresql.insert(_presence)
        columns = {name: row.excluded[name] for name in ("connections", "active")}
        connection.execute(row.on_conflict_do_update(index_elements=["client_id", "process"], set_=columns), rows)


def others_of(connection: sa.Connection, process: str, clients: Sequence[str], since_s: float) -> dict[str, Presence]:
    """What all other processes have together that were alive since then; clients that none has are missing."""
    alive = sa.select(_processes.c.process).where(_processes.c.seen_s >= since_s, _processes.c.process != process)
    found: dict[str, Presence] = {}
    for first in range(0, len(clients), _AT_ONCE):
        query = (
            sa.select(_presence.c.client_id, sa.func.sum(_presence.c.connections), sa.func.sum(_presence.c.active))
            .where(_presence.c.client_id.in_(clients[first : first + _AT_ONCE]), _presence.c.process.in_(alive))
            .group_by(_presence.c.client_id)
        )
        for client_id, connections, active in connection.execute(query):
            found[client_id] = Presence(int(connections), int(active))
    return found


def leave(connection: sa.Connection, process: str) -> None:
    """This process stops."""
    for table in (_presence, _processes):
        connection.execute(sa.delete(table).where(table.c.process == process))


def forget_silent(connection: sa.Connection, before_s: float) -> None:
    """Forget processes that ended without a word."""
    silent = sa.select(_processes.c.process).where(_processes.c.seen_s < before_s)
    connection.execute(sa.delete(_presence).where(_presence.c.process.in_(silent)))
    connection.execute(sa.delete(_processes).where(_processes.c.seen_s < before_s))
