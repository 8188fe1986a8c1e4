"""Usage by application and UTC day, in the gateway's database. Replicas add what they counted; nobody overwrites."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from penstock_publish.plans.meter import Counts

__all__ = ["USAGE", "add_usage", "forget_usage", "usage_between", "usage_of_day"]

_AT_ONCE = 500  # ids in one statement: SQLite takes 32,766 parameters
_NAMES = tuple(one.name for one in fields(Counts))

_metadata = sa.MetaData()
USAGE = sa.Table(
    "application_usage",
    _metadata,
    sa.Column("client_id", sa.Text, primary_key=True),
    sa.Column("day", sa.BigInteger, primary_key=True, autoincrement=False),  # since 1970-01-01
    *(sa.Column(name, sa.BigInteger, nullable=False) for name in _NAMES),
)


def add_usage(connection: sa.Connection, counted: Iterable[tuple[str, int, Counts]]) -> None:
    """Add to the rows of (client, day), in order: replicas then never wait for each other in a ring."""
    rows = [
        {"client_id": client_id, "day": day, **{name: getattr(counts, name) for name in _NAMES}}
        for client_id, day, counts in sorted(counted, key=lambda one: one[:2])
    ]
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        connection.execute(_adding(postgresql.insert(USAGE)), rows)
    else:
        connection.execute(_adding(sqlite.insert(USAGE)), rows)


def usage_of_day(connection: sa.Connection, day: int, clients: Sequence[str] | None = None) -> dict[str, Counts]:
    """What is recorded of that day: of these clients, or of all."""
    found: dict[str, Counts] = {}
    groups = [None] if clients is None else [clients[i : i + _AT_ONCE] for i in range(0, len(clients), _AT_ONCE)]
    for group in groups:
        query = sa.select(USAGE).where(USAGE.c.day == day)
        if group is not None:
            query = query.where(USAGE.c.client_id.in_(group))
        found |= {row.client_id: _counts(row) for row in connection.execute(query)}
    return found


def usage_between(connection: sa.Connection, client_id: str, first: int, last: int) -> Mapping[int, Counts]:
    """What is recorded of one client from day to day, both inclusive; days without use are missing."""
    query = sa.select(USAGE).where(USAGE.c.client_id == client_id, USAGE.c.day.between(first, last))
    return {row.day: _counts(row) for row in connection.execute(query)}


def forget_usage(connection: sa.Connection, *, before_day: int) -> None:
    """Delete what is older."""
    connection.execute(sa.delete(USAGE).where(USAGE.c.day < before_day))


def _adding(insert: postgresql.Insert | sqlite.Insert) -> sa.Insert:
    added = {name: USAGE.c[name] + insert.excluded[name] for name in _NAMES}
    return insert.on_conflict_do_update(index_elements=["client_id", "day"], set_=added)


def _counts(row: sa.Row[tuple[object, ...]]) -> Counts:
    return Counts(**{name: getattr(row, name) for name in _NAMES})
