"""The tables of standing subscriptions of a kind, and what is done there. Blocking: for the database thread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Generic

import sqlalchemy as sa

from penstock_publish.outbound.standing import AnyStanding, Failed

__all__ = ["StandingRows", "failed_table", "standing_table"]

_LEASES = ("holder", "held_until_ms", "redeliverer", "redelivers_until_ms")


def standing_table(name: str, *own: sa.Column[str] | sa.Column[int]) -> sa.Table:
    """Columns of all kinds, and the kind's own ones."""
    return sa.Table(
        name,
        sa.MetaData(),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("client_id", sa.Text, nullable=False, index=True),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("topic", sa.Text, nullable=False),
        *own,
        sa.Column("filter", sa.Text, nullable=False),
        sa.Column("cursor", sa.Text, nullable=False),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.Column("paused", sa.Text),
        sa.Column("holder", sa.Text, nullable=False, default=""),
        sa.Column("held_until_ms", sa.BigInteger, nullable=False, default=0),
        sa.Column("redeliverer", sa.Text, nullable=False, server_default=""),
        sa.Column("redelivers_until_ms", sa.BigInteger, nullable=False, server_default="0"),
    )


def failed_table(name: str, owner: str) -> sa.Table:
    """What failed; `owner`: the column with the subscription's id."""
    return sa.Table(
        name,
        sa.MetaData(),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column(owner, sa.Text, nullable=False, index=True),
        sa.Column("recipients", sa.Text, nullable=False, server_default=""),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("events", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("failed_at_ms", sa.BigInteger, nullable=False),
    )


class StandingRows(Generic[AnyStanding]):
    """`model` is made of the table's columns by name, without those of leases.

    Leases are counted by the clock of the database where replicas share one: theirs may differ.
    """

    def __init__(self, table: sa.Table, failed: sa.Table, *, owner: str, model: type[AnyStanding]) -> None:
        self.tables = (table, failed)
        self._table, self._failed = table, failed
        self._owner, self._of = owner, failed.c[owner]
        self._model = model
        self._columns = [column for column in table.columns if column.name not in _LEASES]

    def add(
        self, connection: sa.Connection, standing: AnyStanding, *, client_id: str, per_client_max: int, total_max: int
    ) -> bool:
        """False without effect where there are too many."""
        count = sa.select(sa.func.count()).select_from(self._table)
        if connection.execute(count).scalar_one() >= total_max:
            return False
        if connection.execute(count.where(self._table.c.client_id == client_id)).scalar_one() >= per_client_max:
            return False
        connection.execute(sa.insert(self._table).values(**asdict(standing)))
        return True

    def of_client(self, connection: sa.Connection, client_id: str) -> list[AnyStanding]:
        """All of a client, oldest first."""
        chosen = sa.select(*self._columns).where(self._table.c.client_id == client_id)
        ordered = chosen.order_by(self._table.c.created_at_ms, self._table.c.id)
        return [self._model(**row._mapping) for row in connection.execute(ordered)]

    def find(self, connection: sa.Connection, standing_id: str) -> AnyStanding | None:
        """One, whoever has made it."""
        row = connection.execute(sa.select(*self._columns).where(self._table.c.id == standing_id)).first()
        return None if row is None else self._model(**row._mapping)

    def forget(self, connection: sa.Connection, standing_id: str) -> None:
        """Delete it with what failed."""
        connection.execute(sa.delete(self._failed).where(self._of == standing_id))
        connection.execute(sa.delete(self._table).where(self._table.c.id == standing_id))

    def forget_client(self, connection: sa.Connection, client_id: str) -> None:
        """Delete all of a client with what failed."""
        of_client = sa.select(self._table.c.id).where(self._table.c.client_id == client_id)
        connection.execute(sa.delete(self._failed).where(self._of.in_(of_client)))
        connection.execute(sa.delete(self._table).where(self._table.c.client_id == client_id))

    def claim(self, connection: sa.Connection, holder: str, *, now_ms: int, lease_ms: int) -> list[AnyStanding]:
        """Take those that nobody holds any more, and keep those of ours, for so long; all that are ours."""
        column = self._table.c
        now = _now(connection, now_ms)
        free = sa.or_(column.holder == holder, column.held_until_ms <= now)
        taking = sa.update(self._table).where(free)
        connection.execute(taking.values(holder=holder, held_until_ms=now + sa.literal(lease_ms)))
        chosen = sa.select(*self._columns).where(column.holder == holder)
        return [self._model(**row._mapping) for row in connection.execute(chosen)]

    def held(self, connection: sa.Connection, standing_id: str, holder: str, *, before: str) -> AnyStanding | None:
        """It, while it is there, ours, where we think it is, and not paused."""
        chosen = sa.select(*self._columns).where(self._ours(standing_id, holder, before))
        row = connection.execute(chosen.where(self._table.c.paused.is_(None))).first()
        return None if row is None else self._model(**row._mapping)

    def release(self, connection: sa.Connection, holder: str) -> None:
        """Others may have them at once."""
        ours = self._table.c.holder == holder
        connection.execute(sa.update(self._table).where(ours).values(holder="", held_until_ms=0))

    def advance(
        self,
        connection: sa.Connection,
        standing_id: str,
        holder: str,
        *,
        before: str,
        failed: Failed | None,
        values: Mapping[str, str | int],
    ) -> bool:
        """Move the cursor (one of the values), together with what failed; False where somebody else has it, or it is
        gone.
        """
        moving = sa.update(self._table).where(self._ours(standing_id, holder, before))
        if not connection.execute(moving.values(dict(values))).rowcount:
            return False
        if failed is not None:
            # Times of their own, in the topic's order: two may fail within a millisecond, and clocks go back.
            last = sa.select(sa.func.max(self._failed.c.failed_at_ms)).where(self._of == standing_id)
            at_ms = max(failed.failed_at_ms, (connection.execute(last).scalar_one() or 0) + 1)
            row = asdict(failed) | {"failed_at_ms": at_ms, self._owner: standing_id}
            del row["standing_id"]
            connection.execute(sa.insert(self._failed).values(row))
        return True

    def pause(self, connection: sa.Connection, standing_id: str, reason: str | None) -> None:
        """Send nothing more for now, or go on."""
        changing = sa.update(self._table).where(self._table.c.id == standing_id)
        connection.execute(changing.values(paused=reason))

    def failed_of(self, connection: sa.Connection, standing_id: str, limit: int) -> list[Failed]:
        """Oldest first, without their bodies."""
        chosen = self._failed_columns(body=False).where(self._of == standing_id)
        ordered = chosen.order_by(self._failed.c.failed_at_ms, self._failed.c.id).limit(limit)
        return [Failed(**row._mapping) for row in connection.execute(ordered)]

    def next_failed(self, connection: sa.Connection, standing_id: str, after_ms: int) -> Failed | None:
        """The oldest that failed after this time."""
        chosen = self._failed_columns(body=True).where(
            self._of == standing_id, self._failed.c.failed_at_ms > after_ms
        )
        row = connection.execute(chosen.order_by(self._failed.c.failed_at_ms, self._failed.c.id).limit(1)).first()
        return None if row is None else Failed(**row._mapping)

    def keep_failed(self, connection: sa.Connection, failed_id: str, standing_id: str, left: str | None) -> bool:
        """Those who do not have it yet; None: forget it. False where it is not there."""
        which = sa.and_(self._failed.c.id == failed_id, self._of == standing_id)
        if left is None:
            return bool(connection.execute(sa.delete(self._failed).where(which)).rowcount)
        return bool(connection.execute(sa.update(self._failed).where(which).values(recipients=left)).rowcount)

    def failed_size(self, connection: sa.Connection, standing_id: str) -> tuple[int, int]:
        """How many failed, and the length of their bodies in all."""
        size = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(sa.func.length(self._failed.c.body)), 0))
        count, chars = connection.execute(size.where(self._of == standing_id)).one()
        return int(count), int(chars)

    def take_redelivery(
        self, connection: sa.Connection, standing_id: str, caller: str, *, now_ms: int, lease_ms: int
    ) -> bool:
        """Let `caller` be the one who delivers what failed, for so long; False while another one is."""
        column, now = self._table.c, _now(connection, now_ms)
        free = sa.or_(column.redeliverer == caller, column.redelivers_until_ms <= now)
        taking = sa.update(self._table).where(column.id == standing_id, free)
        until = now + sa.literal(lease_ms)
        return bool(connection.execute(taking.values(redeliverer=caller, redelivers_until_ms=until)).rowcount)

    def end_redelivery(self, connection: sa.Connection, standing_id: str, caller: str) -> None:
        """Others may deliver what failed at once."""
        ours = sa.and_(self._table.c.id == standing_id, self._table.c.redeliverer == caller)
        connection.execute(sa.update(self._table).where(ours).values(redeliverer="", redelivers_until_ms=0))

    def change(self, connection: sa.Connection, standing_id: str, values: Mapping[str, str | int]) -> None:
        """Set columns of the kind."""
        connection.execute(sa.update(self._table).where(self._table.c.id == standing_id).values(dict(values)))

    def _ours(self, standing_id: str, holder: str, before: str) -> sa.ColumnElement[bool]:
        column = self._table.c
        return sa.and_(column.id == standing_id, column.holder == holder, column.cursor == before)

    def _failed_columns(self, *, body: bool) -> sa.Select[tuple[object, ...]]:
        column = self._failed.c
        text = column.body if body else sa.literal("").label("body")
        own = (column.id, self._of.label("standing_id"), column.recipients, text)
        return sa.select(*own, column.events, column.reason, column.failed_at_ms)


def _now(connection: sa.Connection, now_ms: int) -> sa.ColumnElement[int]:
    """Epoch milliseconds: ours for the file, which one process has, else the database's."""
    if connection.dialect.name != "postgresql":
        return sa.literal(now_ms)
    return sa.cast(sa.extract("epoch", sa.func.clock_timestamp()) * 1000, sa.BigInteger)
