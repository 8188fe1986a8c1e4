"""All values of a group, for aggregate calls whose result needs them: LISTAGG, ARRAY_AGG, PERCENTILE.

Deltas carry the values that are new, never those that a group has already. A result is computed when it is told.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from penstock_processor.operators.accumulators import Slots
from penstock_processor.operators.arrival import ROW
from penstock_processor.operators.slots import SlotTable, hashable_keys
from penstock_processor.operators.step import SLICE

__all__ = ["Collected", "CollectedFeed", "percentile"]


@dataclass(frozen=True, slots=True)
class Collected:
    """A result over the values of a group in the order of their arrival: shown as column `name` of type `dtype`."""

    name: str
    dtype: pl.DataType
    of: Callable[[list[Any]], Any]


class CollectedFeed:
    """Values per slot, each with the number of its arrival. `column` holds the argument.

    `distinct`: each value once. `nulls`: NULL is a value, too; else it is left out.
    """

    def __init__(self, column: str, dtype: pl.DataType, *, keys: Sequence[str], results: Sequence[Collected],
                 distinct: bool, nulls: bool) -> None:  # fmt: skip
        self.column = column
        self.results = tuple(results)
        self._dtype = dtype
        self._keys = tuple(keys)
        self._distinct, self._nulls = distinct, nulls
        self._values: dict[int, list[tuple[int, Any]]] = {}
        self._seen: dict[int, set[Hashable]] = {}
        self._next = 0

    def absorb(self, rows: pl.DataFrame, table: SlotTable) -> pl.DataFrame:
        """Take the values of rows with `$row`; returns those that are new (slice, keys, value, arrival)."""
        values = rows.select(SLICE, *self._keys, self.column, pl.col(ROW) + self._next).sort(ROW)
        if not self._nulls:
            values = values.drop_nulls(self.column)
        return self._learn(values, table)

    def load(self, values: pl.DataFrame, table: SlotTable) -> None:
        """Learn values that were kept."""
        self._learn(values, table)

    def save(self, keys: pl.DataFrame, slots: Slots) -> pl.DataFrame:
        """Everything known of these slots; row i of `keys` (slice, keys) is slot `slots[i]`."""
        lists = [self._values.get(slot, []) for slot in slots.tolist()]
        rows = np.repeat(np.arange(len(lists)), [len(known) for known in lists])
        values = pl.Series(self.column, [value for known in lists for _, value in known], dtype=self._dtype)
        orders = pl.Series(ROW, [order for known in lists for order, _ in known], dtype=pl.Int64)
        return keys[rows].hstack([values, orders])

    def merge(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Take the values of slots into others; the first ones are free then."""
        for source, target in zip(sources, targets, strict=True):
            joined = sorted([*self._values.pop(target, []), *self._values.pop(source, [])], key=lambda each: each[0])
            if self._distinct:
                self._seen.pop(source, None)
                seen = self._seen[target] = set()
                joined = [each for each in joined if _is_new(seen, each[1])]
            if joined:
                self._values[target] = joined

    def forget(self, slots: Slots) -> None:
        """These slots are free."""
        for slot in slots.tolist():
            self._values.pop(slot, None)
            self._seen.pop(slot, None)

    def shown(self, slots: Slots) -> list[pl.Series]:
        """The results of these slots; NULL where there is no value."""
        lists = [[value for _, value in self._values.get(slot, ())] for slot in slots.tolist()]
        return [
            pl.Series(result.name, [result.of(known) if known else None for known in lists], dtype=result.dtype)
            for result in self.results
        ]

    def _learn(self, values: pl.DataFrame, table: SlotTable) -> pl.DataFrame:
        if not values.height:
            return values
        keys = hashable_keys([values[name] for name in self._keys], values.height)
        slots, _ = table.find(values[SLICE], keys)
        orders = values[ROW].to_list()
        self._next = max(self._next, max(orders) + 1)
        fresh = np.ones(values.height, np.bool_)
        for n, (slot, order, value) in enumerate(
            zip(slots.tolist(), orders, values[self.column].to_list(), strict=True)
        ):
            if self._distinct and not _is_new(self._seen.setdefault(slot, set()), value):
                fresh[n] = False
                continue
            self._values.setdefault(slot, []).append((order, value))
        return values if fresh.all() else values.filter(pl.Series(fresh))


def percentile(values: list[float], share: float) -> float:
    """The value that `share` (0 to 1) of sorted `values` lie below; between two, in proportion (as Flink)."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * share
    low, high = int(np.floor(place)), int(np.ceil(place))
    if low == high:
        return ordered[low]
    return (high - place) * ordered[low] + (place - low) * ordered[high]


def _is_new(seen: set[Hashable], value: Any) -> bool:
    """Whether nobody has seen the value; it is seen now. Every NaN is one value."""
    known: Hashable = "NaN" if isinstance(value, float) and value != value else _hashable(value)
    if known in seen:
        return False
    seen.add(known)
    return True


def _hashable(value: Any) -> Hashable:
    match value:
        case list():
            return tuple(_hashable(each) for each in value)
        case dict():
            return tuple((name, _hashable(each)) for name, each in value.items())
    return value  # type: ignore[no-any-return]  # what is left is a plain value
