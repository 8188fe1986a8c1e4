"""Every type that a column may have: how it is written, and what its values are in JSON. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from penstock.model.types import Kind

__all__ = ["TYPE_NOTES", "TypeNote"]


@dataclass(frozen=True, slots=True)
class TypeNote:
    """`example`: a declaration, and `value`: one of its values as JSON text."""

    usage: str
    json: str
    example: str
    value: str


_INTEGER = "A number without a fraction, within ±2^{} (the least included)."

TYPE_NOTES: dict[Kind, TypeNote] = {
    Kind.BOOLEAN: TypeNote("BOOLEAN", "`true` or `false`.", "BOOLEAN", "true"),
    Kind.TINYINT: TypeNote("TINYINT", _INTEGER.format(7), "TINYINT", "-128"),
    Kind.SMALLINT: TypeNote("SMALLINT", _INTEGER.format(15), "SMALLINT", "-32768"),
    Kind.INT: TypeNote("INT, INTEGER", _INTEGER.format(31), "INTEGER", "-2147483648"),
    Kind.BIGINT: TypeNote("BIGINT", _INTEGER.format(63), "BIGINT", "-9223372036854775808"),
    Kind.FLOAT: TypeNote("FLOAT", "A number, kept to 32 bits.", "FLOAT", "1.5"),
    Kind.DOUBLE: TypeNote("DOUBLE", "A number, kept to 64 bits.", "DOUBLE", "12"),
    Kind.DECIMAL: TypeNote(
        "DECIMAL(p, s)", "A number, or its text; exact, p ≤ 38 digits, s of them a fraction.",
        "DECIMAL(10, 2)", '"12.30"',
    ),
    Kind.STRING: TypeNote(
        "STRING, VARCHAR(n), CHAR(n)", "A text. A length is what CAST cuts and fills to.", "VARCHAR(20)", '"spelt"'
    ),
    Kind.BYTES: TypeNote("BYTES, VARBINARY(n), BINARY(n)", "A text in Base64.", "BYTES", '"3q0="'),
    Kind.DATE: TypeNote("DATE", "`YYYY-MM-DD`.", "DATE", '"2018-01-31"'),
    Kind.TIME: TypeNote("TIME", "`hh:mm[:ss[.f]]`.", "TIME", '"13:30:00"'),
    Kind.TIMESTAMP: TypeNote(
        "TIMESTAMP(3)", "ISO 8601, UTC where no offset is given, or epoch milliseconds.", "TIMESTAMP(3)",
        '"2018-01-31T13:30:00.250"',
    ),
    Kind.TIMESTAMP_LTZ: TypeNote(
        "TIMESTAMP_LTZ(3)", "As TIMESTAMP; written with `Z`.", "TIMESTAMP_LTZ(3)", "1517405400250"
    ),
    Kind.ARRAY: TypeNote("ARRAY<t>", "An array.", "ARRAY<INT>", "[1, null]"),
    Kind.MAP: TypeNote("MAP<STRING, t>", "An object of any names.", "MAP<STRING, DOUBLE>", '{"a": 1.5}'),
    Kind.ROW: TypeNote("ROW<a t, ...>", "An object of these names.", "ROW<a INT, b STRING>", '{"a": 1, "b": "x"}'),
}  # fmt: skip
