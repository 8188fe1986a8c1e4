"""Rows in front of sessions: which of them count, and where in a batch pieces of one session begin.

Frames carry the time of each row as `$slice`, in epoch milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from penstock_processor.operators.accumulators import Slots
from penstock_processor.operators.sessions import Sessions
from penstock_processor.operators.slots import hashable_keys
from penstock_processor.operators.step import SLICE, Step, timestamp

__all__ = ["in_time", "pieces"]

_BEGINS = "$begins"


def in_time(
    frame: pl.DataFrame, sessions: Sessions, partition: Sequence[str], *, watermark: int | None, step: Step
) -> pl.DataFrame:
    """Rows that count, in their order; the others go to `step.reject`. Flink: a row is late when its session, after
    merging, has ended already."""
    times = frame[SLICE]
    if times.null_count():
        step.reject(frame.filter(times.is_null()), "no_event_time", "the time that its window goes by is NULL")
        frame = frame.filter(times.is_not_null())
    if watermark is not None and frame.height:
        least = int(frame[SLICE].min())  # type: ignore[arg-type]  # an integer: the frame is not empty
        if sessions.is_late(least, watermark):
            frame = _without_late(frame, sessions, partition, watermark=watermark, step=step)
    return frame


def pieces(rows: pl.DataFrame, partition: Sequence[str], *, gap_ms: int) -> Slots:
    """Where pieces begin in rows sorted by partition and time: rows of one partition without a longer pause."""
    begins = pl.col(SLICE).diff() > gap_ms
    for name in partition:
        begins = begins | pl.col(name).ne_missing(pl.col(name).shift(1))
    begins = begins.fill_null(True) | (pl.int_range(pl.len()) == 0)
    return rows.select(begins.alias(_BEGINS))[_BEGINS].arg_true().cast(pl.Int64).to_numpy()


def _without_late(
    frame: pl.DataFrame, sessions: Sessions, partition: Sequence[str], *, watermark: int, step: Step
) -> pl.DataFrame:
    """Late rows count where an open session takes them, in the order of their arrival, as in Flink."""
    times = frame[SLICE].to_list()
    of_key: dict[object, list[int]] = {}
    for n, key in enumerate(hashable_keys([frame[name] for name in partition], frame.height)):
        of_key.setdefault(key, []).append(n)
    counts = np.ones(frame.height, np.bool_)
    for key, rows in of_key.items():
        if any(sessions.is_late(times[n], watermark) for n in rows):
            counts[rows] = sessions.accepted(key, [times[n] for n in rows], watermark)
    late = frame.filter(pl.Series(~counts))
    step.reject(late, "late", f"the session of this row had ended; the watermark was at {timestamp(watermark)}")
    return frame.filter(pl.Series(counts))
