"""TUMBLE, HOP and CUMULATE as table functions: each row once for every window that it lies in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
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
        self._columns = window_columns(windows.bounds(pl.col(SLICE)), dtypes)

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
        rows = self._multiplied(frame.with_columns(self._windows.slice_of(pl.col(self._time))))
        return Flow(rows.with_columns(self._columns), flow.before, flow.after)

    def _multiplied(self, placed: pl.DataFrame) -> pl.DataFrame:
        """Each row for each of its windows, one after the other; `$slice` becomes the window's number."""
        windows = self._windows
        copies = [
            placed.with_columns(number.alias(SLICE), pl.lit(back == 0).alias(LAST_WINDOW))
            for back, number in enumerate(windows.numbers(pl.col(SLICE)))
        ]
        if len(copies) == 1 and not windows.has_gaps:
            return copies[0]
        _, ends = windows.bounds(pl.col(SLICE))
        one_by_one = np.arange(len(copies) * placed.height).reshape(len(copies), -1).T.ravel()
        return pl.concat(copies)[one_by_one].filter(pl.col(self._time).dt.timestamp("ms") < ends)


def window_columns(bounds: tuple[pl.Expr, pl.Expr], dtypes: Sequence[pl.DataType]) -> list[pl.Expr]:
    """`window_start`, `window_end` and `window_time` of these types from start and end in epoch milliseconds."""
    starts, ends, times = dtypes
    start, end = bounds
    return [
        start.cast(starts).alias("window_start"),
        end.cast(ends).alias("window_end"),
        (end - 1).cast(times).alias("window_time"),
    ]
