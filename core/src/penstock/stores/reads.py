"""Reading relations in short transactions with a deadline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl
import sqlalchemy as sa

from penstock.errors import PenstockError
from penstock.model.batch import PENDING_COLUMN
from penstock.model.stream import Column, StreamSpec
from penstock.model.types import BOOLEAN, Kind
from penstock.ports.store import Queried, Selected, Snapshot
from penstock.stores.database import ReadDeadline
from penstock.stores.registry import read_applied
from penstock.stores.settings import StoreSettings
from penstock.stores.tables import EPOCH, PENDING, is_early, stored_name, table_of
from penstock.stores.values import frame_of, unescaped_frame

__all__ = ["query_rows", "select_rows", "snapshot_rows"]

_QUERY_FIRST_ROWS = 10  # of a caller's query: how large they are is not known yet
_QUERY_FETCH_ROWS = 500  # at a time


def select_rows(
    connection: sa.Connection,
    relation: str,
    statement: sa.Select[tuple[object, ...]],
    *,
    deadline: ReadDeadline,
    columns: Sequence[Column],
    row_limit: int,
    fetch_rows: int,
) -> Selected:
    """At most `row_limit` rows as a frame, with the position at which they were read."""
    applied = read_applied(connection, relation)
    # SQLite's cursor is a stream already; PostgreSQL's must be asked for, which a page is not worth.
    elsewhere = connection.dialect.name != "sqlite"
    stream = elsewhere and row_limit > fetch_rows
    result = connection.execute(statement, execution_options={"yield_per": fetch_rows} if stream else {})
    cursor = result.cursor
    assert cursor is not None  # a select has one
    # The driver's tuples: SQLAlchemy's rows cost as much again. A streamed result reads ahead: it must be asked.
    fetch = result.fetchmany if stream else cursor.fetchmany
    frames: list[pl.DataFrame] = []
    left = row_limit
    while left > 0:
        rows = fetch(min(left, fetch_rows))
        if not rows:
            break
        frame = frame_of(rows, columns)
        frames.append(unescaped_frame(frame, columns) if elsewhere else frame)
        left -= len(rows)
        if deadline.over():  # the server's timeout is for each statement, fetching is several
            raise PenstockError(
                "query_timeout", f"reading '{relation}' took longer than allowed: narrow it", retry_after_s=2.0
            )
    result.close()
    return Selected(pl.concat(frames) if frames else frame_of([], columns), applied)


def query_rows(
    connection: sa.Connection,
    statement: sa.Select[tuple[object, ...]],
    *,
    deadline: ReadDeadline,
    columns: Sequence[Column],
    row_limit: int,
    size_limit_bytes: int,
) -> Queried:
    """At most `row_limit` rows as a frame; fewer where they are as large as `size_limit_bytes`."""
    elsewhere = connection.dialect.name != "sqlite"
    # SQLite's cursor is a stream already; PostgreSQL's must be asked for; its result reads ahead.
    result = connection.execute(statement, execution_options={"yield_per": _QUERY_FETCH_ROWS} if elsewhere else {})
    cursor = result.cursor
    assert cursor is not None  # a select has one
    frames: list[pl.DataFrame] = []
    long = _long_places(columns)
    count = size_bytes = 0
    while count <= row_limit and size_bytes <= size_limit_bytes:
        if elsewhere:
            rows: Sequence[Any] = result.fetchmany(_next_rows(count, size_bytes, size_limit_bytes=size_limit_bytes))
        else:
            rows = _rows_within(cursor, size_limit_bytes - size_bytes, long=long)
        if not rows:
            break
        try:
            frame = frame_of(rows, columns)
        except (TypeError, OverflowError, ValueError) as error:  # SQLite goes on in REAL where BIGINT ends
            raise PenstockError(
                "out_of_range", "a value of the result does not fit its type; CAST to DOUBLE or DECIMAL first"
            ) from error
        frames.append(unescaped_frame(frame, columns) if elsewhere else frame)
        count += len(rows)
        size_bytes += int(frame.estimated_size())
        if deadline.over():  # the server's timeout is for each statement, fetching is several
            raise PenstockError("query_timeout", "the query took longer than allowed: narrow it", retry_after_s=2.0)
    result.close()
    found = pl.concat(frames) if frames else frame_of([], columns)
    truncated = count > row_limit or size_bytes > size_limit_bytes
    return Queried(found.head(row_limit), truncated)


def snapshot_rows(
    connection: sa.Connection, spec: StreamSpec, settings: StoreSettings, *, deadline: ReadDeadline
) -> Snapshot:
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
        deadline=deadline,
        columns=columns,
        row_limit=settings.snapshot_rows_max + 1,
        fetch_rows=settings.fetch_rows,
    )
    if found.frame.height > settings.snapshot_rows_max:
        raise PenstockError("too_large", f"'{spec.name}' has more than {settings.snapshot_rows_max} rows")
    if found.applied is None:
        raise PenstockError("not_ready", f"'{spec.name}' has not been filled yet", retry_after_s=1.0)
    return Snapshot(found.frame, found.applied)


def _next_rows(count: int, size_bytes: int, *, size_limit_bytes: int) -> int:
    """How many rows to ask PostgreSQL for: a few at first, then as many as should fit by those that came."""
    if not size_bytes:
        return _QUERY_FIRST_ROWS if not count else _QUERY_FETCH_ROWS
    fitting = (size_limit_bytes - size_bytes) * count // size_bytes + 1
    return max(1, min(_QUERY_FETCH_ROWS, fitting))


def _rows_within(cursor: Any, size_limit_bytes: int, *, long: Sequence[int]) -> list[tuple[Any, ...]]:
    """The next rows; the last one is that whose values at the places `long` pass the limit.

    A query may make texts of many megabytes of short ones, row by row: some hundreds of them would fill the memory
    before anybody looks.
    """
    rows: list[tuple[Any, ...]] = []
    size_bytes = 0
    for row in cursor:
        rows.append(row)
        for place in long:
            value = row[place]
            size_bytes += len(value) if isinstance(value, str | bytes) else 0
        if size_bytes > size_limit_bytes or len(rows) >= _QUERY_FETCH_ROWS:
            break
    return rows


def _long_places(columns: Sequence[Column]) -> list[int]:
    """Places of columns whose values have no largest size."""
    return [i for i, c in enumerate(columns) if c.type.kind in (Kind.STRING, Kind.BYTES) or c.type.is_nested]
