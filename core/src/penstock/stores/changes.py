"""Writing changes: compare-and-set of the position first, then the rows. Runs within the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import polars as pl
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect

from penstock.errors import Fenced
from penstock.model.batch import OP_COLUMN, PENDING_COLUMN, Op
from penstock.model.stream import Column, StreamSpec
from penstock.model.types import BIGINT, BOOLEAN
from penstock.ports.store import Apply
from penstock.stores.tables import APPLIED, EPOCH, OFFSET, PARTITION, is_early, stored_name, table_of
from penstock.stores.values import stored_rows

__all__ = ["apply_change", "fold"]


def apply_change(connection: sa.Connection, spec: StreamSpec, change: Apply) -> None:
    """Move the position, then write the rows. Fenced if the position is not the expected one."""
    if change.expected_next is None:
        _first_position(connection, spec, change)
    else:
        _next_position(connection, change)
    if change.frame.height == 0:
        return
    table = table_of(spec)
    if EPOCH in table.c:
        _insert(connection, table, spec, change)
    else:
        _upsert_and_delete(connection, table, spec, change.frame)


def fold(frame: pl.DataFrame, key: Sequence[str]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(rows to upsert, rows to delete): the last change of each key, sorted by key so that pages are touched once.

    A row without a key cannot be kept in a table and is left out; the processor rejects such rows at the sink.
    """
    live = frame.filter(pl.col(OP_COLUMN) != Op.UPDATE_BEFORE.value).drop_nulls(list(key))
    last = live.unique(subset=list(key), keep="last").sort(list(key))
    gone = pl.col(OP_COLUMN) == Op.DELETE.value
    return last.filter(~gone), last.filter(gone).select(list(key))


def _next_position(connection: sa.Connection, change: Apply) -> None:
    values: dict[Any, Any] = {APPLIED.c.next: change.next}
    if change.watermark_ms is not None:
        known = APPLIED.c.watermark_ms
        news = sa.literal(change.watermark_ms)
        values[known] = sa.case((sa.or_(known.is_(None), known < news), news), else_=known)
    moved = connection.execute(
        sa.update(APPLIED)
        .where(
            APPLIED.c.relation == change.relation,
            APPLIED.c.partition == change.partition,
            APPLIED.c.epoch == change.epoch,
            APPLIED.c.next == change.expected_next,
        )
        .values(values)
    )
    if moved.rowcount != 1:
        raise _fenced(change)


def _first_position(connection: sa.Connection, spec: StreamSpec, change: Apply) -> None:
    rows = connection.execute(
        sa.select(APPLIED.c.partition, APPLIED.c.epoch).where(APPLIED.c.relation == change.relation)
    ).all()
    if any(r.epoch > change.epoch or (r.epoch == change.epoch and r.partition == change.partition) for r in rows):
        raise _fenced(change)
    if any(r.epoch < change.epoch for r in rows):  # the stream was recreated: what is here belongs to the old one
        connection.execute(sa.delete(table_of(spec)))
        connection.execute(
            sa.delete(APPLIED).where(APPLIED.c.relation == change.relation, APPLIED.c.epoch < change.epoch)
        )
    connection.execute(
        sa.insert(APPLIED).values(
            relation=change.relation,
            partition=change.partition,
            epoch=change.epoch,
            next=change.next,
            watermark_ms=change.watermark_ms,
        )
    )


def _fenced(change: Apply) -> Fenced:
    return Fenced(
        f"{change.relation} partition {change.partition}: the store is not at {change.expected_next} of epoch "
        f"{change.epoch}; another applier has moved it, read the position again"
    )


def _insert(connection: sa.Connection, table: sa.Table, spec: StreamSpec, change: Apply) -> None:
    if change.frame.height != change.next - change.first:
        raise ValueError(f"{change.relation}: {change.frame.height} rows for offsets [{change.first}, {change.next})")
    placed = change.frame.select(
        pl.lit(change.epoch).alias(EPOCH),
        pl.lit(change.partition).alias(PARTITION),
        pl.int_range(change.first, change.next, dtype=pl.Int64).alias(OFFSET),
        *(pl.col(c.name).alias(_own(c.name)) for c in spec.columns),
    )
    own = [Column(name, BIGINT) for name in (EPOCH, PARTITION, OFFSET)]
    own += [Column(_own(c.name), c.type) for c in spec.columns]
    rows = stored_rows(placed, own, text_decimals=connection.dialect.name == "sqlite")
    connection.exec_driver_sql(_insert_sql(table, connection.dialect), rows)


def _own(name: str) -> str:
    return f"={name}"  # a user's column may be called `_offset`


def _upsert_and_delete(connection: sa.Connection, table: sa.Table, spec: StreamSpec, frame: pl.DataFrame) -> None:
    upserts, deletes = fold(frame, spec.primary_key)
    text_decimals = connection.dialect.name == "sqlite"
    if deletes.height:
        keys = [spec.column(name) for name in spec.primary_key]
        rows = stored_rows(deletes, keys, text_decimals=text_decimals)
        connection.exec_driver_sql(_delete_sql(table, spec.primary_key, connection.dialect), rows)
    if upserts.height:
        columns = list(spec.columns)
        if is_early(spec):
            columns.append(Column(PENDING_COLUMN, BOOLEAN))
        rows = stored_rows(upserts, columns, text_decimals=text_decimals)
        connection.exec_driver_sql(_upsert_sql(table, spec.primary_key, connection.dialect), rows)


@lru_cache(maxsize=1024)
def _insert_sql(table: sa.Table, dialect: Dialect) -> str:
    return str(sa.insert(table).compile(dialect=dialect))


@lru_cache(maxsize=1024)
def _upsert_sql(table: sa.Table, key: tuple[str, ...], dialect: Dialect) -> str:
    keys = [stored_name(name) for name in key]
    rest = [column.name for column in table.c if column.name not in keys]
    statement: sqlite.Insert | postgresql.Insert
    statement = sqlite.insert(table) if dialect.name == "sqlite" else postgresql.insert(table)
    if rest:
        news = statement.excluded
        statement = statement.on_conflict_do_update(index_elements=keys, set_={name: news[name] for name in rest})
    else:
        statement = statement.on_conflict_do_nothing(index_elements=keys)
    return str(statement.compile(dialect=dialect))


@lru_cache(maxsize=1024)
def _delete_sql(table: sa.Table, key: tuple[str, ...], dialect: Dialect) -> str:
    where = [table.c[stored_name(name)] == sa.bindparam(f"k{i}") for i, name in enumerate(key)]
    return str(sa.delete(table).where(*where).compile(dialect=dialect))
