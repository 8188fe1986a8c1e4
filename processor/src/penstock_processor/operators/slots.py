"""Which slot holds a group: slice of event time -> key -> slot. Slots of fired slices are used again."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

import numpy as np
import polars as pl

from penstock.codecs.frames import polars_type
from penstock.model.types import DataType, Kind
from penstock_processor.operators.accumulators import Slots, decimals

__all__ = ["SlotTable", "hashable_keys", "key_columns"]

_FIRST_CAPACITY = 64
_TEMPORAL = (Kind.DATE, Kind.TIME, Kind.TIMESTAMP, Kind.TIMESTAMP_LTZ)


class SlotTable:
    """Panes of keys. `capacity` counts slots given out or free; arrays must reach it."""

    def __init__(self) -> None:
        self.panes: dict[int, dict[Hashable, int]] = {}
        self.capacity = 0
        self._free: list[int] = []

    def __len__(self) -> int:
        return self.capacity - len(self._free)

    def find(self, slices: pl.Series, keys: Iterable[Hashable]) -> tuple[Slots, list[int]]:
        """Slots of these groups, and those of them that are new (their arrays must be cleared)."""
        new: list[int] = []
        if len(slices) and slices.min() == slices.max():
            return np.array(self._in_pane(slices[0], keys, new), np.int64), new
        found: list[int] = []
        for slice_start, key in zip(slices.to_list(), keys, strict=True):
            slot = self.panes.setdefault(slice_start, {}).get(key)
            found.append(self._open(self.panes[slice_start], key, new) if slot is None else slot)
        return np.array(found, np.int64), new

    def _in_pane(self, slice_start: int, keys: Iterable[Hashable], new: list[int]) -> list[int]:
        """The same for groups of one slice, which most batches are: the look-up runs without a step of Python."""
        pane = self.panes.setdefault(slice_start, {})
        listed = keys if isinstance(keys, list) else list(keys)
        found = list(map(pane.get, listed))
        if None in found:
            for n, slot in enumerate(found):
                if slot is None:
                    found[n] = pane.get(listed[n])
                    if found[n] is None:
                        found[n] = self._open(pane, listed[n], new)
        return found  # type: ignore[return-value]  # no None is left

    def _open(self, pane: dict[Hashable, int], key: Hashable, new: list[int]) -> int:
        if not self._free:
            self._extend()
        slot = pane[key] = self._free.pop()
        new.append(slot)
        return slot

    def slots(self, slice_start: int) -> Slots:
        """Slots of a slice, in the order of `panes[slice_start]`."""
        pane = self.panes[slice_start]
        return np.fromiter(pane.values(), np.int64, len(pane))

    def drop(self, slice_start: int) -> None:
        """Forget a slice; its slots are free."""
        self._free.extend(self.panes.pop(slice_start).values())

    def move(self, source: int, target: int) -> list[tuple[int, int]]:
        """Move the keys of a pane to another. For keys that both have: the slot left over, and the one kept."""
        into = self.panes.setdefault(target, {})
        return [
            (slot, into[key]) for key, slot in self.panes.pop(source).items() if into.setdefault(key, slot) != slot
        ]

    def free(self, slots: Iterable[int]) -> None:
        """These slots hold nothing any more."""
        self._free.extend(slots)

    def _extend(self) -> None:
        more = max(_FIRST_CAPACITY, self.capacity)
        self._free.extend(range(self.capacity + more - 1, self.capacity - 1, -1))
        self.capacity += more


def hashable_keys(columns: Sequence[pl.Series], rows: int) -> Iterable[Hashable]:
    """Group keys of a frame as Python values. Times and decimals are integers, every NaN is one key (as in SQL)."""
    if not columns:
        return [()] * rows
    lists = [_hashable(column) for column in columns]
    return lists[0] if len(lists) == 1 else zip(*lists, strict=True)


def key_columns(keys: Sequence[Hashable], names: Sequence[str], types: Sequence[DataType]) -> list[pl.Series]:
    """The inverse of `hashable_keys`."""
    if not names:
        return []
    lists = [keys] if len(names) == 1 else list(zip(*keys, strict=True)) or [()] * len(names)
    return [_series(n, list(values), t) for n, values, t in zip(names, lists, types, strict=True)]


def _hashable(column: pl.Series) -> list[Hashable]:
    if column.dtype.is_float():
        return ["NaN" if v is not None and v != v else v for v in column.to_list()]
    if column.dtype.is_temporal() or column.dtype.is_decimal():
        column = column.to_physical()
    return column.to_list()


def _series(name: str, values: list[Hashable], data_type: DataType) -> pl.Series:
    dtype = polars_type(data_type)
    if data_type.kind in _TEMPORAL:
        physical = pl.Int32 if data_type.kind is Kind.DATE else pl.Int64
        return pl.Series(name, values, dtype=physical).cast(dtype)
    if data_type.kind is Kind.DECIMAL:
        return decimals(name, values, data_type.precision or 38, data_type.scale or 0)  # type: ignore[arg-type]  # integers here
    if dtype.is_float():
        return pl.Series(name, [float("nan") if v == "NaN" else v for v in values], dtype=dtype)
    return pl.Series(name, values, dtype=dtype)
