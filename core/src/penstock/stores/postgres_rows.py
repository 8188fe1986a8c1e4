"""Rows into PostgreSQL: new ones by COPY, changes as one statement over arrays of columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import polars as pl
import psycopg
import sqlalchemy as sa
import structlog

from penstock.model.stream import Column
from penstock.model.types import Kind
from penstock.stores.metrics import LONG_KEYS
from penstock.stores.settings import StoreSettings
from penstock.stores.values import stored_frame

__all__ = ["PostgresRows"]

_NULL = "\\N"  # unquoted; the text of these two characters is quoted
_ARRAYS: dict[Kind, str] = {
    **dict.fromkeys((Kind.STRING, Kind.ARRAY, Kind.MAP, Kind.ROW), "text[]"),
    Kind.BYTES: "bytea[]",
    Kind.BOOLEAN: "boolean[]",
    Kind.DECIMAL: "numeric[]",
    Kind.FLOAT: "double precision[]",
    Kind.DOUBLE: "double precision[]",
}
_log = structlog.get_logger(__name__)


class PostgresRows:
    """Within the caller's transaction. `columns` are those of the frame, `names` theirs in the table."""

    def __init__(self, connection: sa.Connection, limits: StoreSettings) -> None:
        self._connection, self._limits = connection, limits

    def insert(self, table: sa.Table, columns: Sequence[Column], names: Sequence[str], frame: pl.DataFrame) -> None:
        """New rows, by COPY."""
        plain = stored_frame(frame, columns, escaped=True)
        hexed = [pl.format("\\x{}", pl.col(c.name).bin.encode("hex")) for c in columns if c.type.kind is Kind.BYTES]
        text = plain.with_columns(hexed).write_csv(include_header=False, null_value=_NULL, quote_style="non_numeric")
        statement = f"COPY {_quoted(table.name)} ({_list(names)}) FROM STDIN (FORMAT csv, NULL '{_NULL}')"
        with self._driver().cursor() as cursor, cursor.copy(statement.encode()) as copy:
            copy.write(text)

    def upsert(
        self,
        table: sa.Table,
        columns: Sequence[Column],
        names: Sequence[str],
        frame: pl.DataFrame,
        *,
        key: Sequence[str],
    ) -> None:
        """New rows, or new values where the key is there. Rows whose key is too long for the index are left out."""
        kept = self._with_short_keys(table, columns, names, frame, key=key)
        news = ", ".join(f"{_quoted(n)} = excluded.{_quoted(n)}" for n in names if n not in key)
        self._run(
            f"INSERT INTO {_quoted(table.name)} ({_list(names)}) SELECT * FROM unnest({_arrays(columns)}) "
            f"ON CONFLICT ({_list(key)}) DO {f'UPDATE SET {news}' if news else 'NOTHING'}",
            kept,
            columns,
        )

    def delete(self, table: sa.Table, columns: Sequence[Column], names: Sequence[str], frame: pl.DataFrame) -> None:
        """Rows with these keys."""
        aliases = [f"k{i}" for i in range(len(names))]
        where = " AND ".join(f"t.{_quoted(n)} = gone.{alias}" for n, alias in zip(names, aliases, strict=True))
        self._run(
            f"DELETE FROM {_quoted(table.name)} t USING unnest({_arrays(columns)}) AS gone ({', '.join(aliases)}) "
            f"WHERE {where}",
            frame,
            columns,
        )

    def _run(self, statement: str, frame: pl.DataFrame, columns: Sequence[Column]) -> None:
        plain = stored_frame(frame, columns, escaped=True)
        for part in plain.iter_slices(self._limits.upsert_rows):
            self._connection.exec_driver_sql(statement, tuple(series.to_list() for series in part))

    def _with_short_keys(
        self,
        table: sa.Table,
        columns: Sequence[Column],
        names: Sequence[str],
        frame: pl.DataFrame,
        *,
        key: Sequence[str],
    ) -> pl.DataFrame:
        """An index entry has a page's third at most; one row beyond it would hold up the relation for ever."""
        of_key = [c for c, name in zip(columns, names, strict=True) if name in key]
        sizes = [pl.col(c.name).str.len_bytes() for c in of_key if c.type.kind is Kind.STRING]
        sizes += [pl.col(c.name).bin.size() for c in of_key if c.type.kind is Kind.BYTES]
        if not sizes:
            return frame
        kept = frame.filter(pl.sum_horizontal(sizes) <= self._limits.key_max_bytes)
        if left_out := frame.height - kept.height:
            LONG_KEYS.labels(table.name).inc(left_out)
            _log.warning("rows with a long key left out of the store", table=table.name, rows=left_out)
        return kept

    def _driver(self) -> psycopg.Connection[Any]:
        return cast("psycopg.Connection[Any]", self._connection.connection.driver_connection)


def _quoted(name: str) -> str:
    return f'"{name}"'  # stored names hold neither quotes nor percent signs, see `stored_name`


def _list(names: Sequence[str]) -> str:
    return ", ".join(_quoted(name) for name in names)


def _arrays(columns: Sequence[Column]) -> str:
    return ", ".join(f"%s::{_ARRAYS.get(c.type.kind, 'bigint[]')}" for c in columns)
