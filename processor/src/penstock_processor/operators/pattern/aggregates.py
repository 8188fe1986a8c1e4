"""Aggregates over the rows of a variable, one row after the other: what is kept is a tuple and never changed.

Results are Flink's: SUM keeps the type of its argument and wraps around in it, AVG of integers truncates, of DECIMAL
rounds half up. No value at all is NULL (COUNT: 0).
"""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any

from penstock.model.types import DataType, Kind

__all__ = ["EMPTY", "Kept", "added", "result_of"]

#: (number of values, their sum or the least or greatest one)
Kept = tuple[int, Any]
EMPTY: Kept = (0, None)

_BITS = {Kind.TINYINT: 8, Kind.SMALLINT: 16, Kind.INT: 32, Kind.BIGINT: 64}
_WIDE = Context(prec=80)
_DECIMAL_LIMIT = Decimal(10) ** 38


def added(kept: Kept, value: Any, function: str) -> Kept:
    """`kept` with one more value."""
    if value is None:
        return kept
    count, so_far = kept
    if function == "COUNT" or so_far is None:
        return count + 1, value
    match function:
        case "MIN":
            best = value if value < so_far or so_far != so_far else so_far
        case "MAX":
            best = value if value > so_far or so_far != so_far else so_far
        case _:
            best = _WIDE.add(so_far, value) if isinstance(value, Decimal) else so_far + value
    return count + 1, best


def result_of(kept: Kept, function: str, data_type: DataType) -> Any:
    """The value of the aggregate, whose type is `data_type`."""
    count, value = kept
    if function == "COUNT":
        return count
    if count == 0 or function in ("MIN", "MAX"):
        return value
    if data_type.kind is Kind.DECIMAL:
        return _decimal(value if function == "SUM" else _WIDE.divide(value, Decimal(count)), data_type.scale or 0)
    if function == "SUM":
        return _wrapped(value, data_type)
    if data_type.is_integer:
        return -(-value // count) if value < 0 else value // count
    return value / count


def _wrapped(value: Any, data_type: DataType) -> Any:
    bits = _BITS.get(data_type.kind)
    if bits is None:
        return value
    half = 1 << (bits - 1)
    return (value + half) % (2 * half) - half


def _decimal(value: Decimal, scale: int) -> Decimal | None:
    rounded = value.quantize(Decimal(1).scaleb(-scale), rounding=ROUND_HALF_UP, context=_WIDE)
    return rounded if abs(rounded) < _DECIMAL_LIMIT.scaleb(-scale) else None
