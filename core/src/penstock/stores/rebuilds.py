"""Tables made again beside those in force, and the switch; `RebuildTables`, which a store's adapter inherits."""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import msgspec
import sqlalchemy as sa

from penstock.errors import PenstockError
from penstock.model.stream import StreamSpec
from penstock.ports.clock import Clock
from penstock.ports.store import Apply
from penstock.stores.changes import apply_changes
from penstock.stores.registry import read_relations
from penstock.stores.settings import StoreSettings
from penstock.stores.tables import APPLIED, SYSTEM, structure, table_of
from penstock.stores.views import drop_view, replace_views

__all__ = ["RebuildTables"]

T = TypeVar("T")
_MARK = "$"  # no relation of a user has a dollar in its name
_decode = msgspec.json.Decoder(StreamSpec).decode

#: Tables that are being made again: under which name they are filled, and from which spec they were made.
REBUILD = sa.Table(
    "penstock_rebuild",
    SYSTEM,
    sa.Column("relation", sa.Text, primary_key=True),
    sa.Column("beside", sa.Text, nullable=False),
    sa.Column("spec", sa.Text, nullable=False),
    sa.Column("started_at_ms", sa.BigInteger, nullable=False),
)


class RebuildTables(ABC):
    """The part of `ports.store.Store` that makes tables again, for a store that runs functions over a connection."""

    _clock: Clock
    _settings: StoreSettings

    async def begin_rebuild(self, relation: str) -> StreamSpec:
        """See `Store.begin_rebuild`."""
        now_ms = self._clock.now_ms()
        return await self._write(f"making a table beside '{relation}'", lambda c: _begin(c, relation, now_ms=now_ms))

    async def apply_beside(self, beside: StreamSpec, changes: Sequence[Apply]) -> None:
        """See `Store.apply_beside`."""

        def write(connection: sa.Connection) -> None:
            apply_changes(connection, [beside] * len(changes), changes, limits=self._settings)

        await self._write(f"filling the table beside '{beside.name.partition(_MARK)[0]}'", write)

    async def finish_rebuild(self, relation: str, ends: Mapping[int, tuple[int, int]]) -> bool:
        """See `Store.finish_rebuild`."""
        return await self._write(f"putting '{relation}' in force", lambda c: _switch(c, relation, ends))

    async def drop_rebuild(self, relation: str) -> None:
        """See `Store.drop_rebuild`."""
        await self._write(f"dropping the table beside '{relation}'", lambda c: _drop(c, relation))

    @abstractmethod
    async def _write(self, doing: str, work: Callable[[sa.Connection], T]) -> T:
        """Run `work` in a writing transaction; `doing` is for errors."""


def _begin(connection: sa.Connection, relation: str, *, now_ms: int) -> StreamSpec:
    """The spec of the table beside: that of an unfinished rebuild of the same structure, else of a new, empty one."""
    relations = read_relations(connection)
    if relation not in relations:
        raise PenstockError("unknown_relation", f"'{relation}' is not stored; set 'store' = 'true'")
    for row in connection.execute(sa.select(REBUILD.c.relation)).all():
        if row.relation not in relations:
            _drop(connection, row.relation)
    spec = relations[relation]
    beside = _beside(connection, relation)
    if beside is not None:
        if structure(beside) == structure(spec):
            return beside
        _drop(connection, relation)
    # A new name each time: indexes and constraints of an earlier rebuild keep theirs.
    beside = replace(spec, name=f"{relation}{_MARK}{secrets.token_hex(4)}")
    table_of(beside).create(connection)
    connection.execute(
        sa.insert(REBUILD).values(
            relation=relation,
            beside=beside.name,
            spec=msgspec.json.encode(beside).decode(),
            started_at_ms=now_ms,
        )
    )
    return beside


def _switch(connection: sa.Connection, relation: str, ends: Mapping[int, tuple[int, int]]) -> bool:
    """True once the new table is in force."""
    spec, beside = read_relations(connection).get(relation), _beside(connection, relation)
    if beside is None:
        raise PenstockError("conflict", f"nobody rebuilds '{relation}'; begin again")
    if spec is None or structure(spec) != structure(beside):
        _drop(connection, relation)
        raise PenstockError("conflict", f"'{relation}' was deployed anew while it was rebuilt; begin again")
    old, new = _positions(connection, relation), _positions(connection, beside.name)
    for partition, reached in old.items():
        ahead_of_log = reached > ends.get(partition, reached)
        if not ahead_of_log and new.get(partition, (0, 0)) < reached:
            return False
    # Positions first, then tables: in the order in which whoever applies locks them.
    connection.execute(sa.delete(APPLIED).where(APPLIED.c.relation == relation))
    drop_view(connection, spec)
    table_of(spec).drop(connection)
    quote = connection.dialect.identifier_preparer.quote
    connection.exec_driver_sql(f"ALTER TABLE {quote(table_of(beside).name)} RENAME TO {quote(table_of(spec).name)}")
    replace_views(connection, read_relations(connection).values())
    connection.execute(sa.update(APPLIED).where(APPLIED.c.relation == beside.name).values(relation=relation))
    connection.execute(sa.delete(REBUILD).where(REBUILD.c.relation == relation))
    return True


def _drop(connection: sa.Connection, relation: str) -> None:
    """Drop the table beside, its positions and its entry."""
    beside = _beside(connection, relation)
    if beside is not None:
        table_of(beside).drop(connection)
        connection.execute(sa.delete(APPLIED).where(APPLIED.c.relation == beside.name))
        connection.execute(sa.delete(REBUILD).where(REBUILD.c.relation == relation))


def _beside(connection: sa.Connection, relation: str) -> StreamSpec | None:
    text = connection.execute(sa.select(REBUILD.c.spec).where(REBUILD.c.relation == relation)).scalar()
    return None if text is None else _decode(text)


def _positions(connection: sa.Connection, relation: str) -> dict[int, tuple[int, int]]:
    rows = connection.execute(
        sa.select(APPLIED.c.partition, APPLIED.c.epoch, APPLIED.c.next).where(APPLIED.c.relation == relation)
    )
    return {row.partition: (row.epoch, row.next) for row in rows}
