"""Doubles at decimal places, by the shortest text that stands for them, as Java's BigDecimal.valueOf reads them."""

from __future__ import annotations

from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal

import numpy as np
import numpy.typing as npt
import polars as pl

from penstock.expressions import decimals

__all__ = ["double_to_decimal", "round_double"]

_TOLD_APART = 1e14  # scaled numbers below it have at most 15 digits with their tie
Array = npt.NDArray[np.float64]


def round_double(value: pl.Expr, digits: int, *, half_up: bool) -> pl.Expr:
    """A double at `digits` decimal digits, by the shortest text that stands for it: ROUND(1.005, 2) is 1.01."""

    def batch(values: pl.Series) -> pl.Series:
        rounded = _round_array(values.to_numpy(), digits, half_up=half_up)
        return pl.Series(rounded).set(values.is_null(), None)

    return value.map_batches(batch, return_dtype=pl.Float64, is_elementwise=True)


def _round_array(values: Array, digits: int, *, half_up: bool) -> Array:
    """A number is compared with the doubles nearest to the decimal ties; up to 15 digits these are told apart by it.

    Beyond that the text decides, number by number.
    """
    if abs(digits) > 22:
        return values if digits > 0 else values * 0.0
    by = 10.0 ** abs(digits)
    with np.errstate(invalid="ignore", over="ignore"):
        size = np.abs(values)
        scaled = size * by if digits >= 0 else size / by
        below = np.floor(scaled)
        step = below + (0.5 if half_up else 1.0)
        kept = below + (size >= (step / by if digits >= 0 else step * by))
        rounded = np.copysign(kept / by if digits >= 0 else kept * by, values)
        rounded = np.where(rounded == 0, 0.0, rounded)
    unit = Decimal(1).scaleb(-digits)
    mode = ROUND_HALF_UP if half_up else ROUND_DOWN
    for i in np.flatnonzero(~(scaled < _TOLD_APART)):
        if np.isfinite(values[i]):
            rounded[i] = float(Decimal(repr(float(values[i]))).quantize(unit, mode, decimals.WIDE))
        else:
            rounded[i] = values[i]
    return rounded


def double_to_decimal(value: pl.Expr, precision: int, scale: int) -> pl.Expr:
    """FLOAT or DOUBLE as DECIMAL(precision, scale), HALF_UP; NULL where it does not fit or is not finite."""
    wanted = pl.Decimal(precision, scale)

    def batch(values: pl.Series) -> pl.Series:
        numbers = values.cast(pl.String).cast(pl.Float64) if values.dtype == pl.Float32 else values
        array = numbers.to_numpy()
        rounded = _round_array(array, scale, half_up=True)
        with np.errstate(invalid="ignore", over="ignore"):
            scaled = rounded * 10.0**scale
            small = np.abs(scaled) < _TOLD_APART
        whole = pl.Series("n", np.rint(np.where(small, scaled, 0.0)).astype(np.int64)).cast(pl.Int128)
        found = whole.to_frame().select(decimals.from_unscaled(pl.col("n"), precision, scale)).to_series()
        odd = np.flatnonzero(~small)
        if len(odd):
            found = found.scatter(odd, pl.Series([_decimal(array[i], precision, scale) for i in odd], dtype=wanted))
        return found.set(values.is_null(), None)

    return value.map_batches(batch, return_dtype=wanted, is_elementwise=True)


def _decimal(value: float, precision: int, scale: int) -> Decimal | None:
    if not np.isfinite(value):
        return None
    unit = Decimal(1).scaleb(-scale)
    rounded = Decimal(repr(float(value))).quantize(unit, ROUND_HALF_UP, decimals.WIDE)
    return rounded if rounded == 0 or rounded.adjusted() < precision - scale else None
