"""Processing time: rows get the time of their cycle, and the clock takes the place of a watermark.

It keeps no state. After a restart it starts where the clock is; what windows above have in their state fires when the
clock has passed them. The clock counts in steps of the windows, so that nothing moves between their borders; it never
goes back. Flink: "Time Attributes: Processing Time".
"""

from __future__ import annotations

import polars as pl

from penstock_processor.operators.step import MAX_WATERMARK, Flow, Operator, Step

__all__ = ["ProcessingTimeOperator"]


class ProcessingTimeOperator:
    """See the module. `size_ms`: how long the windows above last, `grain_ms` and `offset_ms`: where they begin."""

    def __init__(self, source: Operator, *, column: str, grain_ms: int, offset_ms: int, size_ms: int) -> None:
        self._source = source
        self._column = column
        self._grain_ms, self._offset_ms, self._size_ms = grain_ms, offset_ms, size_ms
        self._now_ms: int | None = None
        self._until_ms: int | None = None  # the last window that may hold rows ends here

    def run(self, step: Step) -> Flow:
        """See `Operator`."""
        flow = self._source.run(step)
        before = None if self._now_ms is None else self._border(self._now_ms) - 1
        now_ms = step.now_ms if self._now_ms is None else max(step.now_ms, self._now_ms)
        frame = flow.frame
        if frame is not None and frame.height:
            time = pl.lit(now_ms, pl.Int64).cast(pl.Datetime("ms", "UTC")).alias(self._column)
            frame = frame.with_columns(time)
        if not step.advancing:
            return Flow(frame, before, before)
        if (frame is not None and frame.height) or self._until_ms is None:
            self._until_ms = self._border(now_ms) + self._size_ms
        self._now_ms = now_ms
        after = MAX_WATERMARK if flow.after == MAX_WATERMARK else self._border(now_ms) - 1
        return Flow(frame, before, after)

    @property
    def due_ms(self) -> int | None:
        """When the clock must be looked at next, rows or no rows; None: not before there are rows."""
        if self._now_ms is None or self._until_ms is None:
            return 0
        following = self._border(self._now_ms) + self._grain_ms
        return following if following <= self._until_ms else None

    def _border(self, at_ms: int) -> int:
        """The last border of windows that the clock has reached at `at_ms`."""
        return (at_ms - self._offset_ms) // self._grain_ms * self._grain_ms + self._offset_ms
