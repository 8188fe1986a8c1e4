"""Accumulators of aggregate calls: NumPy arrays over slots. A batch is grouped by Polars first and touches its slots.

Each has three faces: `partials` (Polars, over the rows of one group in a batch), arrays (merging partials into slots,
here), and `merges` (Polars, over the saved columns of several slices of one window). Saved columns are what deltas
carry: the new value of a slot, never a part to be added.

DOUBLE sums keep a running sum with its rounding error beside it (Knuth's TwoSum), so that the error does not grow
with the number of batches. Integer sums wrap around in 64 bits, as Flink's do. DECIMAL sums are exact Python integers
and become NULL beyond 38 digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Context, Decimal
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import polars as pl

__all__ = ["Accumulator", "Count", "DecimalSum", "DoubleSum", "Extreme", "IntegerSum", "ObjectExtreme",
           "Retracting", "Slots", "SquareSum", "decimals"]  # fmt: skip

Slots = npt.NDArray[np.int64]

_DECIMAL_LIMIT = 10**38
_WIDE = Context(prec=80)


class Accumulator(Protocol):
    """One kind of state over all slots. A slot occurs at most once in a call."""

    @property
    def partials(self) -> Sequence[pl.Expr]:
        """Aggregations of one batch's groups, aliased to columns that `absorb` reads."""
        ...

    @property
    def merges(self) -> Sequence[pl.Expr]:
        """Aggregations that merge saved columns of several slices into one, under the same names."""
        ...

    def grow(self, capacity: int) -> None:
        """Make room for slots below `capacity`."""
        ...

    def clear(self, slots: Slots) -> None:
        """Start afresh."""
        ...

    def absorb(self, slots: Slots, grouped: pl.DataFrame) -> None:
        """Merge row i of `grouped` into slot `slots[i]`."""
        ...

    def save(self, slots: Slots) -> list[pl.Series]:
        """Saved columns of these slots."""
        ...

    def load(self, slots: Slots, saved: pl.DataFrame) -> None:
        """Set these slots to saved columns."""
        ...


@runtime_checkable
class Retracting(Accumulator, Protocol):
    """State that rows can be taken out of again."""

    def retract(self, slots: Slots, grouped: pl.DataFrame) -> None:
        """Undo `absorb` of row i of `grouped` in slot `slots[i]`."""
        ...


class Count:
    """COUNT(*) (`column` None) or the number of values that are not NULL."""

    def __init__(self, name: str, column: str | None) -> None:
        self._name = name
        self.partials = [(pl.len() if column is None else pl.col(column).count()).cast(pl.Int64).alias(name)]
        self.merges = [pl.col(name).sum()]
        self._counts = np.zeros(0, np.int64)

    def grow(self, capacity: int) -> None:
        """See `Accumulator`."""
        self._counts = _grown(self._counts, capacity)

    def clear(self, slots: Slots) -> None:
        """See `Accumulator`."""
        self._counts[slots] = 0

    def absorb(self, slots: Slots, grouped: pl.DataFrame) -> None:
        """See `Accumulator`."""
        self._counts[slots] += grouped[self._name].to_numpy()

    def retract(self, slots: Slots, grouped: pl.DataFrame) -> None:
        """See `Retracting`."""
        self._counts[slots] -= grouped[self._name].to_numpy()

    def save(self, slots: Slots) -> list[pl.Series]:
        """See `Accumulator`."""
        return [pl.Series(self._name, self._counts[slots])]

    def load(self, slots: Slots, saved: pl.DataFrame) -> None:
        """See `Accumulator`."""
        self._counts[slots] = saved[self._name].to_numpy()


class IntegerSum(Count):
    """Sum of BIGINT (smaller integers are widened before): wraps around in 64 bits."""

    def __init__(self, name: str, column: str) -> None:
        super().__init__(name, column)
        self.partials = [pl.col(column).sum().alias(name)]


