"""Which relations a store holds: their specs, their tables, and how far each has been applied."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import msgspec
import sqlalchemy as sa

from penstock.errors import Fenced
from penstock.model.stream import StreamSpec
from penstock.ports.store import Applied
from penstock.stores.tables import APPLIED, PREPARED, RELATION, structure, table_of
from penstock.stores.views import drop_view, replace_views

__all__ = ["prepare_relations", "read_applied", "read_applied_all", "read_relations"]

_decode = msgspec.json.Decoder(StreamSpec).decode


def read_relations(connection: sa.Connection) -> dict[str, StreamSpec]:
    """The relations prepared, by name."""
    rows = connection.execute(sa.select(RELATION.c.relation, RELATION.c.spec).order_by(RELATION.c.relation))
    return {row.relation: _decode(row.spec) for row in rows}


def read_applied(connection: sa.Connection, relation: str) -> Applied | None:
    """How far the relation is; the watermark is the least over its partitions, None while one has none."""
    return _applied(connection, APPLIED.c.relation == relation).get(relation)


def read_applied_all(connection: sa.Connection) -> dict[str, Applied]:
    """The same for every relation that is prepared and has a position."""
    return _applied(connection, APPLIED.c.relation.in_(sa.select(RELATION.c.relation)))


def _applied(connection: sa.Connection, where: sa.ColumnElement[bool]) -> dict[str, Applied]:
    rows = connection.execute(sa.select(APPLIED).where(where).order_by(APPLIED.c.relation, APPLIED.c.partition)).all()
    found: dict[str, Applied] = {}
    for relation, group in groupby(rows, lambda row: row.relation):
        partitions = list(group)
        marks = [row.watermark_ms for row in partitions]
        found[relation] = Applied(
            epoch=max(row.epoch for row in partitions),
            next={row.partition: row.next for row in partitions},
            watermark_ms=None if None in marks else min(marks),
        )
    return found


def prepare_relations(
    connection: sa.Connection, specs: Sequence[StreamSpec], version: int, *, older: bool
) -> dict[str, StreamSpec]:
    """Make tables and views follow the specs, within the caller's transaction. Returns the relations now prepared."""
    _move_version(connection, version, older=older)
    wanted = {spec.name: spec for spec in specs}
    known = read_relations(connection)
    for name, old in known.items():
        new = wanted.get(name)
        if new is None or structure(new) != structure(old):
            # The position first, then the table: in the order in which whoever applies locks them.
            connection.execute(sa.delete(APPLIED).where(APPLIED.c.relation == name))
            drop_view(connection, old)
            table_of(old).drop(connection)
            connection.execute(sa.delete(RELATION).where(RELATION.c.relation == name))
    for name, new in wanted.items():
        old_spec = known.get(name)
        if old_spec == new:
            continue
        text = msgspec.json.encode(new).decode()
        if old_spec is not None and structure(old_spec) == structure(new):
            connection.execute(sa.update(RELATION).where(RELATION.c.relation == name).values(spec=text))
            continue
        table_of(new).create(connection)
        connection.execute(sa.insert(RELATION).values(relation=name, spec=text))
    replace_views(connection, wanted.values())
    return wanted


def _move_version(connection: sa.Connection, version: int, *, older: bool) -> None:
    known = connection.execute(sa.select(PREPARED.c.catalog_version)).scalar()
    if known is None:
        connection.execute(sa.insert(PREPARED).values(one=1, catalog_version=version))
    elif version < known and not older:
        raise Fenced(
            f"the store's tables are those of version {known} of the catalog, this process knows version {version}: "
            "it must read the catalog again"
        )
    elif version != known:
        connection.execute(sa.update(PREPARED).values(catalog_version=version))
