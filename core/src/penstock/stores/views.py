"""Read-only views for people and other programs: a relation under its own name, with natural column types.

PostgreSQL: in the schema `penstock`. SQLite: beside the tables; a name that is taken there, or that differs from
another relation's in case only, becomes `v_<stored name>`. Columns of our own are left out; early tables have
`complete`. Described for users in docs/store.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

import sqlalchemy as sa

from penstock.model.stream import Column, StreamSpec
from penstock.model.types import Kind
from penstock.stores.tables import PENDING, is_early, stored_name, table_of

__all__ = ["COMPLETE_COLUMN", "VIEWS_SCHEMA", "drop_view", "replace_views", "view_name"]

VIEWS_SCHEMA = "penstock"
#: Column of early tables: false while the row's window is still open.
COMPLETE_COLUMN = "complete"

_IDENTIFIER_BYTES_MAX = 63  # PostgreSQL cuts longer ones
_OURS = ("r_", "i_", "v_", "penstock_", "sqlite_")  # SQLite: names of tables, indexes, views, and its own
_CHUNK_DIGITS = 13  # of a decimal's text: each part is exact as REAL
_POSTGRES_TYPES = {Kind.TINYINT: "smallint", Kind.SMALLINT: "smallint", Kind.INT: "integer", Kind.FLOAT: "real"}


def replace_views(connection: sa.Connection, specs: Collection[StreamSpec]) -> None:
    """Make the views follow the tables: what is missing is created. Within the caller's transaction.

    In SQLite all are made again, because names depend on each other; in PostgreSQL a view that is there stays, so
    that what others have built upon it stays as well.
    """
    if connection.dialect.name == "sqlite":
        for name in sa.inspect(connection).get_view_names():
            _run(connection, f"DROP VIEW {_quoted(name)}")
        folded = Counter(spec.name.lower() for spec in specs)
        for spec in specs:
            _create(connection, spec, view_name(spec.name, alone=folded[spec.name.lower()] == 1))
        return
    there = set(sa.inspect(connection).get_view_names(schema=VIEWS_SCHEMA))
    for spec in specs:
        name = _fitting(spec.name)
        if name not in there:
            _create(connection, spec, name)


def drop_view(connection: sa.Connection, spec: StreamSpec) -> None:
    """Before the relation's table is dropped or renamed. In PostgreSQL views that others built upon it go, too."""
    if connection.dialect.name != "sqlite":
        _run(connection, f"DROP VIEW IF EXISTS {VIEWS_SCHEMA}.{_quoted(_fitting(spec.name))} CASCADE")
        return
    for name in (spec.name, view_name(spec.name, alone=False)):
        if name in sa.inspect(connection).get_view_names():
            _run(connection, f"DROP VIEW {_quoted(name)}")


def view_name(relation: str, *, alone: bool) -> str:
    """Name of a relation's view in SQLite; `alone`: no other relation has the same name in another case."""
    return relation if alone and not relation.lower().startswith(_OURS) else f"v_{stored_name(relation)}"


def _create(connection: sa.Connection, spec: StreamSpec, name: str) -> None:
    table, postgres = table_of(spec), connection.dialect.name != "sqlite"
    shown = []
    for column in spec.columns:
        stored = _quoted(stored_name(column.name))
        value = _postgres_value(stored, column) if postgres else _sqlite_value(stored, column)
        shown.append(f"{value} AS {_quoted(_fitting(column.name) if postgres else column.name)}")
    if is_early(spec) and not any(column.name == COMPLETE_COLUMN for column in spec.columns):
        shown.append(f"NOT {_quoted(PENDING)} AS {_quoted(COMPLETE_COLUMN)}")
    place = f"{VIEWS_SCHEMA}.{_quoted(name)}" if postgres else _quoted(name)
    _run(connection, f"CREATE VIEW {place} AS SELECT {', '.join(shown)} FROM {_quoted(table.name)}")


def _postgres_value(stored: str, column: Column) -> str:
    kind = column.type.kind
    milliseconds = f"{stored} * interval '1 millisecond'"
    if kind is Kind.TIMESTAMP:
        return f"(timestamp 'epoch' + {milliseconds})::timestamp(3)"
    if kind is Kind.TIMESTAMP_LTZ:
        return f"(timestamptz 'epoch' + {milliseconds})::timestamptz(3)"
    if kind is Kind.TIME:
        return f"(time '00:00' + {milliseconds})::time(3)"
    if kind is Kind.DATE:
        return f"date '1970-01-01' + {stored}::integer"
    type_name = _POSTGRES_TYPES.get(kind)
    return stored if type_name is None else f"{stored}::{type_name}"


def _sqlite_value(stored: str, column: Column) -> str:
    kind = column.type.kind
    if column.type.is_timestamp:
        zone = "Z" if kind is Kind.TIMESTAMP_LTZ else ""
        return f"strftime('%Y-%m-%dT%H:%M:%f{zone}', {stored} / 1000.0, 'unixepoch')"
    if kind is Kind.TIME:
        return f"strftime('%H:%M:%f', {stored} / 1000.0, 'unixepoch')"
    if kind is Kind.DATE:
        return f"date({stored} * 86400, 'unixepoch')"
    if kind is Kind.DECIMAL:
        return _sqlite_number(stored, column.type.precision or 38, column.type.scale or 0)
    return stored


def _sqlite_number(stored: str, precision: int, scale: int) -> str:
    """A decimal's text (`ExactDecimal`: p + 1 digits of value + 10^p) as REAL, to the last bit for 15 digits.

    Parts are added, not the whole text cast: 10^p would swallow a small value. Negative ones (first digit 0) are
    10^(p+1) - 1 - digits, and one more, taken away from 10^p.
    """
    above, below = [], []
    for start in range(0, precision, _CHUNK_DIGITS):
        length = min(_CHUNK_DIGITS, precision - start)
        weight = precision - start - length
        digits = f"CAST(substr({stored}, {start + 2}, {length}) AS INTEGER)"
        last = weight == 0
        above.append(f"{digits} * 1e{weight}")
        below.append(f"({10**length - (0 if last else 1)} - {digits}) * 1e{weight}")
    return (
        f"CASE WHEN {stored} >= '1' THEN ({' + '.join(above)}) / 1e{scale} "
        f"WHEN {stored} IS NOT NULL THEN -({' + '.join(below)}) / 1e{scale} END"
    )


def _fitting(name: str) -> str:
    return name if len(name.encode()) <= _IDENTIFIER_BYTES_MAX else stored_name(name)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _run(connection: sa.Connection, statement: str) -> None:
    connection.exec_driver_sql(statement, execution_options={"no_parameters": True})
