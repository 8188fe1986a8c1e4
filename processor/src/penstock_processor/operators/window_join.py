"""Window join: rows of two inputs that are in the same window and have equal keys, once the window has ended.

Semantics: Flink, "Window Join". Rows wait by the end of their window; when the watermark (the lesser of both inputs)
reaches the end less 1 ms, the window fires and its rows go. A row of a window that has fired is late.

What a step returns does not depend on batches: windows fire in order, and their rows in the order of their arrival.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

import numpy as np
import polars as pl

from penstock.ports.log import DeltaKind, StateDelta
from penstock_processor.operators.lateness import lost
from penstock_processor.operators.pairing import KeyedSide, Pairing, column_name, key_name, time_name, unmatched
from penstock_processor.operators.payload import pack, unpack
from penstock_processor.operators.segments import Segment
from penstock_processor.operators.step import AT, Flow, Step, timestamp
from penstock_processor.operators.watermarks import least

__all__ = ["WindowJoinOperator"]

#: What a join gives: pairs and what is padded, or rows of the left side that have a match, or those that have none.
Gives = Literal["pairs", "matched", "unmatched"]


class _Waiting:
    """Rows of one side by the end of their window, which is the side's time."""

    def __init__(self, shape: KeyedSide) -> None:
        self.shape = shape
        self.keys = [key_name(shape.side, n) for n in range(shape.keys)]
        self.end = time_name(shape.side)
        self.number = column_name(shape.side, "n")
        self._windows: dict[int, list[pl.DataFrame]] = defaultdict(list)

    def arrive(self, frame: pl.DataFrame | None, watermark: int | None, step: Step) -> pl.DataFrame | None:
        """New rows that are not late, added; None if there is none."""
        if frame is None or frame.height == 0:
            return None
        if watermark is not None:
            frame = self._on_time(frame, watermark, step)
        frame = frame.drop(AT)
        self.add(frame)
        return frame if frame.height else None

    def add(self, frame: pl.DataFrame) -> None:
        """Let rows wait."""
        if frame.height == 0:
            return
        if frame[self.end].min() == frame[self.end].max():
            self._windows[frame[self.end][0]].append(frame)
            return
        for (end,), rows in frame.partition_by(self.end, as_dict=True, maintain_order=True).items():
            self._windows[end].append(rows)

    def due(self, before: int | None, after: int | None) -> list[pl.DataFrame]:
        """Rows of windows that fire as the watermark moves, window by window. What had fired before goes."""
        if after is None:
            return []
        ended = sorted(end for end in self._windows if end - 1 <= after)
        frames = [(end, self._windows.pop(end)) for end in ended]
        return [part for end, parts in frames if before is None or end - 1 > before for part in parts]

    def segment(self, frames: Sequence[pl.DataFrame]) -> tuple[Segment | None, pl.DataFrame | None]:
        """These rows, numbered: those that can match, and those that cannot for a NULL key."""
        if not frames:
            return None, None
        rows = pl.concat(frames)
        rows = rows.hstack([pl.Series(self.number, np.arange(rows.height, dtype=np.int64))])
        known = rows.drop_nulls(self.keys)
        without = rows.filter(pl.any_horizontal(pl.col(self.keys).is_null())) if known.height < rows.height else None
        return Segment(known, keys=self.keys, time=self.end, expiry=self.end) if known.height else None, without

    def clear(self) -> None:
        """Forget everything."""
        self._windows.clear()

    def frame(self) -> pl.DataFrame:
        """All rows."""
        parts = [part for end in sorted(self._windows) for part in self._windows[end]]
        return pl.concat(parts) if parts else pl.DataFrame()

    def size(self) -> int:
        """Number of rows."""
        return sum(part.height for parts in self._windows.values() for part in parts)

    def _on_time(self, frame: pl.DataFrame, watermark: int, step: Step) -> pl.DataFrame:
        """A row in several windows is late as a whole if all of them have fired."""
        fired = pl.col(self.end) - 1 <= watermark
        late = frame.filter(fired)
        if late.height == 0:
            return frame
        frame = frame.filter(~fired)
        detail = f"every window of this row had fired; the watermark was at {timestamp(watermark)}"
        step.reject(lost(late, frame), "late", detail)
        return frame


