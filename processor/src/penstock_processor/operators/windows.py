"""Window arithmetic on epoch milliseconds: slices, the windows that hold them, when they fire and what is late.

Windows are [start, end), aligned to epoch + offset in UTC, and fire when the watermark reaches end - 1 ms (Flink:
"Windowing table-valued functions"). A slice is the greatest span that lies whole in each of its windows: the window
itself for TUMBLE, gcd(size, slide) for HOP, the step for CUMULATE. State is kept by slice, or by window under the
window's number: its start, for CUMULATE (where windows of one start differ in their end) the start of its last step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import polars as pl

from penstock_processor.operators.step import MAX_WATERMARK, SLICE

__all__ = ["Windows"]


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows of `size_ms` that start every `slide_ms`. `sliced`: keep state by slice, else by window.

    `cumulative`: windows that start every `size_ms` and grow by `slide_ms`, a divisor of it, up to that size.
    """

    size_ms: int
    slide_ms: int
    offset_ms: int
    sliced: bool = False
    cumulative: bool = False

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

    def numbers(self, step_start: pl.Expr) -> list[pl.Expr]:
        """Numbers of the windows that may hold rows whose last begun slide or step is `step_start`, last one first.

        The last one does (but for gaps), the others hold what lies before their end.
        """
        last = step_start
        if self.cumulative:
            last = self._floor_ms(step_start, self.size_ms) + self.size_ms - self.slide_ms
        return [last - back * self.slide_ms for back in range(self.per_row)]

    def bounds(self, number: pl.Expr) -> tuple[pl.Expr, pl.Expr]:
        """Start and end of windows."""
        if self.cumulative:
            return self._floor_ms(number, self.size_ms), number + self.slide_ms
        return number, number + self.size_ms

    def holds(self, slice_start: pl.Expr) -> pl.Expr:
        """Whether any window holds the slice (only with gaps may it be none)."""
        return slice_start - self._floor_ms(slice_start, self.slide_ms) < self.size_ms

    def last_start(self, at_ms: int) -> int:
        """The last number at or before `at_ms`."""
        return (at_ms - self.offset_ms) // self.slide_ms * self.slide_ms + self.offset_ms

    def first_open(self, watermark_ms: int) -> int:
        """Number of the first window that has not fired at this watermark; at the end no number is as great."""
        least_ms = self.slide_ms if self.cumulative else self.size_ms
        return min(self.last_start(watermark_ms + 1 - least_ms) + self.slide_ms, MAX_WATERMARK)

    def kept_from(self, watermark_ms: int) -> int:
        """The first unit of state that a window which has not fired may need; what lies before it is late."""
        first = self.first_open(watermark_ms)
        return self._whole_start(first) if self.cumulative and self.sliced else first

    def complete_to(self, watermark_ms: int) -> int:
        """Every window that starts at or before this has fired, and none can come."""
        first = self.first_open(watermark_ms)
        return (self._whole_start(first) if self.cumulative else first) - 1

    def windows_with(self, slice_start: int) -> range:
        """Numbers of the windows that hold the slice, ascending (empty in a gap between windows)."""
        if self.cumulative:
            return range(slice_start, self._whole_start(slice_start) + self.size_ms, self.slide_ms)
        last = self.last_start(slice_start)
        behind = (last - (slice_start - self.size_ms + 1)) // self.slide_ms
        return range(last - behind * self.slide_ms, last + 1, self.slide_ms)

    def slices_in(self, number: int) -> range:
        """The units of state that a window is made of."""
        if not self.sliced:
            return range(number, number + 1)
        if self.cumulative:
            return range(self._whole_start(number), number + self.slide_ms, self.slide_ms)
        return range(number, number + self.size_ms, self.slice_ms)

    def _whole_start(self, at_ms: int) -> int:
        """CUMULATE: the start of all windows around a time."""
        return (at_ms - self.offset_ms) // self.size_ms * self.size_ms + self.offset_ms

    def _floor_ms(self, ms: pl.Expr, step_ms: int) -> pl.Expr:
        return (ms - self.offset_ms) // step_ms * step_ms + self.offset_ms
