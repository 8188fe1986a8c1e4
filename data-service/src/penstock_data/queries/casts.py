"""CAST in queries. What does not fit is NULL; text is read and times and DOUBLEs are printed in constants only."""

from __future__ import annotations

import sqlalchemy as sa

from penstock.expressions.nodes import Cast
from penstock.model.types import DataType, Kind
from penstock.stores.tables import column_type
from penstock_data.queries import decimals
from penstock_data.queries.forks import Element, binary, floor_divided, integer, modulo_positive, typed
from penstock_data.queries.refusals import refused_at

__all__ = ["DAY_MS", "cast_value"]

DAY_MS = 86_400_000
_BITS = {Kind.TINYINT: 7, Kind.SMALLINT: 15, Kind.INT: 31, Kind.BIGINT: 63}
_FLOATS = (Kind.FLOAT, Kind.DOUBLE)


def cast_value(cast: Cast, value: Element) -> Element:
    """The SQL of a CAST of `value`. Raises SqlErrors for those that the databases do differently."""
    source, target = cast.arg.type, cast.type
    found = _converted(value, source, target)
    if found is None or (cast.length is not None and cast.padded):
        raise refused_at(
            cast.span,
            "unsupported",
            f"CAST of a column from {source} to {cast.target} is not available in queries.",
            "Select the column as it is (replies write every type as text), or make a column in the app.",
        )
    if cast.length is not None:
        found = sa.func.substr(found, sa.literal(1, sa.Integer()), sa.literal(cast.length, sa.Integer()))
    return sa.type_coerce(found, column_type(target))


def _converted(value: Element, source: DataType, target: DataType) -> Element | None:
    if source.kind is Kind.NULL:
        return sa.cast(value, column_type(target))
    if source.kind is target.kind and source.kind is not Kind.DECIMAL:
        return value if source == target or not source.is_nested else None
    if source.is_numeric and target.is_numeric:
        return _number(value, source, target)
    if source.kind is Kind.BOOLEAN and target.is_integer:
        return sa.case((value, integer(1)), (sa.not_(value), integer(0)))
    if target.kind is Kind.BOOLEAN and source.is_integer:
        return binary("<>", value, integer(0), sa.Boolean())
    if target.kind is Kind.STRING and source.is_integer:
        return sa.cast(value, sa.Text())
    if target.kind is Kind.STRING and source.kind is Kind.DECIMAL:
        return decimals.to_text(value, source)
    return _time(value, source, target)


def _number(value: Element, source: DataType, target: DataType) -> Element:
    if target.kind is Kind.DECIMAL:
        if source.kind is Kind.DECIMAL:
            return decimals.rescaled(value, source, target)
        return decimals.from_number(value, target)
    if target.kind in _FLOATS:
        if source.kind is Kind.DECIMAL:
            return decimals.to_double(value, source)
        return value if source.kind in _FLOATS else sa.cast(value, sa.Double())
    if source.is_integer and _BITS[source.kind] <= _BITS[target.kind]:
        return value
    bound = 2 ** _BITS[target.kind]
    if source.is_integer:
        return sa.case((sa.and_(value >= integer(-bound), value < integer(bound)), value))
    if source.kind is Kind.DECIMAL:
        whole = decimals.to_integer(value, source)
        fits = sa.func.abs(decimals.to_double(value, source)) < sa.literal(float(bound), sa.Double())
    else:
        whole, fits = _cut(value), sa.func.abs(value) < sa.literal(float(bound), sa.Double())
    return sa.case((fits, sa.cast(whole, sa.BigInteger())))


def _cut(value: Element) -> Element:
    """Toward zero; PostgreSQL's cast rounds."""
    negative = value < sa.literal(0.0, sa.Double())
    return typed(sa.case((negative, sa.func.ceil(value)), else_=sa.func.floor(value)), sa.Double())


def _time(value: Element, source: DataType, target: DataType) -> Element | None:
    if source.is_timestamp and target.is_timestamp:
        return value
    if source.kind is Kind.DATE and target.is_timestamp:
        return binary("*", value, integer(DAY_MS), sa.BigInteger())
    if source.is_timestamp and target.kind is Kind.DATE:
        return floor_divided(value, DAY_MS)
    if source.is_timestamp and target.kind is Kind.TIME:
        return modulo_positive(value, DAY_MS)
    return None