class WindowJoinOperator:
    """See the module. `pairing`: equal keys, residual, output columns."""

    def __init__(self, left: KeyedSide, right: KeyedSide, *, pairing: Pairing, gives: Gives, operator: str) -> None:
        self.id = operator
        self._left, self._right = _Waiting(left), _Waiting(right)
        self._pairing = pairing
        self._gives = gives

    def run(self, step: Step) -> Flow:
        """See `Operator`."""
        left, right = self._left.shape.source.run(step), self._right.shape.source.run(step)
        before, after = least([left.before, right.before]), least([left.after, right.after])
        new = self._left.arrive(left.frame, before, step), self._right.arrive(right.frame, before, step)
        fired = self._fire(self._left.due(before, after), self._right.due(before, after), step)
        if step.durable:
            frames = [self._waiting(side, frame, after) for side, frame in zip(self._sides, new, strict=True)]
            if any(frame.height for frame in frames):
                step.deltas.append(StateDelta(self.id, DeltaKind.APPEND, pack(frames)))
        return Flow(fired, before, after)

    def restore(self, deltas: Sequence[StateDelta]) -> None:
        """See `Stateful`. Windows that have fired are dropped by the first cycle."""
        for delta in deltas:
            if delta.kind is DeltaKind.REPLACE:
                for side in self._sides:
                    side.clear()
            for side, frame in zip(self._sides, unpack(delta.payload), strict=True):
                side.add(frame)

    def compact(self) -> StateDelta:
        """See `Stateful`."""
        return StateDelta(self.id, DeltaKind.REPLACE, pack([side.frame() for side in self._sides]))

    def size(self) -> int:
        """See `Stateful`."""
        return sum(side.size() for side in self._sides)

    @property
    def _sides(self) -> tuple[_Waiting, _Waiting]:
        return self._left, self._right

    def _fire(self, left: Sequence[pl.DataFrame], right: Sequence[pl.DataFrame], step: Step) -> pl.DataFrame | None:
        if not left and not right:
            return None
        lefts, left_without = self._left.segment(left)
        rights, right_without = self._right.segment(right)
        found: list[pl.DataFrame] = []
        if lefts is not None and rights is not None:
            for mine, other in lefts.pairs(rights):
                pairs = self._pairing.pairs(lefts, rights, mine, other, step)
                found += [] if pairs is None or self._gives != "pairs" else [pairs]
        if self._gives != "pairs":
            rows = self._left_alone(lefts, left_without)
            return None if rows is None else self._pairing.results(None, rows, None, step)
        pairs = pl.concat(found).sort(self._left.number, self._right.number) if found else None
        padding = self._pairing.padding
        left_rows = self._alone(self._left, lefts, left_without) if padding.of_left else None
        right_rows = self._alone(self._right, rights, right_without) if padding.of_right else None
        return self._pairing.results(pairs, left_rows, right_rows, step)

    def _left_alone(self, lefts: Segment | None, without: pl.DataFrame | None) -> pl.DataFrame | None:
        if self._gives == "unmatched":
            return self._alone(self._left, lefts, without)
        return None if lefts is None else lefts.frame.filter(pl.Series(lefts.matched)).sort(self._left.number)

    def _alone(self, side: _Waiting, rows: Segment | None, without: pl.DataFrame | None) -> pl.DataFrame | None:
        """Rows without a match."""
        found = [] if rows is None else [unmatched(rows, np.arange(len(rows)))]
        found += [] if without is None else [without]
        return pl.concat(found).sort(side.number) if found else None

    def _waiting(self, side: _Waiting, frame: pl.DataFrame | None, after: int | None) -> pl.DataFrame:
        """What of new rows has not fired at once."""
        if frame is None:
            return pl.DataFrame()
        return frame if after is None else frame.filter(pl.col(side.end) - 1 > after)
