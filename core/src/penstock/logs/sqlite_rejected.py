"""Rejected events in a file: kept, listed, marked as replayed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import apsw

from penstock.logs.sqlite_writer import Tx
from penstock.model.batch import RejectedEvent
from penstock.ports.log import RejectedFilter

__all__ = ["keep_rejected", "list_rejected", "mark_replayed", "time_of"]

_COLUMNS = 'id, at_ms, stream, app, statement, code, detail, raw, partition, "offset", replayed_at_ms'


def keep_rejected(tx: Tx, rejected: Sequence[RejectedEvent]) -> None:
    """Insert; an event without an id gets one; an id that is there already is replaced (its replay failed again)."""
    for event in rejected:
        partition, offset = event.position or (None, None)
        tx.connection.execute(
            f"INSERT OR REPLACE INTO rejected ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                event.id or tx.rejected_ids.next(tx.now_ms),
                event.at_ms,
                event.stream,
                event.app,
                event.statement,
                event.code,
                event.detail,
                event.raw,
                partition,
                offset,
                event.replayed_at_ms,
            ),
        )


def mark_replayed(tx: Tx, ids: Sequence[str]) -> None:
    """Mark rejected events of this file as replayed; ids that are not there (any more) are passed over."""
    for id_ in ids:
        tx.connection.execute("UPDATE rejected SET replayed_at_ms = ? WHERE id = ?", (tx.now_ms, id_))


def time_of(connection: apsw.Connection, id_: str) -> int | None:
    """When the event was rejected; None if this file does not have it."""
    found = connection.execute("SELECT at_ms FROM rejected WHERE id = ?", (id_,)).get
    return None if found is None else int(found)


def list_rejected(
    connection: apsw.Connection, where: RejectedFilter, before: tuple[int, str] | None
) -> list[RejectedEvent]:
    """Rejected events of this file, newest first; `before` is (at_ms, id) of the last one of the previous page."""
    conditions = ["TRUE"]
    values: list[str | int] = []
    for column, value in (("stream", where.stream), ("app", where.app), ("code", where.code)):
        if value is not None:
            conditions.append(f"{column} = ?")
            values.append(value)
    if where.ids:
        conditions.append("id IN (SELECT value FROM json_each(?))")
        values.append(json.dumps(list(where.ids)))
    if not where.include_replayed:
        conditions.append("replayed_at_ms IS NULL")
    if before is not None:
        conditions.append("(at_ms, id) < (?, ?)")
        values.extend(before)
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM rejected WHERE {' AND '.join(conditions)} ORDER BY at_ms DESC, id DESC LIMIT ?",
        (*values, where.limit),
    )
    return [_event(row) for row in rows]


def _event(row: tuple[Any, ...]) -> RejectedEvent:
    id_, at_ms, stream, app, statement, code, detail, raw, partition, offset, replayed_at_ms = row
    position = None if partition is None else (partition, offset)
    return RejectedEvent(id_, at_ms, stream, app, statement, code, detail, bytes(raw), position, replayed_at_ms)
