"""DECIMAL arithmetic on Polars: exact in 128-bit integers, HALF_UP like Java's BigDecimal in Flink.

Polars keeps the greater scale of two operands and rounds half to even, so products, quotients and conversions go over
the unscaled integer here. As in Flink (DecimalData.fromBigDecimal), a result with too many digits is NULL.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import ROUND_DOWN, ROUND_HALF_UP, Context, Decimal

import polars as pl

__all__ = ["WIDE", "add", "divide", "divide_down", "divide_half_up", "exactly", "from_unscaled", "modulo", "multiply",
           "power", "rescale", "unscaled"]  # fmt: skip

_DIGITS_MAX = 38
WIDE = Context(prec=400)
_ZERO = pl.lit(0, dtype=pl.Int128)  # Int128 has no unary minus in Polars


def unscaled(value: pl.Expr) -> pl.Expr:
    """The unscaled integer (Int128) of a DECIMAL expression."""
    return value.to_physical().cast(pl.Int128)


def from_unscaled(value: pl.Expr, precision: int, scale: int) -> pl.Expr:
    """DECIMAL(precision, scale) of an unscaled Int128; NULL where it has too many digits."""
    bound = pl.lit(10**precision, dtype=pl.Int128)
    kept = pl.when((value < bound) & (value > -bound)).then(value)
    shifted = kept.cast(pl.Decimal(_DIGITS_MAX, 0))
    if scale:
        unit = pl.lit(Decimal(1).scaleb(-scale), dtype=pl.Decimal(_DIGITS_MAX, scale))
        shifted = shifted * unit
    return shifted.cast(pl.Decimal(precision, scale))


def rescale(value: pl.Expr, *, from_scale: int, precision: int, scale: int) -> pl.Expr:
    """An unscaled Int128 of `from_scale` as DECIMAL(precision, scale), HALF_UP."""
    if scale < from_scale:
        return from_unscaled(divide_half_up(value, power(from_scale - scale)), precision, scale)
    shift = scale - from_scale
    bound = pl.lit(10 ** max(0, precision - shift), dtype=pl.Int128)
    fits = pl.when((value < bound) & (value > -bound)).then(value)
    return from_unscaled(fits * power(shift), precision, scale)


def power(exponent: int) -> pl.Expr:
    """10**exponent as Int128."""
    return pl.lit(10**exponent, dtype=pl.Int128)


def divide_half_up(dividend: pl.Expr, divisor: pl.Expr) -> pl.Expr:
    """Integer quotient, ties away from zero. NULL where the divisor is 0."""
    size, by = dividend.abs(), divisor.abs()
    quotient = size // by
    rest = size - quotient * by
    rounded = quotient + (rest >= by - rest).cast(pl.Int128)
    return pl.when((dividend < 0) != (divisor < 0)).then(_ZERO - rounded).otherwise(rounded)


def divide_down(dividend: pl.Expr, divisor: pl.Expr) -> pl.Expr:
    """Integer quotient toward zero. NULL where the divisor is 0."""
    quotient = dividend.abs() // divisor.abs()
    return pl.when((dividend < 0) != (divisor < 0)).then(_ZERO - quotient).otherwise(quotient)


def exactly(
    operation: Callable[[Decimal, Decimal], Decimal], left: pl.Expr, right: pl.Expr, *, precision: int, scale: int
) -> pl.Expr:
    """`operation` on Python decimals, row by row: the way for results that do not fit 128 bits on the way."""

    def one(row: dict[str, Decimal | None]) -> Decimal | None:
        a, b = row["a"], row["b"]
        if a is None or b is None:
            return None
        rounded = operation(a, b).quantize(Decimal(1).scaleb(-scale), rounding=ROUND_HALF_UP, context=WIDE)
        return rounded if rounded.adjusted() < precision - scale or rounded == 0 else None

    def batch(rows: pl.Series) -> pl.Series:
        return pl.Series([one(row) for row in rows.to_list()], dtype=pl.Decimal(precision, scale))

    pair = pl.struct(left.alias("a"), right.alias("b"))
    return pair.map_batches(batch, return_dtype=pl.Decimal(precision, scale), is_elementwise=True)


def add(a: Decimal, b: Decimal) -> Decimal:
    """Exact sum."""
    return WIDE.add(a, b)


def multiply(a: Decimal, b: Decimal) -> Decimal:
    """Exact product."""
    return WIDE.multiply(a, b)


def divide(a: Decimal, b: Decimal) -> Decimal:
    """Quotient to 120 digits; 0 for a division by 0, which the error mask reports."""
    return WIDE.divide(a, b) if b else Decimal(0)


def modulo(a: Decimal, b: Decimal) -> Decimal:
    """Remainder with the sign of the dividend; 0 for a division by 0, which the error mask reports."""
    return WIDE.subtract(a, WIDE.multiply((WIDE.divide(a, b)).to_integral_value(ROUND_DOWN), b)) if b else Decimal(0)
