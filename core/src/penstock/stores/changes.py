"""Writing changes: compare-and-set of the position first, then the rows. Runs within the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import polars as pl
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from penstock.errors import Fenced
from penstock.model.batch import OP_COLUMN, PENDING_COLUMN, Op
from penstock.model.stream import Column, StreamSpec
from penstock.model.types import BIGINT, BOOLEAN
from penstock.ports.store import Apply
from penstock.stores.settings import StoreSettings
from penstock.stores.tables import APPLIED, EPOCH, OFFSET, PARTITION, PENDING, is_early, stored_name, table_of

__all__ = ["apply_changes", "fold"]


def apply_changes(
    connection: sa.Connection, specs: Sequence[StreamSpec], changes: Sequence[Apply], *, limits: StoreSettings
) -> None:
    """Move every position, then write the rows. Fenced if a position is not the expected one.

    Positions are moved in one order, whatever the order of the changes: two that apply at once wait for each other
    and do not block each other.
    """
    writer = _writer(connection, limits)
    ordered = sorted(zip(specs, changes, strict=True), key=lambda pair: (pair[1].relation, pair[1].partition))
    for spec, change in ordered:
        if change.expected_next is None:
            _first_position(connection, spec, change)
        else:
            _next_position(connection, change)
    for spec, change in ordered:
        if change.frame.height:
            _write_rows(writer, spec, change)


def fold(frame: pl.DataFrame, key: Sequence[str]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(rows to upsert, rows to delete): the last change of each key, sorted by key so that pages are touched once.

    A row without a key cannot be kept in a table and is left out; the processor rejects such rows at the sink.
    """
    live = frame.filter(pl.col(OP_COLUMN) != Op.UPDATE_BEFORE.value).drop_nulls(list(key))
    last = live.unique(subset=list(key), keep="last").sort(list(key))
    gone = pl.col(OP_COLUMN) == Op.DELETE.value
    return last.filter(~gone), last.filter(gone).select(list(key))


class _RowWriter(Protocol):
    """Writes rows of a table, whose stored names are `names`, in the way that is fastest with an engine."""

    def insert(
        self, table: sa.Table, columns: Sequence[Column], names: Sequence[str], frame: pl.DataFrame
    ) -> None: ...

    def upsert(
        self,
        table: sa.Table,
        columns: Sequence[Column],
        names: Sequence[str],
        frame: pl.DataFrame,
        *,
        key: Sequence[str],
    ) -> None: ...

    def delete(
        self, table: sa.Table, columns: Sequence[Column], names: Sequence[str], frame: pl.DataFrame
    ) -> None: ...


def _writer(connection: sa.Connection, limits: StoreSettings) -> _RowWriter:
    if connection.dialect.name == "sqlite":
        from penstock.stores.sqlite_rows import SqliteRows

        return SqliteRows(connection)
    from penstock.stores.postgres_rows import PostgresRows

    return PostgresRows(connection, limits)


def _write_rows(writer: _RowWriter, spec: StreamSpec, change: Apply) -> None:
    table = table_of(spec)
    if EPOCH in table.c:
        _append(writer, table, spec, change)
        return
    upserts, deletes = fold(change.frame, spec.primary_key)
    key = [stored_name(name) for name in spec.primary_key]
    if deletes.height:
        writer.delete(table, [spec.column(name) for name in spec.primary_key], key, deletes)
    if upserts.height:
        columns = list(spec.columns)
        names = [stored_name(column.name) for column in columns]
        if is_early(spec):
            columns.append(Column(PENDING_COLUMN, BOOLEAN))
            names.append(PENDING)
        writer.upsert(table, columns, names, upserts, key=key)


def _append(writer: _RowWriter, table: sa.Table, spec: StreamSpec, change: Apply) -> None:
    own = (EPOCH, PARTITION, OFFSET)
    placed = change.frame.select(
        pl.lit(change.epoch).alias(EPOCH),
        pl.lit(change.partition).alias(PARTITION),
        change.row_offsets().alias(OFFSET),
        *(pl.col(c.name).alias(_own(c.name)) for c in spec.columns),
    )
    columns = [*(Column(name, BIGINT) for name in own), *(Column(_own(c.name), c.type) for c in spec.columns)]
    writer.insert(table, columns, [*own, *(stored_name(c.name) for c in spec.columns)], placed)


def _own(name: str) -> str:
    return f"={name}"  # a user's column may be called `_offset`


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
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    placed = connection.execute(
        insert(APPLIED)
        .values(
            relation=change.relation,
            partition=change.partition,
            epoch=change.epoch,
            next=change.next,
            watermark_ms=change.watermark_ms,
        )
        .on_conflict_do_nothing()  # another applier was first, and has committed since we looked
        .returning(APPLIED.c.next)
    )
    if placed.first() is None:
        raise _fenced(change)


def _fenced(change: Apply) -> Fenced:
    return Fenced(
        f"{change.relation} partition {change.partition}: the store is not at {change.expected_next} of epoch "
        f"{change.epoch}; another applier has moved it, read the position again"
    )
