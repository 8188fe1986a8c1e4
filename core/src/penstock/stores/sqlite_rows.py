"""Rows into SQLite: one prepared statement for all rows, which its driver runs without going back to Python."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import sqlalchemy as sa

from penstock.model.stream import Column
from penstock.stores.values import sqlite_rows

__all__ = ["SqliteRows"]


class SqliteRows:
    """Within the caller's transaction. `columns` are those of the frame, `names` theirs in the table."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def insert(self, table: sa.Table, columns: Sequence[Column], names: Sequence[str], frame: pl.DataFrame) -> None:
        """New rows."""
        self._run(f"INSERT INTO {_quoted(table.name)} ({_list(names)}) VALUES ({_marks(names)})", frame, columns)

    def upsert(
        self,
        table: sa.Table,
        columns: Sequence[Column],
        names: Sequence[str],
        frame: pl.DataFrame,
        *,
        key: Sequence[str],
    ) -> None:
        """New rows, or new values where the key is there."""
        news = ", ".join(f"{_quoted(n)} = excluded.{_quoted(n)}" for n in names if n not in key)
        self._run(
            f"INSERT INTO {_quoted(table.name)} ({_list(names)}) VALUES ({_marks(names)}) "
            f"ON CONFLICT ({_list(key)}) DO {f'UPDATE SET {news}' if news else 'NOTHING'}",
            frame,
            columns,
        )

    def delete(self, table: sa.Table, columns: Sequence[Column], names: Sequence[str], frame: pl.DataFrame) -> None:
        """Rows with these keys."""
        where = " AND ".join(f"{_quoted(name)} = ?" for name in names)
        self._run(f"DELETE FROM {_quoted(table.name)} WHERE {where}", frame, columns)

    def _run(self, statement: str, frame: pl.DataFrame, columns: Sequence[Column]) -> None:
        self._connection.exec_driver_sql(statement, sqlite_rows(frame, columns))


def _quoted(name: str) -> str:
    return f'"{name}"'  # stored names hold no quotes, see `stored_name`


def _list(names: Sequence[str]) -> str:
    return ", ".join(_quoted(name) for name in names)


def _marks(names: Sequence[str]) -> str:
    return ", ".join("?" for _ in names)
