"""Calls of aggregate functions: how many arguments each takes, which of them are constants, and the result's type.

Flink: "System (Built-in) Functions: Aggregate Functions". APPROX_QUANTILE, APPROX_TOP_K, and APPROX_COUNT_DISTINCT in
a stream, exist here alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from sqlglot import exp

from penstock.expressions.coercion import Mismatch
from penstock.expressions.literals import coerced
from penstock.expressions.nodes import Call, Expr, Literal, Span
from penstock.expressions.table import Function
from penstock.model.types import BIGINT, DOUBLE, INT, STRING, DataType, Kind, array_of, decimal, map_of, row_of
from penstock_processor.logical.expressions import bind_constant
from penstock_processor.sql.findings import refusal

__all__ = ["RETRACTABLE", "collected_for", "matters", "options_of", "result_type", "weighted"]

#: Functions whose result a row can be taken out of again.
RETRACTABLE = frozenset(["COUNT", "SUM", "AVG", "MIN", "MAX", "STDDEV", "STDDEV_POP", "STDDEV_SAMP", "VARIANCE",
                         "VAR_POP", "VAR_SAMP"])  # fmt: skip

_ORDERED = (Kind.STRING, Kind.BOOLEAN, Kind.DATE, Kind.TIME, Kind.TIMESTAMP, Kind.TIMESTAMP_LTZ)
#: What APPROX_TOP_K gives at most: its sketch holds three times as many values in the worst case.
TOP_MAX = 256
_SHARES = ("PERCENTILE", "APPROX_QUANTILE")
_USAGE = {
    "COUNT": "COUNT(*) or COUNT(x)",
    "LISTAGG": "LISTAGG(x) or LISTAGG(x, ', ')",
    "PERCENTILE": "PERCENTILE(x, 0.95), PERCENTILE(x, ARRAY[0.5, 0.95]) or PERCENTILE(x, 0.95, frequency)",
    "APPROX_TOP_K": "APPROX_TOP_K(x, 10)",
    "APPROX_QUANTILE": "APPROX_QUANTILE(x, 0.95)",
}


def options_of(function: str, arguments: Sequence[exp.Expr], *, at: Span) -> tuple[str | float | int, ...]:
    """The constants behind the first argument. Raises SqlErrors, also for a wrong number of arguments.

    The third one of PERCENTILE, its frequency, is none: see `weighted`.
    """
    most = 3 if function == "PERCENTILE" else 2 if function in _USAGE and function != "COUNT" else 1
    least = 2 if function in _SHARES or function == "APPROX_TOP_K" else 1
    if not least <= len(arguments) <= most:
        counts = {(1, 1): "one argument", (2, 2): "two arguments", (2, 3): "two or three arguments"}
        count = counts.get((least, most), "one or two arguments")
        raise refusal(
            at,
            "argument_count",
            message=f"{function} takes {count}, not {len(arguments)}.",
            remedy=f"Write {_USAGE.get(function, f'{function}(x)')}.",
        )
    constants = arguments[1:2]
    if function == "PERCENTILE" and isinstance(constants[0], exp.Array):
        constants = constants[0].expressions
    return tuple(_option(function, node, at=at) for node in constants)


def weighted(arg: Expr, frequency: Expr, *, at: Span) -> Expr:
    """The argument of PERCENTILE with how often it counts, as a row of both. Raises SqlErrors."""
    if not frequency.type.is_integer:
        raise refusal(
            at,
            "type_mismatch",
            message=f"The frequency of PERCENTILE is an integer, not {frequency.type}.",
            remedy="Write CAST(x AS INT).",
        )
    both = (coerced(arg, DOUBLE), coerced(frequency, BIGINT))
    return Call(row_of(("EXPR$0", DOUBLE), ("EXPR$1", BIGINT)), function="ROW", args=both, span=arg.span)


def collected_for(own: Function, args: Sequence[Expr], *, at: Span) -> tuple[Expr, DataType]:
    """What is collected of each row for an aggregate function of the app's own, and its result. Raises SqlErrors."""
    try:
        typing = own.check(args)
    except Mismatch as mismatch:
        message = f"{own.name} {mismatch.message}"
        raise refusal(at, mismatch.code, message=message, remedy=mismatch.remedy) from None
    converted = tuple(coerced(arg, kind) for arg, kind in zip(args, typing.arguments, strict=True))
    if len(converted) == 1:
        return converted[0], typing.result
    fields = row_of(*((f"EXPR${n}", kind) for n, kind in enumerate(typing.arguments)))
    return Call(fields, function="ROW", args=converted, span=at), typing.result


def matters(function: str, *, at: Span) -> bool:
    """Whether DISTINCT changes the result. Raises SqlErrors where it has no meaning."""
    if function.startswith("APPROX_"):
        raise refusal(
            at,
            "unsupported",
            message=f"{function}(DISTINCT x) does not exist.",
            remedy=f"Write {function} without DISTINCT.",
        )
    return function not in ("MIN", "MAX", "FIRST_VALUE", "LAST_VALUE")


def result_type(function: str, arg: Expr | None, *, at: Span) -> DataType:
    """The type of a call. Raises SqlErrors if it cannot take the argument."""
    if function in ("COUNT", "APPROX_COUNT_DISTINCT"):
        return BIGINT
    assert arg is not None
    given = arg.type
    if not _fits(function, given):
        texts = {"MIN": "a number, text or time", "MAX": "a number, text or time", "LISTAGG": "a STRING"}
        raise refusal(
            at,
            "type_mismatch",
            message=f"{function} cannot take {given}.",
            remedy=f"Give it {texts.get(function, 'a number')}.",
        )
    if function in _SHARES:
        return DOUBLE
    if function == "ARRAY_AGG":
        return array_of(given)
    if function == "COLLECT":  # Flink's MULTISET: a map of values to how often they are there
        return map_of(given, INT)
    if function == "APPROX_TOP_K":
        return array_of(row_of(("value", given), ("count", BIGINT)))
    if function == "LISTAGG":
        return STRING
    if given.kind is Kind.DECIMAL and function not in ("MIN", "MAX", "FIRST_VALUE", "LAST_VALUE"):
        scale = given.scale or 0
        return decimal(38, scale if function == "SUM" else max(6, scale))
    return given


def _fits(function: str, given: DataType) -> bool:
    if function in ("FIRST_VALUE", "LAST_VALUE", "ARRAY_AGG"):
        return given.kind is not Kind.NULL
    if function in ("APPROX_TOP_K", "COLLECT"):
        return given.kind is not Kind.NULL and not given.is_nested
    if function == "LISTAGG":
        return given.kind is Kind.STRING
    return given.is_numeric or (function in ("MIN", "MAX") and given.kind in _ORDERED)


def _option(function: str, node: exp.Expr, *, at: Span) -> str | float | int:
    found = bind_constant(node)
    value = found.value if isinstance(found, Literal) else None
    if function == "LISTAGG":
        if isinstance(value, str):
            return value
        raise refusal(
            at,
            "type_mismatch",
            message="The separator of LISTAGG is a constant STRING.",
            remedy="Write LISTAGG(x, ', ').",
        )
    if function == "APPROX_TOP_K":
        if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= TOP_MAX:
            return value
        raise refusal(
            at,
            "out_of_range",
            message=f"{function} takes a constant from 1 to {TOP_MAX} behind its argument.",
            remedy=f"Write {_USAGE[function]}.",
        )
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool) and 0 <= value <= 1:
        return float(value)
    raise refusal(
        at,
        "out_of_range",
        message=f"{function} takes a constant from 0 to 1 behind its argument.",
        remedy=f"Write {_USAGE[function]}.",
    )
