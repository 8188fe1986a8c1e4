"""The tables of standing subscriptions of a kind, and what is done there. Blocking: for the database thread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Generic, TypeVar

import sqlalchemy as sa

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["StandingRows", "failed_table", "standing_table"]

_S = TypeVar("_S", bound="DataclassInstance")
_F = TypeVar("_F", bound="DataclassInstance")


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
    )


def failed_table(name: str, owner: str, *own: sa.Column[str]) -> sa.Table:
    """What failed; `owner`: the column with the subscription's id."""
    return sa.Table(
        name,
        sa.MetaData(),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column(owner, sa.Text, nullable=False, index=True),
        *own,
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("events", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("failed_at_ms", sa.BigInteger, nullable=False),
    )


class StandingRows(Generic[_S, _F]):
    """`model` and `failed_model` are made of the tables' columns by name, without the lease."""

    def __init__(
        self, table: sa.Table, failed: sa.Table, *, owner: str, model: type[_S], failed_model: type[_F]
    ) -> None:
        self.tables = (table, failed)
        self._table, self._failed = table, failed
        self._of = failed.c[owner]
        self._model, self._failed_model = model, failed_model
        self._columns = [column for column in table.columns if column.name not in ("holder", "held_until_ms")]

    def add(
        self, connection: sa.Connection, standing: _S, *, client_id: str, per_client_max: int, total_max: int
    ) -> bool:
        """False without effect where there are too many."""
        count = sa.select(sa.func.count()).select_from(self._table)
        if connection.execute(count).scalar_one() >= total_max:
            return False
        if connection.execute(count.where(self._table.c.client_id == client_id)).scalar_one() >= per_client_max:
            return False
        connection.execute(sa.insert(self._table).values(**asdict(standing)))
        return True

    def of_client(self, connection: sa.Connection, client_id: str) -> list[_S]:
        """All of a client, oldest first."""
        chosen = sa.select(*self._columns).where(self._table.c.client_id == client_id)
        ordered = chosen.order_by(self._table.c.created_at_ms, self._table.c.id)
        return [self._model(**row._mapping) for row in connection.execute(ordered)]

    def find(self, connection: sa.Connection, standing_id: str) -> _S | None:
        """One, whoever has made it."""
        row = connection.execute(sa.select(*self._columns).where(self._table.c.id == standing_id)).first()
        return None if row is None else self._model(**row._mapping)

    def forget(self, connection: sa.Connection, standing_id: str) -> None:
        """Delete it with what failed."""
        connection.execute(sa.delete(self._failed).where(self._of == standing_id))
        connection.execute(sa.delete(self._table).where(self._table.c.id == standing_id))

    def claim(self, connection: sa.Connection, holder: str, *, now_ms: int, until_ms: int) -> list[_S]:
        """Take those that nobody holds any more, keep those of ours until then; all that are ours and not paused."""
        column = self._table.c
        free = sa.or_(column.holder == holder, column.held_until_ms <= now_ms)
        connection.execute(sa.update(self._table).where(free).values(holder=holder, held_until_ms=until_ms))
        chosen = sa.select(*self._columns).where(column.holder == holder, column.paused.is_(None))
        return [self._model(**row._mapping) for row in connection.execute(chosen)]

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
        failed: _F | None,
        values: Mapping[str, str | int],
    ) -> bool:
        """Move the cursor (one of the values), together with what failed; False where somebody else has it, or it is
        gone.
        """
        column = self._table.c
        ours = sa.and_(column.id == standing_id, column.holder == holder, column.cursor == before)
        if not connection.execute(sa.update(self._table).where(ours).values(dict(values))).rowcount:
            return False
        if failed is not None:
            connection.execute(sa.insert(self._failed).values(**asdict(failed)))
        return True

    def pause(self, connection: sa.Connection, standing_id: str, reason: str | None) -> None:
        """Send nothing more for now, or go on."""
        changing = sa.update(self._table).where(self._table.c.id == standing_id)
        connection.execute(changing.values(paused=reason))

    def failed_of(self, connection: sa.Connection, standing_id: str, limit: int) -> list[_F]:
        """Oldest first."""
        chosen = sa.select(self._failed).where(self._of == standing_id)
        ordered = chosen.order_by(self._failed.c.failed_at_ms, self._failed.c.id).limit(limit)
        return [self._failed_model(**row._mapping) for row in connection.execute(ordered)]

    def drop_failed(self, connection: sa.Connection, failed_id: str) -> None:
        """It was delivered after all."""
        connection.execute(sa.delete(self._failed).where(self._failed.c.id == failed_id))

    def failed_count(self, connection: sa.Connection, standing_id: str) -> int:
        """How many failed."""
        count = sa.select(sa.func.count()).select_from(self._failed).where(self._of == standing_id)
        return int(connection.execute(count).scalar_one())
