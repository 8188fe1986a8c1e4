"""Aggregates over many ranges of one array at once: a tree of partial results, built once, asked by vectors.

A range [first, last) is put together from O(log n) nodes; each step works on all ranges. Without a prefix to
subtract, a sum of DOUBLE keeps its digits, and least and greatest values work like sums.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Ints", "RangeTree", "first_reaching"]

Ints = npt.NDArray[np.int64]
Merge = Callable[[npt.NDArray[Any], npt.NDArray[Any]], npt.NDArray[Any]]


class RangeTree:
    """`merge` is associative and works by element (`np.add`, `np.minimum`); `nothing` is its neutral value.

    `rows`: where values are ranks, the row of each.
    """

    def __init__(self, values: npt.NDArray[Any], merge: Merge, nothing: Any, rows: Ints | None = None) -> None:
        self.rows = rows
        self._merge, self._nothing = merge, nothing
        self._levels = [values]
        while len(self._levels[-1]) > 1:
            below = self._levels[-1]
            if len(below) % 2:
                below = np.append(below, np.array([nothing], below.dtype))
            self._levels.append(merge(below[0::2], below[1::2]))

    def over(self, first: Ints, last: Ints) -> npt.NDArray[Any]:
        """The merged values of each range; `nothing` for empty ones."""
        left = np.full(len(first), self._nothing, self._levels[0].dtype)
        right = left.copy()
        low, high = first.copy(), np.maximum(first, last)
        for level in self._levels:
            active = low < high
            if not active.any():
                break
            odd = active & (low & 1 == 1)
            left[odd] = self._merge(left[odd], level[low[odd]])
            low[odd] += 1
            odd = active & (high & 1 == 1)
            high[odd] -= 1
            right[odd] = self._merge(level[high[odd]], right[odd])
            low >>= 1
            high >>= 1
        return self._merge(left, right)


def first_reaching(values: Ints, first: Ints, last: Ints, wanted: Ints) -> Ints:
    """In each range [first, last), in which `values` ascend: the first place with at least `wanted`, else `last`."""
    low, high = first.copy(), last.copy()
    while True:
        open_ = low < high
        if not open_.any():
            return low
        middle = (low + high) >> 1
        before = np.zeros(len(low), np.bool_)
        before[open_] = values[middle[open_]] < wanted[open_]
        low = np.where(before, middle + 1, low)
        high = np.where(open_ & ~before, middle, high)
