"""All values of a group, for aggregate calls whose result needs them: LISTAGG, ARRAY_AGG, PERCENTILE.

Deltas carry the values that are new, never those that a group has already. A result is computed when it is told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from penstock_processor.operators.accumulators import Slots
from penstock_processor.operators.arrival import ROW
from penstock_processor.operators.slots import SlotTable, hashable_keys
from penstock_processor.operators.step import SLICE

__all__ = ["Collected", "CollectedFeed", "counted", "percentiles"]


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
        self._values: dict[int, dict[int, Any]] = {}  # by arrival: what is learnt twice is there once
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
        lists = [self._values.get(slot, {}) for slot in slots.tolist()]
        rows = np.repeat(np.arange(len(lists)), [len(known) for known in lists])
        values = pl.Series(self.column, [value for known in lists for value in known.values()], dtype=self._dtype)
        orders = pl.Series(ROW, [order for known in lists for order in known], dtype=pl.Int64)
        return keys[rows].hstack([values, orders])

    def merge(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Take the values of slots into others; the first ones are free then."""
        for source, target in zip(sources, targets, strict=True):
            both = self._values.pop(target, {}) | self._values.pop(source, {})
            joined = {order: both[order] for order in sorted(both)}
            if self._distinct:
                self._seen.pop(source, None)
                seen = self._seen[target] = set()
                joined = {order: value for order, value in joined.items() if _is_new(seen, value)}
            if joined:
                self._values[target] = joined

    def forget(self, slots: Slots) -> None:
        """These slots are free."""
        for slot in slots.tolist():
            self._values.pop(slot, None)
            self._seen.pop(slot, None)

    def shown(self, slots: Slots) -> list[pl.Series]:
        """The results of these slots; NULL where there is no value."""
        lists = [
            [value for _, value in sorted(self._values.get(slot, {}).items(), key=lambda each: each[0])]
            for slot in slots.tolist()
        ]
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
            self._values.setdefault(slot, {})[order] = value
        return values if fresh.all() else values.filter(pl.Series(fresh))


def counted(values: list[Any]) -> list[dict[str, Any]]:
    """Each value with how often it is there, as pairs of a map."""
    return [{"key": value, "value": count} for value, count in Counter(values).items()]


def percentiles(values: list[Any], shares: Sequence[float]) -> list[float] | None:
    """The values that `shares` (0 to 1) of all lie below; between two, in proportion (as Flink).

    A value may be a struct of it and of how often it counts; less than once is not at all.
    """
    weights: dict[float, int] = {}
    for each in values:
        value, weight = each.values() if isinstance(each, dict) else (each, 1)
        if value is not None and weight is not None and weight > 0:
            weights[value] = weights.get(value, 0) + weight
    if not weights:
        return None
    ordered = sorted(weights)
    upto = np.cumsum([weights[value] for value in ordered])
    return [_between(ordered, upto, float(upto[-1] - 1) * share) for share in shares]


def _between(ordered: list[float], upto: npt.NDArray[np.int64], place: float) -> float:
    low, high = (
        ordered[int(np.searchsorted(upto, edge, side="right"))] for edge in (np.floor(place), np.ceil(place))
    )
    if low == high:
        return low
    return float((np.ceil(place) - place) * low + (place - np.floor(place)) * high)


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
