"""Reading relations in short transactions with a deadline."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import polars as pl
import sqlalchemy as sa

from penstock.errors import PenstockError
from penstock.model.batch import PENDING_COLUMN
from penstock.model.stream import Column, StreamSpec
from penstock.model.types import BOOLEAN
from penstock.ports.store import Selected, Snapshot
from penstock.stores.registry import read_applied
from penstock.stores.settings import StoreSettings
from penstock.stores.tables import EPOCH, PENDING, is_early, stored_name, table_of
from penstock.stores.values import frame_of

__all__ = ["deadline", "select_rows", "snapshot_rows"]


@contextmanager
def deadline(connection: sa.Connection, over: Callable[[], bool], steps: int) -> Iterator[None]:
    """End statements on this connection once `over()` is true; it is asked every `steps` machine steps."""
    raw = connection.connection.driver_connection
    assert raw is not None  # a checked-out connection
    raw.set_progress_handler(lambda: int(over()), steps)
    try:
        yield
    finally:
        raw.set_progress_handler(None, 0)


def select_rows(
    connection: sa.Connection,
    relation: str,
    statement: sa.Select[tuple[object, ...]],
    *,
    columns: Sequence[Column],
    row_limit: int,
    fetch_rows: int,
) -> Selected:
    """At most `row_limit` rows as a frame, with the position at which they were read."""
    applied = read_applied(connection, relation)
    # SQLite's cursor is a stream already; elsewhere a server-side one must be asked for.
    stream = connection.dialect.name != "sqlite"
    result = connection.execute(statement, execution_options={"stream_results": stream})
    cursor = result.cursor
    assert cursor is not None  # a select has one
    frames: list[pl.DataFrame] = []
    left = row_limit
    while left > 0:
        rows = cursor.fetchmany(min(left, fetch_rows))  # the driver's tuples: SQLAlchemy's rows cost as much again
        if not rows:
            break
        frames.append(frame_of(rows, columns))
        left -= len(rows)
    result.close()
    return Selected(pl.concat(frames) if frames else frame_of([], columns), applied)


def snapshot_rows(connection: sa.Connection, spec: StreamSpec, settings: StoreSettings) -> Snapshot:
    """Every row of a table, in key order."""
    table = table_of(spec)
    if EPOCH in table.c:
        raise PenstockError("unknown_relation", f"'{spec.name}' is a stream: it has no current rows, read its events")
    columns = list(spec.columns)
    stored = [table.c[stored_name(c.name)] for c in columns]
    if is_early(spec):
        columns.append(Column(PENDING_COLUMN, BOOLEAN))
        stored.append(table.c[PENDING])
    found = select_rows(
        connection,
        spec.name,
        sa.select(*stored).order_by(*(table.c[stored_name(key)] for key in spec.primary_key)),
        columns=columns,
        row_limit=settings.snapshot_rows_max + 1,
        fetch_rows=settings.fetch_rows,
    )
    if found.frame.height > settings.snapshot_rows_max:
        raise PenstockError("too_large", f"'{spec.name}' has more than {settings.snapshot_rows_max} rows")
    if found.applied is None:
        raise PenstockError("not_ready", f"'{spec.name}' has not been filled yet", retry_after_s=1.0)
    return Snapshot(found.frame, found.applied)
