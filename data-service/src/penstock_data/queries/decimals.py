"""DECIMAL in queries: NUMERIC in PostgreSQL, functions over texts in SQLite (`stores.sqlite_decimals`).

What has too many digits is NULL, as a division by 0 is. HALF_UP.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from penstock.expressions.coercion import as_decimal
from penstock.model.types import DataType, decimal
from penstock.stores.sqlite_decimals import AGGREGATE
from penstock.stores.tables import column_type
from penstock_data.queries.forks import Element, Fork, typed

__all__ = ["computed", "from_number", "quotient_of_sum", "rescaled", "summed", "to_double", "to_integer", "to_text"]

_NAMES = {"+": "add", "-": "subtract", "*": "multiply", "/": "divide", "%": "modulo"}
_SUM_DIGITS = 38


def computed(
    operator: str, left: Element, right: Element, *, types: tuple[DataType, DataType], to: DataType
) -> Element:
    """`left operator right` of two decimals, as DECIMAL `to`."""
    (_, own), (_, other) = as_decimal(types[0]), as_decimal(types[1])
    precision, scale = as_decimal(to)
    divisor = sa.func.nullif(right, sa.literal(Decimal(0), sa.Numeric())) if operator in "/%" else right
    here = getattr(sa.func, f"penstock_decimal_{_NAMES[operator]}")
    if operator == "/":  # as many digits as DECIMAL can have, before it is rounded once
        left_wide = sa.func.round(sa.cast(left, sa.Numeric()), scale + 6)
        native = left_wide.op("/")(sa.cast(divisor, sa.Numeric()))
    else:
        native = sa.cast(left, sa.Numeric()).op(operator)(sa.cast(divisor, sa.Numeric()))
    return Fork(
        column_type(to),
        sqlite=here(left, own, right, other, precision, scale),
        postgresql=_fitted(typed(native, sa.Numeric()), to),
    )


def rescaled(value: Element, source: DataType, target: DataType) -> Element:
    """A decimal with other digits."""
    (_, own), (precision, scale) = as_decimal(source), as_decimal(target)
    return Fork(
        column_type(target),
        sqlite=sa.func.penstock_decimal_cast(value, own, precision, scale),
        postgresql=_fitted(value, target),
    )


def from_number(value: Element, target: DataType) -> Element:
    """A decimal of an integer or a DOUBLE."""
    precision, scale = as_decimal(target)
    return Fork(
        column_type(target),
        sqlite=sa.func.penstock_decimal(value, precision, scale),
        postgresql=_fitted(sa.cast(value, sa.Numeric()), target),
    )


def to_double(value: Element, source: DataType) -> Element:
    """A decimal as DOUBLE."""
    return Fork(
        sa.Double(),
        sqlite=sa.func.penstock_decimal_number(value, as_decimal(source)[1]),
        postgresql=sa.cast(value, sa.Double()),
    )


def to_integer(value: Element, source: DataType) -> Element:
    """A decimal cut toward zero, not yet held against the range of a type."""
    return Fork(
        sa.BigInteger(),
        sqlite=sa.func.penstock_decimal_integer(value, as_decimal(source)[1]),
        postgresql=sa.func.trunc(value),
    )


def to_text(value: Element, source: DataType) -> Element:
    """A decimal with all digits of its scale."""
    precision, scale = as_decimal(source)
    return Fork(
        sa.Text(),
        sqlite=sa.func.penstock_decimal_print(value, scale),
        postgresql=sa.cast(sa.cast(value, sa.Numeric(precision, scale)), sa.Text()),
    )


def summed(value: Element, source: DataType, finished: Callable[[sa.Function[Any]], Element]) -> Element:
    """The sum as DECIMAL(38, s); `finished` puts FILTER or OVER behind the call."""
    to = decimal(_SUM_DIGITS, as_decimal(source)[1])
    return Fork(
        column_type(to),
        sqlite=finished(getattr(sa.func, AGGREGATE)(value)),
        postgresql=_fitted(finished(sa.func.sum(value)), to),
    )


def quotient_of_sum(total: Element, count: Element, *, source: DataType, to: DataType) -> Element:
    """AVG of decimals from their sum and count."""
    whole = decimal(_SUM_DIGITS, as_decimal(source)[1])
    return computed("/", total, from_number(count, decimal(19, 0)), types=(whole, decimal(19, 0)), to=to)


def _fitted(value: Element, target: DataType) -> Element:
    """Rounded to the scale; NULL where it has too many digits."""
    precision, scale = as_decimal(target)
    rounded = sa.func.round(value, sa.literal(scale, sa.Integer()))
    bound = sa.literal(Decimal(10) ** (precision - scale), sa.Numeric())
    return sa.case((sa.func.abs(rounded) < bound, rounded))
