"""PRINTF: texts by Java's format strings. Semantics: Flink 2.3, "String Functions"
(https://nightlies.apache.org/flink/flink-docs-release-2.3/docs/sql/functions/built-in-functions/#string-functions).
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from penstock.expressions.by_row import by_row
from penstock.expressions.casts import cast_value
from penstock.expressions.coercion import Mismatch
from penstock.expressions.java_format import Argument, java_printf
from penstock.expressions.nodes import Call, Expr
from penstock.expressions.table import TEXT, Compiled, Function, Typing, takes, typed
from penstock.model.types import STRING, Kind

__all__ = ["FUNCTIONS"]

_BITS = {Kind.TINYINT: 8, Kind.SMALLINT: 16, Kind.INT: 32, Kind.BIGINT: 64}
_KINDS = {*_BITS, Kind.STRING, Kind.BOOLEAN, Kind.FLOAT, Kind.DOUBLE, Kind.DECIMAL, Kind.NULL}


def _check(args: Sequence[Expr]) -> Typing:
    takes(STRING, TEXT)(args[:1])
    for arg in args[1:]:
        if arg.type.kind not in _KINDS:
            raise Mismatch(f"cannot format {arg.type}.", "Write CAST(x AS STRING), or DATE_FORMAT for a time.")
    return Typing((STRING, *(STRING if a.type.kind is Kind.NULL else a.type for a in args[1:])), STRING)


def _printf(call: Call, values: Sequence[pl.Expr]) -> Compiled:
    kinds = [arg.type for arg in call.args[1:]]
    texts = [cast_value(value, kind, STRING).value for value, kind in zip(values[1:], kinds, strict=True)]

    def row(form: str | None, *rest: object) -> str | None:
        if form is None:
            return None
        arguments = []
        for kind, value, text in zip(kinds, rest[: len(kinds)], rest[len(kinds) :], strict=True):
            shown = str(text).lower() if kind.kind is Kind.BOOLEAN else str(text)
            arguments.append(Argument(value, shown, _BITS.get(kind.kind, 0)))
        return java_printf(form, arguments)

    return Compiled(by_row(row, pl.String(), nulls=True)(*values, *texts))


FUNCTIONS = (
    Function("PRINTF", "PRINTF(format, a, ...)", "A text by a format of Java such as %s, %5d, %,.2f, %x, %e; NULL "
             "for a format that does not fit its values.", _check, typed(_printf),
             (("PRINTF('%s: %05.1f kg, %,d', 'lot', 2.25e0, 1234567)", '"lot: 002.3 kg, 1,234,567"'),
              ("PRINTF('%d', 'one') IS NULL", "true"), ("PRINTF('%s|%-4s|', NULL, TRUE)", '"null|true|"'))),
)  # fmt: skip
