"""Deleting from a file, a chunk a transaction, so that no append waits long behind it."""

from __future__ import annotations

from dataclasses import replace

from penstock.logs.retention import expired
from penstock.logs.sqlite_writer import Effects, Tx

__all__ = ["purge_chunk", "trim_chunk", "trim_ids", "trim_rejected"]


def trim_chunk(
    tx: Tx, stream: str, partition: int, *, epoch: int, floor: int | None, before_ms: int, batches: int
) -> Effects:
    """Delete at most `batches` expired batches below `floor`. `value` is (events, batches deleted)."""
    rows = tx.connection.execute(
        "SELECT next, appended_at_ms FROM batches WHERE stream = ? AND partition = ? AND epoch = ? "
        "ORDER BY next LIMIT ?",
        (stream, partition, epoch, batches),
    )
    gone = expired([(int(n), int(at)) for n, at in rows], floor=floor, before_ms=before_ms)
    if not gone:
        return Effects(value=(0, 0))
    deleted = tx.connection.execute(
        "DELETE FROM batches WHERE stream = ? AND partition = ? AND epoch = ? AND next <= ? RETURNING next - first",
        (stream, partition, epoch, gone[-1]),
    ).fetchall()
    before = tx.heads.get(stream, partition, epoch=epoch)
    head = replace(before, first=gone[-1])
    tx.heads.put(stream, partition, head)
    return Effects(
        value=(sum(int(str(count)) for (count,) in deleted), len(deleted)), heads={(stream, partition): head}
    )


def purge_chunk(tx: Tx, stream: str, partition: int, *, below_epoch: int, batches: int) -> Effects:
    """Delete at most `batches` batches of epochs before `below_epoch`. `value` is how many went."""
    tx.connection.execute(
        "DELETE FROM batches WHERE id IN (SELECT id FROM batches WHERE stream = ? AND partition = ? AND epoch < ? "
        "LIMIT ?)",
        (stream, partition, below_epoch, batches),
    )
    return Effects(value=tx.connection.changes())


def trim_ids(tx: Tx, stream: str, *, below_epoch: int, before_ms: int, batches: int) -> Effects:
    """Delete hashes of dedupe keys that are too old or of an earlier epoch. `value` is how many rows went."""
    tx.connection.execute(
        "DELETE FROM ids WHERE id IN (SELECT id FROM ids WHERE stream = ? AND (at_ms < ? OR epoch < ?) LIMIT ?)",
        (stream, before_ms, below_epoch, batches),
    )
    return Effects(value=tx.connection.changes())


def trim_rejected(tx: Tx, *, before_ms: int, rows: int) -> Effects:
    """Delete rejected events that are too old. `value` is how many went."""
    tx.connection.execute(
        "DELETE FROM rejected WHERE id IN (SELECT id FROM rejected WHERE at_ms < ? ORDER BY at_ms LIMIT ?)",
        (before_ms, rows),
    )
    return Effects(value=tx.connection.changes())
