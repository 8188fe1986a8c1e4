"""Rows to a table in a database of others, over SQLAlchemy: PostgreSQL and SQLite. EXACTLY_ONCE.

A table with a primary key is upserted and deleted by it, one without is inserted into. How far it was brought is in
the table `penstock_deliveries` (made where it is missing), moved by compare-and-set in the same transaction: what is
delivered again, or by somebody who has been overtaken, changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import polars as pl
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from penstock.codecs.rows import nested_texts
from penstock.model.batch import OP_COLUMN, Op
from penstock.model.stream import Relation, StreamSpec
from penstock.outlets.options import JdbcOutletOptions
from penstock.outlets.places import table_place
from penstock.outlets.rows import folded
from penstock.ports.outlet import BatchRefused, Guarantee, OutBatch, OutletUnavailable, Reached, RefusedRow

__all__ = ["POSITIONS", "JdbcOutlet"]

#: Where the other side keeps how far it was brought.
POSITIONS = sa.Table(
    "penstock_deliveries",
    sa.MetaData(),
    sa.Column("task", sa.String(200), primary_key=True),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("next", sa.BigInteger, nullable=False),
)
#: What is wrong with rows, in the words of drivers. All else is about the place: the table, the user, the network.
_OF_ROWS = (sa.exc.IntegrityError, sa.exc.DataError, OverflowError)
_DETAIL_CHARS_MAX = 500

Rows = list[dict[str, Any]]


class JdbcOutlet:
    """Implements `ports.outlet.Outlet`. All work is done in threads, one at a time."""

    def __init__(self, spec: StreamSpec, options: JdbcOutletOptions, *, task: str) -> None:
        self._spec, self._options, self._task = spec, options, task
        schema, name = table_place(options.table_name)
        self._names = [column.name for column in spec.columns]
        self._table = sa.table(name, *(sa.column(column) for column in self._names), schema=schema)
        self._engine: sa.Engine | None = None
        self._reached: Reached | None = None

    @property
    def guarantee(self) -> Guarantee:
        """Exactly once, as rows and position are one transaction."""
        return Guarantee.EXACTLY_ONCE

    async def open(self) -> Reached | None:
        """Connect, see that the table has the columns, and read how far it was brought."""
        self._reached = await self._in_thread(self._open)
        return self._reached

    async def deliver(self, batch: OutBatch) -> Sequence[RefusedRow]:
        """One transaction."""
        await self._in_thread(self._write, batch)
        self._reached = Reached(batch.epoch, batch.next)
        return []

    async def close(self) -> None:
        """Let go of the connection."""
        if self._engine is not None:
            await asyncio.to_thread(self._engine.dispose)

    async def _in_thread(self, work: Callable[..., Any], *values: object) -> Any:
        """Errors of the driver in the port's words."""
        try:
            return await asyncio.to_thread(work, *values)
        except _OF_ROWS as error:
            raise BatchRefused(f"{self._place}: {_said(error)}") from error
        except (sa.exc.SQLAlchemyError, OSError) as error:
            raise OutletUnavailable(f"{self._place}: {_said(error)}") from error

    @property
    def _place(self) -> str:
        return f"table {self._options.table_name} at {self._options.url.partition('?')[0]}"

    def _open(self) -> Reached | None:
        try:
            self._engine = engine = _engine(self._options)
        except ImportError as error:
            raise OutletUnavailable(f"{self._place} needs the extra 'postgres' ({error}); install it") from error
        with engine.begin() as connection:
            known = {column["name"]: column for column in sa.inspect(connection).get_columns(
                self._table.name, schema=self._table.schema)}  # fmt: skip
            missing = [name for name in self._names if name not in known]
            if missing:
                raise OutletUnavailable(
                    f"{self._place} has no column {', '.join(missing)}; add it, or leave it out here"
                )
            POSITIONS.create(connection, checkfirst=True)
            row = connection.execute(
                sa.select(POSITIONS.c.epoch, POSITIONS.c.next).where(POSITIONS.c.task == self._task)
            ).one_or_none()
        return None if row is None else Reached(int(row.epoch), int(row.next))

    def _write(self, batch: OutBatch) -> None:
        assert self._engine is not None, "opened first"
        with self._engine.begin() as connection:
            self._move(connection, batch)
            if self._spec.relation is not Relation.TABLE:
                connection.execute(sa.insert(self._table), self._rows(self._plain(batch.frame).to_dicts()))
                return
            changes = self._plain(folded(batch, self._spec)).to_dicts()
            if gone := [row for row in changes if row[OP_COLUMN] == Op.DELETE]:
                connection.execute(self._deletion(), self._keys(gone))
            if there := [row for row in changes if row[OP_COLUMN] != Op.DELETE]:
                connection.execute(self._upsert(connection), self._rows(there))

    def _move(self, connection: sa.Connection, batch: OutBatch) -> None:
        after = {"epoch": batch.epoch, "next": batch.next}
        if self._reached is None:
            try:
                connection.execute(sa.insert(POSITIONS), {"task": self._task, **after})
            except sa.exc.IntegrityError:
                done = False
            else:
                done = True
        else:
            before = {"b_task": self._task, "b_epoch": self._reached.epoch, "b_next": self._reached.next}
            of = POSITIONS.c
            here = [of[name] == sa.bindparam(f"b_{name}") for name in ("task", "epoch", "next")]
            moved = sa.update(POSITIONS).where(*here).values(**after)
            done = connection.execute(moved, before).rowcount == 1
        if not done:
            raise OutletUnavailable(f"{self._place} was brought on by another delivery of '{self._task}' meanwhile")

    def _deletion(self) -> sa.Delete:
        of = self._table.c
        return sa.delete(self._table).where(
            *(of[name] == sa.bindparam(f"k_{name}") for name in self._spec.primary_key)
        )

    def _upsert(self, connection: sa.Connection) -> Any:
        written: Any = (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(self._table)
        key = list(self._spec.primary_key)
        rest = {name: written.excluded[name] for name in self._names if name not in key}
        if not rest:
            return written.on_conflict_do_nothing(index_elements=key)
        return written.on_conflict_do_update(index_elements=key, set_=rest)

    def _plain(self, frame: pl.DataFrame) -> pl.DataFrame:
        """ARRAY, MAP and ROW as JSON text."""
        nested = [column for column in self._spec.columns if column.type.is_nested]
        return frame.with_columns(nested_texts(frame[column.name], column.type) for column in nested)

    def _rows(self, rows: Rows) -> Rows:
        value = self._value
        return [{name: value(row[name]) for name in self._names} for row in rows]

    def _keys(self, rows: Rows) -> Rows:
        return [{f"k_{name}": self._value(row[name]) for name in self._spec.primary_key} for row in rows]

    @property
    def _value(self) -> Callable[[Any], Any]:
        assert self._engine is not None, "opened first"
        return _sqlite_value if self._engine.dialect.name == "sqlite" else _as_it_is


def _engine(options: JdbcOutletOptions) -> sa.Engine:
    url = sa.make_url(options.url)
    timeout_s = round(options.timeout_s)
    if url.get_backend_name() == "sqlite":
        return sa.create_engine(url, connect_args={"timeout": timeout_s}, pool_size=1)
    password = None if options.password is None else options.password.get_secret_value()
    limits = f"-c statement_timeout={timeout_s}s -c lock_timeout={timeout_s}s"
    return sa.create_engine(
        url.set(username=options.username, password=password),
        connect_args={"connect_timeout": timeout_s, "options": limits, "application_name": "penstock"},
        pool_size=1,
    )


def _as_it_is(value: Any) -> Any:
    return value


def _sqlite_value(value: Any) -> Any:
    """What SQLite has no type for, as text that its functions read; DECIMAL is a number in a column of numbers."""
    match value:
        case datetime():
            return value.replace(tzinfo=None).isoformat(" ", "milliseconds")
        case date() | time():
            return value.isoformat()
        case Decimal():
            return f"{value:f}"
        case _:
            return value


def _said(error: Exception) -> str:
    """The driver's words, without the statement and its values."""
    words = str(error.orig) if isinstance(error, sa.exc.DBAPIError) and error.orig else str(error)
    return " ".join(words.split())[:_DETAIL_CHARS_MAX] or type(error).__name__
