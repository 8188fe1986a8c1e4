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

    def find(self, slices: Iterable[int], keys: Iterable[Hashable]) -> tuple[Slots, list[int]]:
        """Slots of these groups, and those of them that are new (their arrays must be cleared)."""
        panes, free, found, new = self.panes, self._free, [], []
        for slice_start, key in zip(slices, keys, strict=True):
            pane = panes.get(slice_start)
            if pane is None:
                pane = panes[slice_start] = {}
            slot = pane.get(key)
            if slot is None:
                if not free:
                    self._extend()
                slot = pane[key] = free.pop()
                new.append(slot)
            found.append(slot)
        return np.array(found, np.int64), new

    def slots(self, slice_start: int) -> Slots:
        """Slots of a slice, in the order of `panes[slice_start]`."""
        pane = self.panes[slice_start]
        return np.fromiter(pane.values(), np.int64, len(pane))

    def drop(self, slice_start: int) -> None:
        """Forget a slice; its slots are free."""
        self._free.extend(self.panes.pop(slice_start).values())

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
