"""Which relations a store holds: their specs, their tables, and how far each has been applied."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import sqlalchemy as sa

from penstock.model.stream import StreamSpec
from penstock.ports.store import Applied
from penstock.stores.tables import APPLIED, RELATION, structure, table_of

__all__ = ["prepare_relations", "read_applied", "read_relations"]

_decode = msgspec.json.Decoder(StreamSpec).decode


def read_relations(connection: sa.Connection) -> dict[str, StreamSpec]:
    """The relations prepared, by name."""
    rows = connection.execute(sa.select(RELATION.c.relation, RELATION.c.spec).order_by(RELATION.c.relation))
    return {row.relation: _decode(row.spec) for row in rows}


def read_applied(connection: sa.Connection, relation: str) -> Applied | None:
    """How far the relation is; the watermark is the least over its partitions, None while one has none."""
    rows = connection.execute(
        sa.select(APPLIED.c.partition, APPLIED.c.epoch, APPLIED.c.next, APPLIED.c.watermark_ms)
        .where(APPLIED.c.relation == relation)
        .order_by(APPLIED.c.partition)
    ).all()
    if not rows:
        return None
    marks = [row.watermark_ms for row in rows]
    return Applied(
        epoch=max(row.epoch for row in rows),
        next={row.partition: row.next for row in rows},
        watermark_ms=None if None in marks else min(marks),
    )


def prepare_relations(connection: sa.Connection, specs: Sequence[StreamSpec]) -> dict[str, StreamSpec]:
    """Make the tables follow the specs, within the caller's transaction. Returns the relations now prepared."""
    wanted = {spec.name: spec for spec in specs}
    known = read_relations(connection)
    for name, old in known.items():
        new = wanted.get(name)
        if new is None or structure(new) != structure(old):
            table_of(old).drop(connection)
            connection.execute(sa.delete(APPLIED).where(APPLIED.c.relation == name))
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
    return wanted
