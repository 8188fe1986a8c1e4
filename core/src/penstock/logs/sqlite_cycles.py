"""Cycles of an app in processor.db: take over (a new term), commit (compare-and-set), positions."""

from __future__ import annotations

from collections.abc import Iterable

import apsw

from penstock.errors import Fenced, PenstockError
from penstock.logs.admissible import check_derived
from penstock.logs.sqlite_appends import write_batches
from penstock.logs.sqlite_rejected import keep_rejected, mark_replayed
from penstock.logs.sqlite_writer import Effects, Tx
from penstock.model.task import app_of
from penstock.ports.log import AppRecord, Consumed, DeltaKind, Restored, StateDelta, Transaction

__all__ = ["acquire", "commit", "least_positions", "read_positions"]

StreamPartition = tuple[str, int]


def acquire(tx: Tx, app: str) -> Effects:
    """A new term, with positions and state as of the same transaction."""
    connection = tx.connection
    deployed = connection.execute("SELECT * FROM apps WHERE name = ?", (app_of(app),)).fetchone()
    if deployed is None:
        raise PenstockError("unknown_app", f"there is no app '{app_of(app)}'; deploy it first")
    term = connection.execute(
        "INSERT INTO terms VALUES (?, 1) ON CONFLICT DO UPDATE SET term = term + 1 RETURNING term", (app,)
    ).get
    deltas: dict[str, list[StateDelta]] = {}
    rows = connection.execute("SELECT operator, kind, payload FROM deltas WHERE app = ? ORDER BY id", (app,))
    for operator, kind, payload in rows:
        deltas.setdefault(operator, []).append(StateDelta(operator, DeltaKind(kind), payload))
    name, version, sql, at_ms = deployed
    record = AppRecord(str(name), int(str(version)), str(sql), int(str(at_ms)))
    return Effects(value=Restored(int(str(term)), read_positions(connection, app), deltas, record))


def commit(tx: Tx, transaction: Transaction) -> Effects:
    """One cycle: first the compare-and-set, then everything else."""
    _compare_and_set(tx.connection, transaction)
    _store_deltas(tx.connection, transaction)
    state = tx.catalog.state
    appends = [(batch, check_derived(state, batch, app=transaction.app)) for batch in transaction.appends]
    effects = write_batches(tx, appends)
    keep_rejected(tx, transaction.rejected)
    mark_replayed(tx, transaction.replayed)
    return effects


def read_positions(connection: apsw.Connection, app: str) -> dict[StreamPartition, int]:
    """Committed input positions of an app."""
    rows = connection.execute("SELECT stream, partition, next FROM positions WHERE app = ?", (app,))
    return {(stream, partition): next_offset for stream, partition, next_offset in rows}


def least_positions(connection: apsw.Connection) -> dict[StreamPartition, int]:
    """Per partition, the least committed position over all apps: what retention must not pass."""
    rows = connection.execute("SELECT stream, partition, min(next) FROM positions GROUP BY stream, partition")
    return {(stream, partition): next_offset for stream, partition, next_offset in rows}


def _compare_and_set(connection: apsw.Connection, transaction: Transaction) -> None:
    app = transaction.app
    for consumed in transaction.consumed:
        if not _move(connection, transaction, consumed):
            raise Fenced(
                f"app '{app}' is no longer at {consumed.expected} of {consumed.stream}/{consumed.partition}, or a "
                f"term after {transaction.term} moved it"
            )
    term = connection.execute("SELECT term FROM terms WHERE app = ?", (app,)).get
    if term != transaction.term:
        raise Fenced(f"app '{app}' runs under term {term}, not {transaction.term}")


def _move(connection: apsw.Connection, transaction: Transaction, consumed: Consumed) -> bool:
    key = (transaction.app, consumed.stream, consumed.partition)
    if consumed.expected is None:
        connection.execute(
            "INSERT INTO positions VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (*key, consumed.next, transaction.term),
        )
    else:
        connection.execute(
            "UPDATE positions SET next = ?, term = ? WHERE app = ? AND stream = ? AND partition = ? AND next = ? "
            "AND term <= ?",
            (consumed.next, transaction.term, *key, consumed.expected, transaction.term),
        )
    return connection.changes() == 1


def _store_deltas(connection: apsw.Connection, transaction: Transaction) -> None:
    _forget(connection, transaction.app, transaction.dropped_operators)
    for delta in transaction.deltas:
        if delta.kind is DeltaKind.REPLACE:
            _forget(connection, transaction.app, (delta.operator,))
        connection.execute(
            "INSERT INTO deltas (app, operator, kind, payload) VALUES (?, ?, ?, ?)",
            (transaction.app, delta.operator, delta.kind.value, delta.payload),
        )


def _forget(connection: apsw.Connection, app: str, operators: Iterable[str]) -> None:
    for operator in operators:
        connection.execute("DELETE FROM deltas WHERE app = ? AND operator = ?", (app, operator))
