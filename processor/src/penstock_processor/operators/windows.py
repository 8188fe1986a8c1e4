"""Window arithmetic on epoch milliseconds: slices, the windows that hold them, when they fire and what is late.

Windows are [start, end), aligned to epoch + offset in UTC, and fire when the watermark reaches end - 1 ms (Flink:
"Windowing table-valued functions"). A slice is the greatest span that lies whole in each of its windows: the window
itself for TUMBLE, gcd(size, slide) for HOP.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import polars as pl

from penstock_processor.operators.step import SLICE

__all__ = ["Windows"]


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows of `size_ms` that start every `slide_ms`. `sliced`: keep state by slice, else by window."""

    size_ms: int
    slide_ms: int
    offset_ms: int
    sliced: bool = False

    @property
    def slice_ms(self) -> int:
        """Length of the unit of state."""
        return math.gcd(self.size_ms, self.slide_ms) if self.sliced else self.size_ms

    @property
    def per_row(self) -> int:
        """Windows that a row can lie in, at most."""
        return -(-self.size_ms // self.slide_ms)

    @property
    def has_gaps(self) -> bool:
        """HOP with slide > size: rows between windows lie in none."""
        return self.slide_ms > self.size_ms

    def slice_of(self, time: pl.Expr) -> pl.Expr:
        """`$slice` of each row of a TIMESTAMP expression: the start of its slice (TUMBLE: of its window)."""
        return self._floor_ms(time.dt.timestamp("ms"), self.slice_ms if self.sliced else self.slide_ms).alias(SLICE)

    def holds(self, slice_start: pl.Expr) -> pl.Expr:
        """Whether any window holds the slice (only with gaps may it be none)."""
        return slice_start - self._floor_ms(slice_start, self.slide_ms) < self.size_ms

    def last_start(self, at_ms: int) -> int:
        """Start of the last window that begins at or before `at_ms`."""
        return (at_ms - self.offset_ms) // self.slide_ms * self.slide_ms + self.offset_ms

    def first_open(self, watermark_ms: int) -> int:
        """Start of the first window that has not fired at this watermark; what lies before it is late."""
        return self.last_start(watermark_ms + 1 - self.size_ms) + self.slide_ms

    def starts(self, slice_start: int) -> range:
        """Starts of the windows that hold the slice, ascending (empty in a gap between windows)."""
        last = self.last_start(slice_start)
        behind = (last - (slice_start - self.size_ms + 1)) // self.slide_ms
        return range(last - behind * self.slide_ms, last + 1, self.slide_ms)

    def _floor_ms(self, ms: pl.Expr, step_ms: int) -> pl.Expr:
        return (ms - self.offset_ms) // step_ms * step_ms + self.offset_ms
