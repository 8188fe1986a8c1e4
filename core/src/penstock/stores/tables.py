"""What a relation looks like in the database: table, columns, keys and indexes from its StreamSpec. Pure.

| SQL type | column | why |
|---|---|---|
| integers | BIGINT | |
| FLOAT, DOUBLE | DOUBLE | NaN is NULL |
| DECIMAL | NUMERIC; in SQLite text of fixed width (`ExactDecimal`) | exact for 38 digits, compares as a number |
| DATE | BIGINT, days since 1970-01-01 | ranges and buckets are integer arithmetic |
| TIME, TIMESTAMP, TIMESTAMP_LTZ | BIGINT, milliseconds (of the day; since the epoch, UTC) | the same |
| STRING | TEXT in byte order (`ExactText`) | the same order and equality everywhere |
| ARRAY, MAP, ROW | TEXT, JSON | read as a whole |
| BYTES, BOOLEAN | BLOB or BYTEA, BOOLEAN | |
"""

from __future__ import annotations

import hashlib
from decimal import ROUND_FLOOR, Context, Decimal
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.sql import quoted_name
from sqlalchemy.types import TypeDecorator

from penstock.model.stream import Relation, StreamSpec
from penstock.model.types import DataType, Kind

__all__ = ["APPLIED", "EPOCH", "ESCAPE", "ESCAPED_ESCAPE", "ESCAPED_NUL", "NUL", "OFFSET", "PARTITION", "PENDING",
           "PREPARED", "RELATION", "SYSTEM", "ExactDecimal", "ExactText", "column_type", "decimal_text", "is_early",
           "read_decimal_text", "stored_name", "structure", "table_of"]  # fmt: skip

#: Columns of our own. No stored name of a user's column begins with an underscore.
EPOCH, PARTITION, OFFSET = "_epoch", "_partition", "_offset"  # a stream's primary key
PENDING = "_pending"  # early tables: the row's window is still open

#: PostgreSQL's text holds no NUL. There U+0000 is written as U+0001 U+0001 and U+0001 as U+0001 U+0002: nothing is
#: lost and the order of texts stays what it was.
NUL, ESCAPE = "\0", "\1"
ESCAPED_NUL, ESCAPED_ESCAPE = "\1\1", "\1\2"

_NAME_BYTES_MAX = 48  # PostgreSQL cuts identifiers at 63 bytes, in silence
_WIDE = Context(prec=800)  # exact for any DECIMAL and for any filter value that is admitted
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_")

SYSTEM = sa.MetaData()

#: The relations that this store holds, with the spec that they were prepared for.
RELATION = sa.Table(
    "penstock_relation",
    SYSTEM,
    sa.Column("relation", sa.Text, primary_key=True),
    sa.Column("spec", sa.Text, nullable=False),
)

