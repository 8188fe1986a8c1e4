"""The catalog in processor.db: apps, streams, epochs."""

from __future__ import annotations

from collections.abc import Sequence

from penstock.logs import catalog_change
from penstock.logs.catalog_change import CatalogChange
from penstock.logs.specs import spec_text
from penstock.logs.sqlite_schema import set_meta
from penstock.logs.sqlite_writer import Effects, Tx
from penstock.logs.ticks import CATALOG
from penstock.model.stream import Relation, StreamSpec
from penstock.model.task import app_of

__all__ = ["remove", "replace"]


def replace(tx: Tx, app: str, *, sql: str, streams: Sequence[StreamSpec], expected_version: int | None) -> Effects:
    """Deploy or replace an app. `value` is its record."""
    change = catalog_change.put_app(
        tx.catalog.state, app, sql=sql, streams=streams, expected_version=expected_version, now_ms=tx.now_ms
    )
    record = change.state.catalog.apps[app]
    tx.connection.execute(
        "INSERT OR REPLACE INTO apps VALUES (?, ?, ?, ?)", (app, record.version, sql, record.deployed_at_ms)
    )
    effects = _store(tx, app, change)
    effects.value = record
    return effects


def remove(tx: Tx, app: str, *, expected_version: int | None) -> Effects:
    """Remove an app with its streams, positions and state; an instance of it that still runs is fenced."""
    change = catalog_change.delete_app(tx.catalog.state, app, expected_version=expected_version)
    tx.connection.execute("DELETE FROM apps WHERE name = ?", (app,))
    known = tx.connection.execute("SELECT app FROM terms").fetchall()
    for task in sorted({app, *(str(name) for (name,) in known if app_of(str(name)) == app)}):
        tx.connection.execute("DELETE FROM positions WHERE app = ?", (task,))
        tx.connection.execute("DELETE FROM deltas WHERE app = ?", (task,))
        tx.connection.execute("INSERT INTO terms VALUES (?, 1) ON CONFLICT DO UPDATE SET term = term + 1", (task,))
    return _store(tx, app, change)


def _store(tx: Tx, app: str, change: CatalogChange) -> Effects:
    state = change.state
    connection = tx.connection
    connection.execute("DELETE FROM streams WHERE app = ?", (app,))
    effects = Effects(catalog=state, changed={CATALOG, *change.changed})
    for spec in state.catalog.streams.values():
        if spec.app == app:
            connection.execute("INSERT INTO streams VALUES (?, ?, ?)", (spec.name, app, spec_text(spec)))
            connection.execute(
                "DELETE FROM positions WHERE stream = ? AND partition >= ?", (spec.name, spec.partitions)
            )
    for name in change.dropped + change.moved:
        connection.execute("DELETE FROM positions WHERE stream = ?", (name,))
    for name in change.renewed:
        connection.execute("INSERT OR REPLACE INTO epochs VALUES (?, ?)", (name, state.epochs[name]))
        if state.catalog.streams[name].relation is not Relation.SOURCE:
            _renew_heads(tx, name, epoch=state.epochs[name], effects=effects)
    set_meta(connection, "catalog_version", state.catalog.version)
    tx.catalog.put(state)
    return effects


def _renew_heads(tx: Tx, stream: str, *, epoch: int, effects: Effects) -> None:
    """Bring the heads in this file to the new epoch; those of a source live in ingest.db and follow by themselves."""
    for key in tx.heads.keys():  # noqa: SIM118 - a method of HeadBook, which is no mapping
        if key[0] == stream:
            head = tx.heads.get(*key, epoch=epoch)
            tx.heads.put(*key, head)
            effects.heads[key] = head
