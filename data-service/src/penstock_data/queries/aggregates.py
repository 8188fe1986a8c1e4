"""Aggregates and window functions: their types, and how a call is written once its arguments are columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlglot import exp

from penstock.expressions.coercion import common_type
from penstock.expressions.literals import coerced
from penstock.expressions.nodes import Expr, Literal
from penstock.model.types import BIGINT, DOUBLE, DataType, Kind, decimal
from penstock.stores.tables import column_type
from penstock_data.queries import decimals
from penstock_data.queries.forks import Element, binary
from penstock_data.queries.refusals import refused

__all__ = ["AGGREGATES", "WINDOW_FUNCTIONS", "Finish", "aggregate", "aggregate_type", "window_function"]

AGGREGATES = ("COUNT", "SUM", "AVG", "MIN", "MAX")
#: Beside the aggregates, before OVER.
WINDOW_FUNCTIONS = ("ROW_NUMBER", "RANK", "DENSE_RANK", "NTILE", "LAG", "LEAD", "FIRST_VALUE", "LAST_VALUE")

#: Puts FILTER or OVER behind a call.
Finish = Callable[[sa.Function[Any]], Element]
#: Writes an expression as SQL.
Write = Callable[[Expr], Element]
_ORDERED = (Kind.STRING, Kind.DATE, Kind.TIME, Kind.TIMESTAMP, Kind.TIMESTAMP_LTZ)


def aggregate_type(name: str, argument: Expr | None, *, at: exp.Expr) -> DataType:
    """The type of the result. Raises SqlErrors for what cannot be added up."""
    if name not in AGGREGATES:
        raise refused(at, "unsupported", f"The aggregate {name} is not available in queries.",
                      f"There are {', '.join(AGGREGATES)}; compute others in the app.")  # fmt: skip
    if name == "COUNT":
        return BIGINT
    if argument is None:
        raise refused(at, "argument_count", f"{name} takes one argument.", f"Write {name}(x).")
    given = argument.type
    if not (given.is_numeric or (name in ("MIN", "MAX") and given.kind in _ORDERED)):
        raise refused(at, "type_mismatch", f"{name} cannot take {given}.", "Give it a number.")
    if name in ("MIN", "MAX"):
        return given
    if given.kind is Kind.DECIMAL:
        scale = given.scale or 0
        return decimal(38, scale if name == "SUM" else max(6, scale))
    return BIGINT if given.is_integer else DOUBLE


def aggregate(
    name: str, value: Element | None, *, source: DataType | None, distinct: bool, finished: Finish
) -> Element:
    """The call over a column (None: every row); `finished` puts FILTER or OVER behind each part of it."""
    if value is None:
        return finished(sa.func.count())
    given = sa.distinct(value) if distinct else value
    if name == "COUNT":
        return finished(sa.func.count(given))
    assert source is not None  # every other aggregate has an argument
    kind = column_type(source)
    if name in ("MIN", "MAX"):
        return sa.type_coerce(finished((sa.func.min if name == "MIN" else sa.func.max)(given)), kind)
    if source.kind is Kind.DECIMAL:
        total = decimals.summed(given, source, finished)
        if name == "SUM":
            return total
        to = decimal(38, max(6, source.scale or 0))
        return decimals.quotient_of_sum(total, finished(sa.func.count(given)), source=source, to=to)
    if source.is_integer:
        total = sa.cast(finished(sa.func.sum(given)), sa.BigInteger())
        if name == "SUM":
            return total
        count = sa.func.nullif(finished(sa.func.count(given)), sa.literal(0, sa.BigInteger()))
        return binary("/", total, count, sa.BigInteger())
    return sa.type_coerce(finished((sa.func.sum if name == "SUM" else sa.func.avg)(given)), sa.Double())


def window_function(
    name: str, arguments: Sequence[Expr], *, at: exp.Expr
) -> tuple[DataType, Callable[[Write, Finish], Element]]:
    """The type of a call of WINDOW_FUNCTIONS, and what writes it. Raises SqlErrors."""
    least, most = {"NTILE": (1, 1), "LAG": (1, 3), "LEAD": (1, 3), "FIRST_VALUE": (1, 1), "LAST_VALUE": (1, 1)}.get(
        name, (0, 0)
    )
    if not least <= len(arguments) <= most:
        raise refused(at, "argument_count", f"{name} takes {least} to {most} arguments, not {len(arguments)}.",
                      "Check the arguments.")  # fmt: skip
    call = getattr(sa.func, name.lower())
    if name in ("ROW_NUMBER", "RANK", "DENSE_RANK"):
        return BIGINT, lambda _, finished: sa.type_coerce(finished(call()), sa.BigInteger())
    if name == "NTILE":
        parts = _count(arguments[0], at, least=1)
        return BIGINT, lambda _, finished: sa.type_coerce(finished(call(parts)), sa.BigInteger())
    kind = arguments[0].type
    away = [_count(one, at, least=0) for one in arguments[1:2]]
    instead = list(arguments[2:])
    if instead and common_type((kind, instead[0].type)) != kind:
        raise refused(at, "type_mismatch", f"The default of {name} is no {kind}.", "CAST it.")

    def written(write: Write, finished: Finish) -> Element:
        others = [write(coerced(one, kind)) for one in instead]
        return sa.type_coerce(finished(call(write(arguments[0]), *away, *others)), column_type(kind))

    return kind, written


def _count(given: Expr, at: exp.Expr, *, least: int) -> Element:
    if not isinstance(given, Literal) or not isinstance(given.value, int) or not least <= given.value < 2**31:
        raise refused(at, "type_mismatch", "A constant whole number is expected here.", f"Write {max(least, 1)}.")
    return sa.literal(given.value, sa.Integer())
