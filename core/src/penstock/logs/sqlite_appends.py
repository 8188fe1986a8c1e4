"""Batches in a file: written by the writing thread, read by readers."""

from __future__ import annotations

from collections.abc import Sequence

import apsw

from penstock.errors import LogUnavailable
from penstock.logs.admissible import follow
from penstock.logs.sqlite_rejected import keep_rejected, mark_replayed
from penstock.logs.sqlite_writer import Effects, Tx
from penstock.model.batch import Batch, Encoding, NewBatch, RejectedEvent
from penstock.model.position import Position
from penstock.ports.log import Head

__all__ = ["append_sources", "read_batches", "read_head", "read_ids", "write_batches"]

_INSERT = (
    "INSERT INTO batches (stream, partition, epoch, first, next, encoding, min_time_ms, max_time_ms, watermark_ms, "
    "appended_at_ms, payload, trace) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_SELECT = (
    "SELECT first, next, encoding, payload, min_time_ms, max_time_ms, watermark_ms, appended_at_ms, NULL, "
    "coalesce(trace, '') FROM batches WHERE stream = ? AND partition = ? AND epoch = ? AND next > ? "
    "ORDER BY next LIMIT ?"
)
_SELECT_FORMAT_1 = _SELECT.replace("trace", "NULL")


def append_sources(
    tx: Tx, batches: Sequence[tuple[NewBatch, int]], rejected: Sequence[RejectedEvent], replayed: Sequence[str]
) -> Effects:
    """What ingest appends: batches with the epoch that the catalog had, admission's rejects, replayed marks."""
    for batch, epoch in batches:
        if tx.heads.get(batch.stream, batch.partition, epoch=epoch).epoch > epoch:
            raise LogUnavailable(f"stream '{batch.stream}' was just recreated; send again")
    effects = write_batches(tx, batches)
    for batch, epoch in batches:
        if batch.ids:
            tx.connection.execute(
                "INSERT INTO ids (stream, epoch, at_ms, hashes) VALUES (?, ?, ?, ?)",
                (batch.stream, epoch, tx.now_ms, batch.ids),
            )
    keep_rejected(tx, rejected)
    mark_replayed(tx, replayed)
    return effects


def write_batches(tx: Tx, batches: Sequence[tuple[NewBatch, int]]) -> Effects:
    """Give batches their offsets and insert them. `value` is the list of positions after each."""
    effects = Effects()
    positions: list[Position] = []
    for batch, epoch in batches:
        key = (batch.stream, batch.partition)
        before = tx.heads.get(*key, epoch=epoch)
        head, stored = follow(before, batch, now_ms=tx.now_ms)
        positions.append(Position(epoch, batch.partition, head.next))
        if head == before:
            continue
        tx.heads.put(*key, head)
        effects.heads[key] = head
        effects.changed.add(batch.stream)
        if stored is not None:
            effects.batches.append(stored)
            _insert(tx.connection, stored)
    effects.value = positions
    return effects


def read_batches(
    connection: apsw.Connection,
    stream: str,
    partition: int,
    *,
    epoch: int,
    offset: int,
    max_bytes: int,
    max_batches: int,
) -> list[Batch]:
    """Batches of `epoch` that hold events at or after `offset`, in one short read transaction."""
    out: list[Batch] = []
    size_bytes = 0
    cursor = _select(connection, (stream, partition, epoch, offset, max(1, max_batches)))
    try:
        for first, next_offset, encoding, payload, *rest in cursor:
            size_bytes += len(payload)
            if out and size_bytes > max_bytes:
                break
            place = (stream, partition, epoch, first, next_offset)
            out.append(Batch(*place, Encoding(encoding), bytes(payload), *rest))
    finally:
        cursor.close()  # ends the read transaction: a reader that stays open lets the write-ahead log grow
    return out


def read_head(connection: apsw.Connection, stream: str, partition: int, *, epoch: int) -> Head:
    """The head of a partition as the file has it, brought up to `epoch`."""
    row = connection.execute(
        "SELECT epoch, first, next, watermark_ms FROM heads WHERE stream = ? AND partition = ?", (stream, partition)
    ).get
    if row is None:
        return Head(epoch, 0, 0, None)
    head = Head(*row)
    return head if head.epoch >= epoch else Head(epoch, head.next, head.next, None)


def read_ids(
    connection: apsw.Connection, stream: str, *, epoch: int, since_ms: int, max_bytes: int
) -> list[tuple[int, bytes]]:
    """(appended_at_ms, hashes) since then, oldest first; where there is more than `max_bytes`, the newest of it."""
    newest_first: list[tuple[int, bytes]] = []
    size_bytes = 0
    cursor = connection.execute(
        "SELECT at_ms, hashes FROM ids WHERE stream = ? AND at_ms >= ? AND epoch = ? ORDER BY at_ms DESC, id DESC",
        (stream, since_ms, epoch),
    )
    try:
        for at_ms, hashes in cursor:
            size_bytes += len(hashes)
            if size_bytes > max_bytes:
                break
            newest_first.append((at_ms, bytes(hashes)))
    finally:
        cursor.close()
    return newest_first[::-1]


def _select(connection: apsw.Connection, place: tuple[str, int, int, int, int]) -> apsw.Cursor:
    try:
        return connection.execute(_SELECT, place)
    except apsw.SQLError as error:
        if "no such column: trace" not in str(error):
            raise
        # Of format 1: its writer, an older process or one that has yet to start, has not brought it up to date.
        return connection.execute(_SELECT_FORMAT_1, place)


def _insert(connection: apsw.Connection, batch: Batch) -> None:
    connection.execute(
        _INSERT,
        (
            batch.stream,
            batch.partition,
            batch.epoch,
            batch.first,
            batch.next,
            batch.encoding.value,
            batch.min_time_ms,
            batch.max_time_ms,
            batch.watermark_ms,
            batch.appended_at_ms,
            batch.payload,
            batch.trace or None,
        ),
    )
