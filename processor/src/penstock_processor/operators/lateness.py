"""Which rows a windowed aggregate takes: those with an event time, in a window, that are not late."""

from __future__ import annotations

import polars as pl

from penstock_processor.operators.step import AT, NOWHERE, SLICE, Step, timestamp
from penstock_processor.operators.windows import Windows

__all__ = ["LAST_WINDOW", "lost", "on_time"]

LAST_WINDOW = "$last"  # where rows were multiplied by their windows: whether this is the row's last one


def on_time(
    frame: pl.DataFrame, windows: Windows, watermark: int | None, step: Step, *, lateness_ms: int = 0
) -> pl.DataFrame:
    """Rows that count; the others go to `step.reject`. A row is late when its last window has fired (Flink).

    `lateness_ms`: so long after that it still counts.
    """
    slices = frame[SLICE]
    if slices.null_count():
        step.reject(frame.filter(slices.is_null()), "no_event_time", "the time that its window goes by is NULL")
        frame = frame.filter(slices.is_not_null())
    if windows.has_gaps:
        frame = frame.filter(windows.holds(pl.col(SLICE)))
    if watermark is None or frame.height == 0:
        return frame
    open_from = windows.kept_from(watermark - lateness_ms)
    if frame[SLICE].min() >= open_from:  # type: ignore[operator]  # an integer: the frame is not empty
        return frame
    late, frame = frame.filter(pl.col(SLICE) < open_from), frame.filter(pl.col(SLICE) >= open_from)
    late = late.filter(LAST_WINDOW) if LAST_WINDOW in late.columns else lost(late, frame)
    step.reject(late, "late", f"every window of this row had fired; the watermark was at {timestamp(watermark)}")
    return frame


def lost(late: pl.DataFrame, kept: pl.DataFrame) -> pl.DataFrame:
    """Of late rows, those that count in no other window: each row that is in several windows once, or not at all."""
    left = late.filter((pl.col(AT) == NOWHERE) | ~pl.col(AT).is_in(kept[AT].implode()))
    known = left.filter(pl.col(AT) != NOWHERE).unique(AT, keep="last", maintain_order=True)
    return pl.concat([known, left.filter(pl.col(AT) == NOWHERE)])
