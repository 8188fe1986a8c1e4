"""Processing time: rows get the time of their cycle, and the clock takes the place of a watermark.

The clock counts in steps of the windows, so that nothing moves between their borders; it never goes back. State is
the last border that it has passed: without it windows above would not know after a restart which of them have
fired. What is in their state then fires when the clock has passed it. Flink: "Time Attributes: Processing Time".

For sessions it counts milliseconds, and is looked at some times in a gap. For OVER each cycle with rows has a time of
its own, later than that of the one before, and the watermark is that time: rows are worked on as they come.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import polars as pl

from penstock.ports.log import DeltaKind, StateDelta
from penstock_processor.operators.step import MAX_WATERMARK, Flow, Operator, Step

__all__ = ["ProcessingTimeOperator"]

#: A session ends so much of its gap later than it could, at most.
_LOOKS_PER_GAP = 20


class ProcessingTimeOperator:
    """See the module. `size_ms`: how long the windows above last, `grain_ms` and `offset_ms`: where they begin.

    `sessions`: they are sessions, `size_ms` is their gap. `at_once`: there are none, but OVER.
    """

    def __init__(self, source: Operator, *, column: str, grain_ms: int, offset_ms: int, size_ms: int,
                 operator: str, sessions: bool = False, at_once: bool = False) -> None:  # fmt: skip
        self.id = operator
        self._source = source
        self._column = column
        self._grain_ms, self._offset_ms, self._size_ms = grain_ms, offset_ms, size_ms
        self._now_ms: int | None = None
        self._until_ms: int | None = None  # the last window that may hold rows ends here
        self._sessions, self._at_once = sessions, at_once
        self._look_ms = max(grain_ms, size_ms // _LOOKS_PER_GAP)

    def run(self, step: Step) -> Flow:
        """See `Operator`."""
        flow = self._source.run(step)
        if self._at_once:
            return self._as_they_come(flow, step)
        before = None if self._now_ms is None else self._border(self._now_ms) - 1
        now_ms = step.now_ms if self._now_ms is None else max(step.now_ms, self._now_ms)
        frame = flow.frame
        if frame is not None and frame.height:
            time = pl.lit(now_ms, pl.Int64).cast(pl.Datetime("ms", "UTC")).alias(self._column)
            frame = frame.with_columns(time)
        if (frame is not None and frame.height) or (step.advancing and self._until_ms is None):
            self._until_ms = self._border(now_ms) + self._size_ms
        if not step.advancing:
            return Flow(frame, before, before)
        self._now_ms = now_ms
        if step.durable and (before is None or self._border(now_ms) - 1 > before):
            step.deltas.append(self.compact())
        after = MAX_WATERMARK if flow.after == MAX_WATERMARK else self._border(now_ms) - 1
        return Flow(frame, before, after)

    def _as_they_come(self, flow: Flow, step: Step) -> Flow:
        before, frame = self._now_ms, flow.frame
        ended = flow.after == MAX_WATERMARK
        if frame is None or not frame.height:
            return Flow(frame, before, MAX_WATERMARK if ended else before)
        now_ms = step.now_ms if before is None else max(step.now_ms, before + 1)
        time = pl.lit(now_ms, pl.Int64).cast(pl.Datetime("ms", "UTC")).alias(self._column)
        frame = frame.with_columns(time)
        if not step.advancing:
            return Flow(frame, before, before)
        self._now_ms = now_ms
        if step.durable:
            step.deltas.append(self.compact())
        return Flow(frame, before, MAX_WATERMARK if ended else now_ms)

    def restore(self, deltas: Sequence[StateDelta]) -> None:
        """See `Stateful`."""
        if deltas:
            self._now_ms = msgspec.json.decode(deltas[-1].payload, type=int | None)

    def compact(self) -> StateDelta:
        """See `Stateful`."""
        border = None if self._now_ms is None else self._border(self._now_ms)
        return StateDelta(self.id, DeltaKind.REPLACE, msgspec.json.encode(border))

    def size(self) -> int:
        """See `Stateful`."""
        return 1

    @property
    def due_ms(self) -> int | None:
        """When the clock must be looked at next, rows or no rows; None: not before there are rows."""
        if self._at_once:
            return None
        if self._now_ms is None or self._until_ms is None:
            return 0
        if self._sessions:
            following = (self._now_ms // self._look_ms + 1) * self._look_ms
            return following if following < self._until_ms + self._look_ms else None
        following = self._border(self._now_ms) + self._grain_ms
        return following if following <= self._until_ms else None

    def _border(self, at_ms: int) -> int:
        """The last border of windows that the clock has reached at `at_ms`."""
        return (at_ms - self._offset_ms) // self._grain_ms * self._grain_ms + self._offset_ms