class DoubleSum:
    """Sum of DOUBLE and FLOAT: `name` is the sum, `name`+"~" what rounding took from it."""

    def __init__(self, name: str, column: str) -> None:
        self._name, self._rest = name, name + "~"
        self.partials = [pl.col(column).sum().alias(name)]
        self.merges = [pl.col(self._name).sum(), pl.col(self._rest).sum()]
        self._sums = np.zeros(0, np.float64)
        self._errors = np.zeros(0, np.float64)

    def grow(self, capacity: int) -> None:
        """See `Accumulator`."""
        self._sums, self._errors = _grown(self._sums, capacity), _grown(self._errors, capacity)

    def clear(self, slots: Slots) -> None:
        """See `Accumulator`."""
        self._sums[slots] = 0.0
        self._errors[slots] = 0.0

    def absorb(self, slots: Slots, grouped: pl.DataFrame) -> None:
        """TwoSum: `total` + `error` is exactly sum + x. Infinities have no error to keep."""
        self._add(slots, grouped[self._name].to_numpy())

    def retract(self, slots: Slots, grouped: pl.DataFrame) -> None:
        """See `Retracting`. What was infinite or NaN stays so."""
        self._add(slots, -grouped[self._name].to_numpy())

    def _add(self, slots: Slots, added: npt.NDArray[np.float64]) -> None:
        old = self._sums[slots]
        with np.errstate(invalid="ignore", over="ignore"):
            total = old + added
            part = total - old
            error = (old - (total - part)) + (added - part)
        self._sums[slots] = total
        self._errors[slots] += np.where(np.isfinite(total), error, 0.0)

    def save(self, slots: Slots) -> list[pl.Series]:
        """See `Accumulator`."""
        return [pl.Series(self._name, self._sums[slots]), pl.Series(self._rest, self._errors[slots])]

    def load(self, slots: Slots, saved: pl.DataFrame) -> None:
        """See `Accumulator`."""
        self._sums[slots] = saved[self._name].to_numpy()
        self._errors[slots] = saved[self._rest].to_numpy()


class SquareSum(DoubleSum):
    """Sum of the squares of DOUBLE."""

    def __init__(self, name: str, column: str) -> None:
        super().__init__(name, column)
        self.partials = [(pl.col(column) * pl.col(column)).sum().alias(name)]


class DecimalSum:
    """Exact sum of DECIMAL(p, s), saved as DECIMAL(38, s). Beyond 38 digits it is NULL and stays so."""

    def __init__(self, name: str, column: str, scale: int) -> None:
        self._name, self._scale = name, scale
        self.partials = [pl.col(column).cast(pl.Decimal(38, scale)).sum().alias(name)]
        self.merges = [pl.when(pl.col(name).null_count() == 0).then(pl.col(name).sum()).alias(name)]
        self._sums: npt.NDArray[Any] = np.zeros(0, object)

    def grow(self, capacity: int) -> None:
        """See `Accumulator`."""
        self._sums = _grown(self._sums, capacity)

    def clear(self, slots: Slots) -> None:
        """See `Accumulator`."""
        self._sums[slots] = 0

    def absorb(self, slots: Slots, grouped: pl.DataFrame) -> None:
        """See `Accumulator`."""
        old = self._sums[slots].tolist()
        self._set(slots, [_exact_sum(a, b) for a, b in zip(old, _unscaled(grouped[self._name]), strict=True)])

    def retract(self, slots: Slots, grouped: pl.DataFrame) -> None:
        """See `Retracting`."""
        old, taken = self._sums[slots].tolist(), _unscaled(grouped[self._name])
        self._set(slots, [_exact_sum(a, None if b is None else -b) for a, b in zip(old, taken, strict=True)])

    def save(self, slots: Slots) -> list[pl.Series]:
        """See `Accumulator`."""
        return [decimals(self._name, self._sums[slots].tolist(), 38, self._scale)]

    def load(self, slots: Slots, saved: pl.DataFrame) -> None:
        """See `Accumulator`."""
        self._set(slots, _unscaled(saved[self._name]))

    def _set(self, slots: Slots, values: list[int | None]) -> None:
        self._sums[slots] = _objects(values)


