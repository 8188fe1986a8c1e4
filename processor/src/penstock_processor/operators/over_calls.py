"""What OVER computes: values of the rows of a frame, put together from parts of it.

A frame lies in several parts, the oldest first: what is kept of all rows before, segments of earlier rows, the rows
of this batch. A call gives its value for ranges of one part, and joins the values of an older and a newer part.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from penstock_processor.operators.accumulators import decimals
from penstock_processor.operators.ranges import Ints, RangeTree

__all__ = ["OverCall", "OverCount", "OverPick", "OverSum", "Pick", "masked"]

Pick = Literal["MIN", "MAX", "FIRST", "LAST"]

_DECIMAL_LIMIT = 10**38
_LAST = 2**62  # above every number of a row or value


class OverCall(Protocol):
    """`name`: the column of its values, of type `dtype`. `nothing`: its value where there are no rows."""

    name: str
    dtype: pl.DataType
    nothing: Any

    def tree(self, rows: pl.DataFrame) -> RangeTree:
        """What `over` needs of a part, made once."""
        ...

    def over(self, rows: pl.DataFrame, tree: RangeTree, first: Ints, last: Ints) -> pl.Series:
        """Values of the ranges [first, last) of `rows`."""
        ...

    def joined(self, older: pl.Series, newer: pl.Series) -> pl.Series:
        """Values of older and newer rows together."""
        ...


class OverCount:
    """COUNT(*) (`column` None) or the number of values that are not NULL."""

    def __init__(self, name: str, column: str | None) -> None:
        self.name = name
        self.dtype: pl.DataType = pl.Int64()
        self.nothing: Any = 0
        self._column = column

    def tree(self, rows: pl.DataFrame) -> RangeTree:
        """See `OverCall`."""
        if self._column is None:
            ones = np.ones(rows.height, np.int64)
        else:
            ones = rows[self._column].is_not_null().to_numpy().astype(np.int64)
        return RangeTree(ones, np.add, 0)

    def over(self, rows: pl.DataFrame, tree: RangeTree, first: Ints, last: Ints) -> pl.Series:
        """See `OverCall`."""
        return pl.Series(self.name, tree.over(first, last))

    def joined(self, older: pl.Series, newer: pl.Series) -> pl.Series:
        """See `OverCall`."""
        return older + newer


class OverSum:
    """Sum of BIGINT (wraps around), DOUBLE (`squares`: of squares) or DECIMAL with `scale`; 0 where there is none.

    A DECIMAL beyond 38 digits is NULL.
    """

    def __init__(self, name: str, column: str, *, dtype: pl.DataType, scale: int | None = None,
                 squares: bool = False) -> None:  # fmt: skip
        self.name = name
        self.dtype = dtype
        self.nothing: Any = Decimal(0) if scale is not None else 0
        self._column, self._scale, self._squares = column, scale, squares

    def tree(self, rows: pl.DataFrame) -> RangeTree:
        """See `OverCall`."""
        column = rows[self._column]
        if self._scale is not None:
            return RangeTree(_objects([v or 0 for v in column.to_physical().to_list()]), np.add, 0)
        values: npt.NDArray[Any] = column.fill_null(0).to_numpy()
        return RangeTree(values * values if self._squares else values, np.add, 0)

    def over(self, rows: pl.DataFrame, tree: RangeTree, first: Ints, last: Ints) -> pl.Series:
        """See `OverCall`."""
        with np.errstate(invalid="ignore", over="ignore"):
            found = tree.over(first, last)
        if self._scale is None:
            return pl.Series(self.name, found)
        return self._decimals(found.tolist())

    def joined(self, older: pl.Series, newer: pl.Series) -> pl.Series:
        """See `OverCall`."""
        if self._scale is None:
            return older + newer
        pairs = zip(older.to_physical().to_list(), newer.to_physical().to_list(), strict=True)
        return self._decimals([None if a is None or b is None else a + b for a, b in pairs])

    def _decimals(self, values: list[int | None]) -> pl.Series:
        fitting = [None if v is None or abs(v) >= _DECIMAL_LIMIT else v for v in values]
        return decimals(self.name, fitting, 38, self._scale or 0)


class OverPick:
    """MIN, MAX, FIRST_VALUE and LAST_VALUE, which all pass over NULL; `dtype` is the column's."""

    def __init__(self, name: str, column: str, *, dtype: pl.DataType, pick: Pick) -> None:
        self.name = name
        self.dtype = dtype
        self.nothing: Any = None
        self._column, self._pick = column, pick
        self._least = pick in ("MIN", "FIRST")

    def tree(self, rows: pl.DataFrame) -> RangeTree:
        """Over numbers of rows, in their order or that of their values."""
        column = rows[self._column]
        nothing = _LAST if self._least else -1
        numbers = np.arange(rows.height, dtype=np.int64)
        order: Ints | None = None
        if self._pick in ("MIN", "MAX"):
            order = column.arg_sort(nulls_last=True).to_numpy().astype(np.int64)
            numbers[order] = np.arange(rows.height)
        numbers[column.is_null().to_numpy()] = nothing
        return RangeTree(numbers, np.minimum if self._least else np.maximum, nothing, order)

    def over(self, rows: pl.DataFrame, tree: RangeTree, first: Ints, last: Ints) -> pl.Series:
        """See `OverCall`."""
        column = rows[self._column]
        found = tree.over(first, last)
        some = (found >= 0) & (found < _LAST)
        if not some.any():
            return pl.Series(self.name, [None] * len(found), dtype=self.dtype)
        places = np.where(some, found, 0)
        if tree.rows is not None:
            places = tree.rows[places]
        picked = column.gather(pl.Series(places)).alias(self.name)
        return masked(picked, some)

    def joined(self, older: pl.Series, newer: pl.Series) -> pl.Series:
        """See `OverCall`."""
        a, b = pl.col("older"), pl.col("newer")
        match self._pick:
            case "FIRST":
                best = pl.coalesce(a, b)
            case "LAST":
                best = pl.coalesce(b, a)
            case "MIN":
                best = pl.when(a.is_null() | (b < a)).then(pl.coalesce(b, a)).otherwise(a)
            case "MAX":
                best = pl.when(a.is_null() | (b > a)).then(pl.coalesce(b, a)).otherwise(a)
        both = pl.DataFrame([older.alias("older"), newer.alias("newer")])
        return both.select(best.alias(self.name)).to_series()


def masked(values: pl.Series, there: npt.NDArray[np.bool_]) -> pl.Series:
    """NULL for values that are not there."""
    if there.all():
        return values
    frame = pl.DataFrame([values.alias("value"), pl.Series("there", there)])
    return frame.select(pl.when("there").then("value").alias(values.name)).to_series()


def _objects(values: list[Any]) -> npt.NDArray[Any]:
    made = np.empty(len(values), object)
    made[:] = values
    return made
