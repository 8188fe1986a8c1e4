"""Lifecycles as rows of the gateway's database: one a topic of which something has been said."""

from __future__ import annotations

import sqlalchemy as sa

from penstock_publish.lifecycle.states import Lifecycle, State

__all__ = ["TABLE", "read_lifecycles", "write_lifecycle"]

TABLE = sa.Table(
    "topic_lifecycles",
    sa.MetaData(),
    sa.Column("topic", sa.Text, primary_key=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("successor", sa.Text),
    sa.Column("sunset_at_s", sa.BigInteger),
    sa.Column("deprecated_at_s", sa.BigInteger),
    sa.Column("changed_at_ms", sa.BigInteger, nullable=False),
    sa.Column("changed_by", sa.Text, nullable=False),
)


def read_lifecycles(connection: sa.Connection) -> dict[str, Lifecycle]:
    """All of them, by topic."""
    return {
        row.topic: Lifecycle(
            State(row.state), row.version, row.description, row.successor, row.sunset_at_s, row.deprecated_at_s
        )
        for row in connection.execute(sa.select(TABLE))
    }


def write_lifecycle(
    connection: sa.Connection, topic: str, lifecycle: Lifecycle, *, changed_by: str, now_ms: int
) -> None:
    """Put or replace that of a topic; `changed_by` is the caller's client id."""
    connection.execute(sa.delete(TABLE).where(TABLE.c.topic == topic))
    row = {
        "topic": topic,
        "state": lifecycle.state.value,
        "version": lifecycle.version,
        "description": lifecycle.description,
        "successor": lifecycle.successor,
        "sunset_at_s": lifecycle.sunset_at_s,
        "deprecated_at_s": lifecycle.deprecated_at_s,
        "changed_at_ms": now_ms,
        "changed_by": changed_by,
    }
    connection.execute(sa.insert(TABLE).values(**row))
