"""Rows of a table in a database of others by key, over SQLAlchemy: PostgreSQL and SQLite, read only.

One query for many keys: `SELECT ... WHERE (k, l) IN (...)`. Values are read in the types that the app declares.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from penstock.lookups.options import JdbcLookupOptions
from penstock.lookups.sqlite_times import time_column
from penstock.model.stream import Column
from penstock.model.types import Kind
from penstock.outlets.places import table_place
from penstock.ports.lookup import Answers, Key, LookupFailed

__all__ = ["JdbcLookup"]

_DETAIL_CHARS_MAX = 500
_TYPES: dict[Kind, Any] = {
    Kind.BOOLEAN: sa.Boolean, Kind.DATE: sa.Date, Kind.TIME: sa.Time, Kind.TIMESTAMP: sa.DateTime,
    Kind.BYTES: sa.LargeBinary, Kind.STRING: sa.String, Kind.DOUBLE: sa.Double, Kind.FLOAT: sa.Double,
    Kind.TINYINT: sa.BigInteger, Kind.SMALLINT: sa.BigInteger, Kind.INT: sa.BigInteger, Kind.BIGINT: sa.BigInteger,
}  # fmt: skip


class JdbcLookup:
    """Implements `ports.lookup.Lookup`. All work is done in threads. `rows_max`: rows of one query."""

    def __init__(
        self, options: JdbcLookupOptions, columns: Sequence[Column], keys: Sequence[str], *, rows_max: int
    ) -> None:
        self._options, self._keys, self._rows_max = options, list(keys), rows_max
        schema, name = table_place(options.table_name)
        in_sqlite = sa.make_url(options.url).get_backend_name() == "sqlite"
        self._table = sa.table(name, *(sa.column(column.name) for column in columns), schema=schema)
        self._columns = {column.name: _column(column, in_sqlite=in_sqlite) for column in columns}
        self._engine: sa.Engine | None = None

    async def find(self, keys: Sequence[Key]) -> Answers:
        """One query."""
        try:
            rows = await asyncio.to_thread(self._read, keys)
        except (sa.exc.SQLAlchemyError, OSError, ValueError) as error:
            raise LookupFailed(f"{self._place}: {_said(error)}") from error
        if len(rows) > self._rows_max:
            raise LookupFailed(f"{self._place} has more than {self._rows_max:,} rows for {len(keys):,} keys; make "
                               "the key narrower, or raise processor.lookups.rows_max")  # fmt: skip
        found: dict[Key, list[Mapping[str, Any]]] = {key: [] for key in keys}
        for row in rows:
            key = tuple(row[name] for name in self._keys)
            if key in found:  # a database may take more values for equal, such as text without regard to case
                found[key].append(row)
        return found

    async def close(self) -> None:
        """Let go of the connections."""
        if self._engine is not None:
            await asyncio.to_thread(self._engine.dispose)

    @property
    def _place(self) -> str:
        return f"table {self._options.table_name} at {self._options.url.partition('?')[0]}"

    def _read(self, keys: Sequence[Key]) -> list[dict[str, Any]]:
        if self._engine is None:
            self._engine = _engine(self._options)
        named = [self._columns[name] for name in self._keys]
        wanted = named[0].in_([key[0] for key in keys]) if len(named) == 1 else sa.tuple_(*named).in_(list(keys))
        shown = [column.label(name) for name, column in self._columns.items()]
        query = sa.select(*shown).select_from(self._table).where(wanted).limit(self._rows_max + 1)
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]


def _column(column: Column, *, in_sqlite: bool) -> sa.ColumnElement[Any]:
    if in_sqlite and column.type.is_timestamp:
        return time_column(column.name, zoned=column.type.kind is Kind.TIMESTAMP_LTZ)
    return sa.column(column.name, _type_of(column))


def _type_of(column: Column) -> Any:
    if column.type.kind is Kind.DECIMAL:
        return sa.Numeric(column.type.precision, column.type.scale)
    if column.type.kind is Kind.TIMESTAMP_LTZ:
        return sa.DateTime(timezone=True)
    return _TYPES.get(column.type.kind, sa.String)()


def _engine(options: JdbcLookupOptions) -> sa.Engine:
    url = sa.make_url(options.url)
    timeout_s = round(options.timeout_s)
    if url.get_backend_name() == "sqlite":
        read_only = url.set(database=f"file:{url.database}", query={"mode": "ro", "uri": "true"})
        return sa.create_engine(read_only, connect_args={"timeout": timeout_s})
    password = None if options.password is None else options.password.get_secret_value()
    limits = f"-c statement_timeout={timeout_s}s -c default_transaction_read_only=on"
    return sa.create_engine(
        url.set(username=options.username, password=password),
        connect_args={"connect_timeout": timeout_s, "options": limits, "application_name": "penstock"},
        pool_pre_ping=True,
    )


def _said(error: Exception) -> str:
    """The driver's words, without the statement and its values."""
    words = str(error.orig) if isinstance(error, sa.exc.DBAPIError) and error.orig else str(error)
    return " ".join(words.split())[:_DETAIL_CHARS_MAX] or type(error).__name__