class Extreme:
    """MIN or MAX of what NumPy holds: numbers, and times and booleans as their integers. NULL while there is none.

    NaN counts only where there is nothing else.
    """

    def __init__(self, name: str, column: str, *, function: str, dtype: type[np.int64] | type[np.float64]) -> None:
        self._name, self._least = name, function == "MIN"
        self.partials = [(pl.col(column).min() if self._least else pl.col(column).max()).alias(name)]
        self.merges = [pl.col(name).min() if self._least else pl.col(name).max()]
        self._values: npt.NDArray[Any] = np.zeros(0, dtype)
        self._known = np.zeros(0, np.bool_)

    def grow(self, capacity: int) -> None:
        """See `Accumulator`."""
        self._values, self._known = _grown(self._values, capacity), _grown(self._known, capacity)

    def clear(self, slots: Slots) -> None:
        """See `Accumulator`."""
        self._known[slots] = False

    def absorb(self, slots: Slots, grouped: pl.DataFrame) -> None:
        """See `Accumulator`."""
        column = grouped[self._name]
        if column.null_count():
            some = column.is_not_null().to_numpy()
            slots, column = slots[some], column.drop_nulls()
        new = column.to_numpy()
        better = np.fmin if self._least else np.fmax
        self._values[slots] = np.where(self._known[slots], better(self._values[slots], new), new)
        self._known[slots] = True

    def save(self, slots: Slots) -> list[pl.Series]:
        """See `Accumulator`."""
        values, known = pl.Series(self._name, self._values[slots]), self._known[slots]
        if known.all():
            return [values]
        return [values.set(pl.Series(~known), None)]

    def load(self, slots: Slots, saved: pl.DataFrame) -> None:
        """See `Accumulator`."""
        self._known[slots] = False
        self.absorb(slots, saved)


class ObjectExtreme:
    """MIN or MAX of STRING, BYTES and DECIMAL: Python values (strings in code point order, as UTF-8 bytes are)."""

    def __init__(self, name: str, column: str, *, function: str, dtype: pl.DataType) -> None:
        self._name, self._dtype, self._best = name, dtype, min if function == "MIN" else max
        self.partials = [(pl.col(column).min() if function == "MIN" else pl.col(column).max()).alias(name)]
        self.merges = [pl.col(name).min() if function == "MIN" else pl.col(name).max()]
        self._values: npt.NDArray[Any] = np.zeros(0, object)

    def grow(self, capacity: int) -> None:
        """See `Accumulator`."""
        self._values = _grown(self._values, capacity)

    def clear(self, slots: Slots) -> None:
        """See `Accumulator`."""
        self._values[slots] = None

    def absorb(self, slots: Slots, grouped: pl.DataFrame) -> None:
        """See `Accumulator`."""
        merged = [
            new if old is None else old if new is None else self._best(old, new)
            for old, new in zip(self._values[slots].tolist(), grouped[self._name].to_list(), strict=True)
        ]
        self._values[slots] = _objects(merged)

    def save(self, slots: Slots) -> list[pl.Series]:
        """See `Accumulator`."""
        return [pl.Series(self._name, self._values[slots].tolist(), dtype=self._dtype)]

    def load(self, slots: Slots, saved: pl.DataFrame) -> None:
        """See `Accumulator`."""
        self._values[slots] = _objects(saved[self._name].to_list())


def decimals(name: str, unscaled: Sequence[int | None], precision: int, scale: int) -> pl.Series:
    """Integers as DECIMAL(precision, scale) with these digits."""
    values = [None if v is None else _WIDE.scaleb(Decimal(v), -scale) for v in unscaled]
    return pl.Series(name, values, dtype=pl.Decimal(precision, scale))


def _unscaled(column: pl.Series) -> list[int | None]:
    return column.to_physical().to_list()


def _exact_sum(a: int | None, b: int | None) -> int | None:
    if a is None or b is None or abs(a + b) >= _DECIMAL_LIMIT:
        return None
    return a + b


def _objects(values: list[Any]) -> npt.NDArray[Any]:
    made = np.empty(len(values), object)
    made[:] = values
    return made


def _grown(array: npt.NDArray[Any], capacity: int) -> npt.NDArray[Any]:
    made = np.zeros(capacity, array.dtype)
    made[: len(array)] = array
    return made
