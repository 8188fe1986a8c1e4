"""The values of a group with how often each is there: MIN, MAX and DISTINCT over rows that are taken back.

A value counts while more rows brought it than took it back. The least and the greatest are on top of a heap of all
values that came; one that has gone leaves the heap when it is on top, or when half of the heap has gone.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import polars as pl

from penstock.model.types import DataType
from penstock_processor.operators.accumulators import Retracting, Slots
from penstock_processor.operators.slots import SlotTable, hashable_keys, key_columns
from penstock_processor.operators.step import SLICE

__all__ = ["ValueCounts"]

COUNT = "$times"  # of a kept value
_SLOT = "$slot"
_NAN = "NaN"  # as `slots.hashable_keys` has it; it is neither least nor greatest while there is another value
_HEAP_MIN = 64


class _Greater:
    """Turns the order of a heap round."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __lt__(self, other: _Greater) -> bool:
        return bool(other.value < self.value)


class _Values:
    """The values of one slot."""

    __slots__ = ("counts", "heaps")

    def __init__(self, extremes: Sequence[str]) -> None:
        self.counts: dict[Any, int] = {}
        self.heaps: dict[str, list[Any]] = {function: [] for function in extremes}

    def change(self, value: Any, by: int) -> tuple[int, int]:
        """(times before, times after)"""
        before = self.counts.get(value, 0)
        after = max(before + by, 0)
        self.set(value, after)
        return before, after

    def set(self, value: Any, times: int) -> None:
        if not times:
            self.counts.pop(value, None)
            return
        if value not in self.counts and value != _NAN:
            for function, heap in self.heaps.items():
                heapq.heappush(heap, value if function == "MIN" else _Greater(value))
        self.counts[value] = times

    def extreme(self, function: str) -> Any:
        heap = self.heaps[function]
        if len(heap) > 2 * len(self.counts) + _HEAP_MIN:
            there = [value for value in self.counts if value != _NAN]
            heap[:] = there if function == "MIN" else [_Greater(value) for value in there]
            heapq.heapify(heap)
        while heap:
            top = heap[0] if function == "MIN" else heap[0].value
            if top in self.counts:
                return top
            heapq.heappop(heap)
        return _NAN if self.counts else None


class ValueCounts:
    """Values of the argument `column` per slot; NULL is not a value.

    `accumulators` are fed each value once, while it is there. `extremes`: MIN and MAX with their saved columns.
    """

    def __init__(self, column: str, data_type: DataType, *, keys: Sequence[str], accumulators: Sequence[Retracting],
                 extremes: Sequence[tuple[str, str]]) -> None:  # fmt: skip
        self.column = column
        self._type = data_type
        self._keys = tuple(keys)
        self.accumulators = tuple(accumulators)
        self._extremes = tuple(extremes)
        self._partials = [partial for each in accumulators for partial in each.partials]
        self._values: dict[int, _Values] = {}

    def change(self, brought: pl.DataFrame, taken: pl.DataFrame | None, table: SlotTable) -> pl.DataFrame:
        """Count the rows' values. Returns what has to be kept: slice, keys, value, how often it is there now."""
        by = [SLICE, *self._keys, self.column]
        parts = [brought.select(by).with_columns(pl.lit(1, pl.Int64).alias(COUNT))]
        if taken is not None:
            parts.append(taken.select(by).with_columns(pl.lit(-1, pl.Int64).alias(COUNT)))
        changed = pl.concat(parts).drop_nulls(self.column).group_by(by, maintain_order=True).agg(pl.col(COUNT).sum())
        changed = changed.filter(pl.col(COUNT) != 0)
        slots = self._slots(changed, table)
        times, new, gone = [], [], []
        values = list(hashable_keys([changed[self.column]], changed.height))
        for n, (slot, value, by_times) in enumerate(zip(slots, values, changed[COUNT].to_list(), strict=True)):
            before, after = self._of(slot).change(value, by_times)
            times.append(after)
            if not before and after:
                new.append(n)
            elif before and not after:
                gone.append(n)
        if self.accumulators:
            self._feed(changed, slots, new=new, gone=gone)
        return changed.with_columns(pl.Series(COUNT, times, dtype=pl.Int64))

    def extremes(self, slots: Slots) -> list[pl.Series]:
        """The least and the greatest of slots, as they were asked for."""
        made = []
        for function, name in self._extremes:
            found: list[Hashable] = [self._of(slot).extreme(function) for slot in slots.tolist()]
            made += key_columns(found, [name], [self._type])
        return made

    def load(self, kept: pl.DataFrame, table: SlotTable) -> None:
        """Set values to what was kept; the accumulators are loaded by themselves."""
        values = hashable_keys([kept[self.column]], kept.height)
        for slot, value, times in zip(self._slots(kept, table), values, kept[COUNT].to_list(), strict=True):
            self._of(slot).set(value, times)

    def save(self, groups: pl.DataFrame, slots: Slots) -> pl.DataFrame:
        """Every value of these slots; row i of `groups` (slice, keys) is slot `slots[i]`."""
        held = [self._of(slot).counts for slot in slots.tolist()]
        rows = np.repeat(np.arange(len(held)), [len(counts) for counts in held])
        values: list[Hashable] = [value for counts in held for value in counts]
        times = pl.Series(COUNT, [n for counts in held for n in counts.values()], dtype=pl.Int64)
        return groups.select(SLICE, *self._keys)[rows].hstack(
            [*key_columns(values, [self.column], [self._type]), times]
        )

    def forget(self, slots: Slots) -> None:
        """These slots are free."""
        for slot in slots.tolist():
            self._values.pop(slot, None)

    def _of(self, slot: int) -> _Values:
        found = self._values.get(slot)
        if found is None:
            found = self._values[slot] = _Values([function for function, _ in self._extremes])
        return found

    def _slots(self, frame: pl.DataFrame, table: SlotTable) -> list[int]:
        keys = hashable_keys([frame[name] for name in self._keys], frame.height)
        slots, _ = table.find(frame[SLICE], list(keys))
        return [int(slot) for slot in slots]

    def _feed(self, changed: pl.DataFrame, slots: list[int], *, new: list[int], gone: list[int]) -> None:
        placed = changed.with_columns(pl.Series(_SLOT, slots, dtype=pl.Int64))
        for rows, taken in ((new, False), (gone, True)):
            if not rows:
                continue
            grouped = placed[rows].group_by(_SLOT, maintain_order=True).agg(self._partials)
            at = grouped[_SLOT].to_numpy()
            for accumulator in self.accumulators:
                (accumulator.retract if taken else accumulator.absorb)(at, grouped)
