"""TUMBLE and HOP as table functions: each row once for every window that it lies in, with the window's columns."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from penstock_processor.operators.lateness import LAST_WINDOW
from penstock_processor.operators.step import SLICE, Flow, Operator, Step
from penstock_processor.operators.windows import Windows

__all__ = ["WindowAssignOperator", "window_columns"]


class WindowAssignOperator:
    """Adds `window_start`, `window_end`, `window_time`, and `$slice` and `$last` for an aggregate above.

    A row without event time is a problem. There is no late test here: without an aggregate, late rows pass (Flink).
    """

    def __init__(
        self, source: Operator, windows: Windows, *, time_column: str, dtypes: Sequence[pl.DataType]
    ) -> None:
        self._source = source
        self._windows = windows
        self._time = time_column
        self._columns = window_columns(windows.size_ms, dtypes)

    def run(self, step: Step) -> Flow:
        """See `Operator`."""
        flow = self._source.run(step)
        frame = flow.frame
        if frame is None or frame.height == 0:
            return Flow(None, flow.before, flow.after)
        times = frame[self._time]
        if times.null_count():
            step.reject(
                frame.filter(times.is_null()), "no_event_time", f"'{self._time}' is NULL; it must have a value"
            )
            frame = frame.filter(times.is_not_null())
        placed = frame.with_columns(self._windows.slice_of(pl.col(self._time)))
        copies = [placed.with_columns(pl.lit(True).alias(LAST_WINDOW))]
        for back in range(1, self._windows.per_row):
            earlier = pl.col(SLICE) - back * self._windows.slide_ms
            copies.append(placed.with_columns(earlier, pl.lit(False).alias(LAST_WINDOW)))
        rows = copies[0] if len(copies) == 1 else pl.concat(copies)
        if len(copies) > 1 or self._windows.has_gaps:
            rows = rows.filter(pl.col(self._time).dt.timestamp("ms") - pl.col(SLICE) < self._windows.size_ms)
        return Flow(rows.with_columns(self._columns), flow.before, flow.after)


def window_columns(size_ms: int, dtypes: Sequence[pl.DataType]) -> list[pl.Expr]:
    """`window_start`, `window_end` and `window_time` of these types from `$slice` (here: the window's start)."""
    starts, ends, times = dtypes
    return [
        pl.col(SLICE).cast(starts).alias("window_start"),
        (pl.col(SLICE) + size_ms).cast(ends).alias("window_end"),
        (pl.col(SLICE) + size_ms - 1).cast(times).alias("window_time"),
    ]
