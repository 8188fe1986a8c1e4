"""FIRST_VALUE and LAST_VALUE: the value of a group that came first or last, in the order in which rows arrive.

The number of a row's arrival is kept beside its value, so that slices and sessions merge in any order. Rows carry it
as `$row`: from 0 in each batch; what came before a batch is counted here. Semantics: Flink; NULL is not a value.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from penstock_processor.operators.accumulators import Slots

__all__ = ["ROW", "Arrival", "numbered"]

ROW = "$row"  # number of a row in its batch, in the order of arrival


class Arrival:
    """The first (or the `last`) value of each slot: `name` is the value, `name`+"~" the number of its arrival."""

    def __init__(self, name: str, column: str, *, last: bool, dtype: pl.DataType) -> None:
        self._name, self._order, self._last, self._dtype = name, name + "~", last, dtype
        some = pl.col(column).is_not_null()
        value, row = pl.col(column).filter(some), pl.col(ROW).filter(some)
        best = row.max() if last else row.min()
        ordered = value.sort_by(row)
        self.partials = [(ordered.last() if last else ordered.first()).alias(name), best.alias(self._order)]
        known = pl.col(self._order).is_not_null()
        saved = pl.col(name).filter(known).sort_by(pl.col(self._order).filter(known))
        order = pl.col(self._order)
        self.merges = [saved.last() if last else saved.first(), order.max() if last else order.min()]
        self._values: npt.NDArray[Any] = np.zeros(0, object)
        self._orders = np.zeros(0, np.int64)
        self._next = 0

    def grow(self, capacity: int) -> None:
        """See `Accumulator`."""
        more = capacity - len(self._values)
        self._values = np.concatenate([self._values, np.full(more, None, object)])
        self._orders = np.concatenate([self._orders, np.zeros(more, np.int64)])

    def clear(self, slots: Slots) -> None:
        """See `Accumulator`."""
        self._values[slots] = None

    def absorb(self, slots: Slots, grouped: pl.DataFrame) -> None:
        """See `Accumulator`. Rows of this batch come after all before it."""
        some = grouped[self._order].is_not_null()
        found, slots = grouped.filter(some), slots[some.to_numpy()]
        if not found.height:
            return
        orders = found[self._order].to_numpy() + self._next
        self._next = int(orders.max()) + 1
        self._take(slots, found[self._name].to_list(), orders)

    def save(self, slots: Slots) -> list[pl.Series]:
        """See `Accumulator`."""
        values = self._values[slots].tolist()
        orders = self._orders[slots].tolist()
        known = [None if value is None else order for value, order in zip(values, orders, strict=True)]
        return [pl.Series(self._name, values, dtype=self._dtype), pl.Series(self._order, known, dtype=pl.Int64)]

    def load(self, slots: Slots, saved: pl.DataFrame) -> None:
        """See `Accumulator`."""
        self._values[slots] = None
        some = saved[self._order].is_not_null()
        found = saved.filter(some)
        if found.height:
            orders = found[self._order].to_numpy()
            self._next = max(self._next, int(orders.max()) + 1)
            self._take(slots[some.to_numpy()], found[self._name].to_list(), orders)

    def _take(self, slots: Slots, values: list[Any], orders: npt.NDArray[np.int64]) -> None:
        for slot, value, order in zip(slots.tolist(), values, orders.tolist(), strict=True):
            if self._last or self._values[slot] is None:
                self._values[slot] = value
                self._orders[slot] = order


def numbered(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with `$row`, unless they have it."""
    if ROW in rows.columns:
        return rows
    return rows.hstack([pl.Series(ROW, np.arange(rows.height, dtype=np.int64))])