#: The version of the log's catalog that the relations were prepared for: one row, none before the first time.
PREPARED = sa.Table(
    "penstock_prepared",
    SYSTEM,
    sa.Column("one", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("catalog_version", sa.BigInteger, nullable=False),
)

#: How far each partition of a relation has been applied.
APPLIED = sa.Table(
    "penstock_applied",
    SYSTEM,
    sa.Column("relation", sa.Text, primary_key=True),
    sa.Column("partition", sa.Integer, primary_key=True),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("next", sa.BigInteger, nullable=False),
    sa.Column("watermark_ms", sa.BigInteger),
)


class ExactDecimal(TypeDecorator[Decimal]):
    """DECIMAL(p, s): NUMERIC where the database has it; in SQLite text whose order is the numbers' order."""

    impl = sa.Text
    cache_ok = True

    def __init__(self, precision: int, scale: int) -> None:
        super().__init__()
        self.precision, self.scale = precision, scale

    def load_dialect_impl(self, dialect: Dialect) -> sa.types.TypeEngine[Decimal]:
        """NUMERIC outside SQLite, without precision: a filter's value is compared and not rounded to the column's."""
        if dialect.name == "sqlite":
            return dialect.type_descriptor(sa.Text())  # type: ignore[arg-type]  # text stands for the number
        return dialect.type_descriptor(sa.Numeric())

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> object:
        """The number as it is compared and stored."""
        if value is None or dialect.name != "sqlite":
            return value
        return decimal_text(value, self.precision, self.scale)


class ExactText(TypeDecorator[str]):
    """STRING: compared byte by byte, as SQLite does, whatever collation a database has; see `ESCAPE` for NUL."""

    impl = sa.Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> sa.types.TypeEngine[str]:
        """Collation "C" in PostgreSQL."""
        return dialect.type_descriptor(sa.Text(collation="C" if dialect.name == "postgresql" else None))

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """The text as it is compared and stored."""
        if value is None or dialect.name != "postgresql":
            return value
        return value.replace(ESCAPE, ESCAPED_ESCAPE).replace(NUL, ESCAPED_NUL)


def decimal_text(value: Decimal, precision: int, scale: int) -> str:
    """Text such that text order is number order: the unscaled value plus 10^p, in p + 1 digits.

    A value between two storable ones gets a fraction and so sorts between them; one beyond the type's range sorts
    before or after all of them.
    """
    bias = 10**precision
    unscaled = value.scaleb(scale, _WIDE)
    if not -bias < unscaled < bias:
        return "~" if value > 0 else ""
    whole = int(unscaled.to_integral_value(ROUND_FLOOR, _WIDE))
    text = f"{whole + bias:0{precision + 1}d}"
    return text if whole == unscaled else f"{text}.5"


def read_decimal_text(text: str, precision: int, scale: int) -> Decimal:
    """The number of a stored text."""
    return Decimal(int(text) - 10**precision).scaleb(-scale, _WIDE)


def stored_name(name: str) -> str:
    """An identifier that SQLite and PostgreSQL keep apart from every other: they fold case and cut long names.

    Lower-case ASCII names up to 48 characters stay as they are; other characters become `$hh` for each UTF-8 byte.
    """
    text = "".join(
        c if c in _PLAIN and not (c == "_" and i == 0) else "".join(f"${b:02x}" for b in c.encode("utf-8"))
        for i, c in enumerate(name)
    )
    if len(text) <= _NAME_BYTES_MAX:
        return text
    return f"{text[: _NAME_BYTES_MAX - 18]}$${hashlib.blake2b(name.encode(), digest_size=8).hexdigest()}"


def is_early(spec: StreamSpec) -> bool:
    """True for a table whose rows may belong to a window that is still open."""
    return spec.relation is Relation.TABLE and spec.emit == "early"


def structure(spec: StreamSpec) -> tuple[object, ...]:
    """What decides whether a table can be kept when an app is deployed again."""
    return (spec.relation, spec.columns, spec.primary_key, spec.time_column, is_early(spec))


def table_of(spec: StreamSpec) -> sa.Table:
    """The relation's table. Clustered by the primary key (rows of one page lie together); a stream's is its position.

    Columns are found under `table.c[stored_name(column)]`.
    """
    return _table(spec.name, structure(spec))


def column_type(data_type: DataType) -> sa.types.TypeEngine[Any]:
    """The column type of a SQL type, see the table above."""
    kind = data_type.kind
    if kind is Kind.DECIMAL:
        return ExactDecimal(data_type.precision or 38, data_type.scale or 0)
    if kind in (Kind.FLOAT, Kind.DOUBLE):
        return sa.Double()
    if data_type.is_nested:
        return ExactText()
    simple: dict[Kind, sa.types.TypeEngine[Any]] = {
        Kind.STRING: ExactText(),
        Kind.BYTES: sa.LargeBinary(),
        Kind.BOOLEAN: sa.Boolean(),
    }
    return simple.get(kind) or sa.BigInteger()


@lru_cache(maxsize=1024)
def _table(name: str, shape: tuple[object, ...]) -> sa.Table:
    relation, columns, primary_key, time_column, early = shape
    assert isinstance(columns, tuple)  # made by `structure` of the same spec
    assert isinstance(primary_key, tuple)
    parts: list[sa.schema.SchemaItem] = []
    keys = [stored_name(key) for key in primary_key]
    if relation is not Relation.TABLE or not keys:
        parts += [sa.Column(system, sa.BigInteger, nullable=False) for system in (EPOCH, PARTITION, OFFSET)]
        keys = [EPOCH, PARTITION, OFFSET]
    for column in columns:
        stored = quoted_name(stored_name(column.name), quote=True)
        parts.append(sa.Column(stored, column_type(column.type), nullable=stored not in keys, autoincrement=False))
    if early:
        parts.append(sa.Column(PENDING, sa.Boolean, nullable=False))
    table_name = quoted_name(f"r_{stored_name(name)}", quote=True)
    parts.append(sa.PrimaryKeyConstraint(*keys))
    table = sa.Table(table_name, sa.MetaData(), *parts, sqlite_with_rowid=False)
    if isinstance(time_column, str) and stored_name(time_column) != keys[0]:
        sa.Index(quoted_name(f"i_{stored_name(name)}", quote=True), table.c[stored_name(time_column)])
    return table
