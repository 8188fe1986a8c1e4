"""Checked filters as Polars expressions, for raw events; the same meaning as in `statements`. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import reduce
from typing import Any

import polars as pl

from penstock.model.types import Kind
from penstock.stores.tables import decimal_text
from penstock_data.patterns import LikePattern
from penstock_data.query import POSITION, Condition, Operator, Scalar

__all__ = ["PLACE", "predicate", "predicates"]

#: Column of a scanned frame with the event's offset; the partition is the same for the whole frame.
PLACE = "$offset"

_NANOS_PER_MS = 1_000_000
_COMPARE: dict[Operator, Callable[[Any, Any], Any]] = {
    Operator.EQ: lambda left, right: left == right,
    Operator.NEQ: lambda left, right: left != right,
    Operator.LT: lambda left, right: left < right,
    Operator.LTE: lambda left, right: left <= right,
    Operator.GT: lambda left, right: left > right,
    Operator.GTE: lambda left, right: left >= right,
}


def predicates(conditions: Sequence[Condition], *, partition: int) -> pl.Expr | None:
    """All conditions together over a frame of one partition; None without any."""
    found = [predicate(condition, partition=partition) for condition in conditions]
    return reduce(lambda left, right: left & right, found) if found else None


def predicate(condition: Condition, *, partition: int) -> pl.Expr:
    """One condition."""
    found = _positive(condition, partition)
    return ~found if condition.negated else found


def _positive(condition: Condition, partition: int) -> pl.Expr:
    column, value, operator = condition.column, condition.value, condition.operator
    if operator is Operator.IN:
        assert isinstance(value, tuple)  # made by the parser
        each = [_positive(Condition(column, Operator.EQ, v), partition) for v in value]
        return reduce(lambda left, right: left | right, each) if each else pl.lit(False)
    if column.name == POSITION and operator is not Operator.IS:
        assert isinstance(value, tuple)  # made by the parser
        return _place(operator, value, partition)
    if operator is Operator.IS:
        return pl.col(column.name).eq_missing(pl.lit(value))
    if isinstance(value, LikePattern):
        return pl.col(column.name).str.contains(value.regex())
    left, right = _comparable(condition, value)  # type: ignore[arg-type]  # a scalar: the rest is handled above
    compared: pl.Expr = _COMPARE[operator](left, right)
    return compared


def _place(operator: Operator, value: tuple[Any, ...], partition: int) -> pl.Expr:
    wanted_partition, offset = value
    if partition == wanted_partition:
        compared: pl.Expr = _COMPARE[operator](pl.col(PLACE), offset)
        return compared
    return pl.lit(bool(_COMPARE[operator](partition, wanted_partition)))


def _comparable(condition: Condition, value: Scalar) -> tuple[pl.Expr, pl.Expr]:
    """Column and value in one form: stored numbers for times, text in number order for decimals."""
    column, data_type = pl.col(condition.column.name), condition.column.type
    if data_type.is_timestamp:
        return column.dt.epoch("ms"), pl.lit(value)
    if data_type.kind is Kind.DATE:
        return column.to_physical(), pl.lit(value)
    if data_type.kind is Kind.TIME:
        return column.to_physical() // _NANOS_PER_MS, pl.lit(value)
    if data_type.kind is Kind.DECIMAL and isinstance(value, Decimal):
        precision, scale = data_type.precision or 38, data_type.scale or 0

        def texts(series: pl.Series) -> pl.Series:
            return pl.Series(
                [None if v is None else decimal_text(v, precision, scale) for v in series], dtype=pl.String
            )

        return column.map_batches(texts, return_dtype=pl.String()), pl.lit(decimal_text(value, precision, scale))
    return column, pl.lit(value)
