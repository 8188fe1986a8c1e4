"""Inner interval join of two append-only inputs: pairs with equal keys whose times lie close enough.

Semantics: Flink, "Interval Joins". A pair is emitted as soon as both rows are there. A row waits until the watermark
(the lesser of both inputs) says that nothing on time can match it. There is no late test: a late row still matches
what waits, and waits itself only if something on time could match it.

What a step returns does not depend on how waiting rows are arranged: rows are numbered as they arrive, dead ones are
invisible before they are gone, and results are ordered by (left, right) number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from penstock.ports.log import DeltaKind, StateDelta
from penstock_processor.operators.chain import Chain
from penstock_processor.operators.payload import pack, unpack
from penstock_processor.operators.segments import Segment, Segments
from penstock_processor.operators.step import AT, MAX_WATERMARK, NOWHERE, Flow, Operator, Step
from penstock_processor.operators.watermarks import least

__all__ = ["IntervalJoinOperator", "JoinSide", "key_name", "time_name"]


@dataclass(frozen=True, slots=True)
class JoinSide:
    """One input: its columns under the join's names, `time_name`, and one `key_name` per key. `outlives_ms`: how long
    after its own time a row can still be matched by rows on time.
    """

    side: str  # "l" or "r"
    source: Operator
    keys: int
    outlives_ms: int


class _Waiting:
    """Rows of one side that wait, and the numbering of those that arrive."""

    def __init__(self, shape: JoinSide) -> None:
        self.shape = shape
        self.keys = [key_name(shape.side, n) for n in range(shape.keys)]
        self.time = time_name(shape.side)
        self.number = f"${shape.side}n"
        self.expiry = f"${shape.side}x"
        self.rows = Segments(keys=self.keys, time=self.time, expiry=self.expiry)
        self._next = 0

    def arrive(self, frame: pl.DataFrame | None, step: Step) -> Segment | None:
        """Number new rows; those without event time are problems, those with a NULL key match nothing."""
        if frame is None or frame.height == 0:
            return None
        times = frame[self.time]
        if times.null_count():
            step.reject(frame.filter(times.is_null()), "no_event_time", "the time that this join goes by is NULL")
        frame = frame.drop_nulls([self.time, *self.keys]).drop(AT)
        if frame.height == 0:
            return None
        numbers = np.arange(self._next, self._next + frame.height, dtype=np.int64)
        self._next += frame.height
        # A row whose time is the watermark is on time (WATERMARK FOR ts AS ts, two rows of one millisecond).
        expiries = frame[self.time].to_numpy() + self.shape.outlives_ms + 1
        return self.rows.make(frame.hstack([pl.Series(self.number, numbers), pl.Series(self.expiry, expiries)]))

    def keep(self, new: Segment | None, watermark: int | None) -> pl.DataFrame | None:
        """Let rows wait that something on time can still match; returns them."""
        if watermark is not None:
            self.rows.purge(watermark)
        if new is None:
            return None
        frame = new.frame if watermark is None else new.frame.filter(pl.Series(new.expiries > watermark))
        if frame.height == 0:
            return None
        self.rows.add(frame)
        return frame

    def load(self, frame: pl.DataFrame) -> None:
        """Rows out of a delta."""
        if frame.height:
            self._next = max(self._next, int(frame[self.number].max()) + 1)  # type: ignore[arg-type]  # an integer
            self.rows.add(frame)


class IntervalJoinOperator:
    """See the module. `tail`: what is left to do with candidate pairs: equal keys, residual, output columns."""

    def __init__(self, left: JoinSide, right: JoinSide, *, lower_ms: int, upper_ms: int, tail: Chain,
                 operator: str) -> None:  # fmt: skip
        self.id = operator
        self._left, self._right = _Waiting(left), _Waiting(right)
        self._lower, self._upper = lower_ms, upper_ms
        self._tail = tail

    def run(self, step: Step) -> Flow:
        """See `Operator`."""
        left, right = self._left.shape.source.run(step), self._right.shape.source.run(step)
        before, after = least([left.before, right.before]), least([left.after, right.after])
        new_left, new_right = self._left.arrive(left.frame, step), self._right.arrive(right.frame, step)
        done = self._matches(new_left, new_right, before=before, step=step)
        kept = [self._left.keep(new_left, after), self._right.keep(new_right, after)]
        if step.durable and any(frame is not None for frame in kept):
            frames = [pl.DataFrame() if frame is None else frame for frame in kept]
            step.deltas.append(StateDelta(self.id, DeltaKind.APPEND, pack(frames)))
        return Flow(done, self._delayed(before), self._delayed(after))

    def restore(self, deltas: Sequence[StateDelta]) -> None:
        """See `Stateful`. What the watermark has made invisible is dropped by the first cycle."""
        for delta in deltas:
            if delta.kind is DeltaKind.REPLACE:
                self._left.rows.clear()
                self._right.rows.clear()
            for side, frame in zip((self._left, self._right), unpack(delta.payload), strict=True):
                side.load(frame)

    def compact(self) -> StateDelta:
        """See `Stateful`."""
        frames = [side.rows.frame() for side in (self._left, self._right)]
        return StateDelta(self.id, DeltaKind.REPLACE, pack([pl.DataFrame() if f is None else f for f in frames]))

    def size(self) -> int:
        """See `Stateful`."""
        return len(self._left.rows) + len(self._right.rows)

    def _matches(self, new_left: Segment | None, new_right: Segment | None, *, before: int | None, step: Step
                 ) -> pl.DataFrame | None:  # fmt: skip
        found: list[pl.DataFrame] = []
        if new_left is not None:
            for segment in self._right.rows:
                found += self._pairs(new_left, segment, visible=before, both=False)
            if new_right is not None:
                found += self._pairs(new_left, new_right, visible=before, both=True)
        if new_right is not None:
            for segment in self._left.rows:
                found += self._pairs(segment, new_right, visible=before, both=False, waiting_left=True)
        if not found:
            return None
        pairs = pl.concat(found).sort(self._left.number, self._right.number)
        return self._tail.apply(pairs.with_columns(pl.lit(NOWHERE, pl.Int64).alias(AT)), step)

    def _pairs(self, left: Segment, right: Segment, *, visible: int | None, both: bool, waiting_left: bool = False
               ) -> Iterator[pl.DataFrame]:  # fmt: skip
        """Rows side by side whose hashes are equal and whose times are close enough. Of two new rows at least one
        must be one that could have waited for the other; a waiting row must be visible.
        """
        reach = (int(left.times.min()) - self._upper, int(left.times.max()) - self._lower)
        if not right.overlaps(*reach):
            return
        for mine, other in left.pairs(right):
            apart = left.times[mine] - right.times[other]
            near = (apart >= self._lower) & (apart <= self._upper)
            if visible is not None:
                seen_left, seen_right = left.expiries[mine] > visible, right.expiries[other] > visible
                near &= (seen_left | seen_right) if both else seen_left if waiting_left else seen_right
            if near.any():
                yield left.frame[mine[near]].hstack(right.frame[other[near]])

    def _delayed(self, watermark: int | None) -> int | None:
        """Both times of a pair yet to come lie above this."""
        if watermark is None or watermark == MAX_WATERMARK:
            return watermark
        return watermark + min(0, self._lower, -self._upper)


def key_name(side: str, number: int) -> str:
    """Hidden column of a join key."""
    return f"${side}k{number}"


def time_name(side: str) -> str:
    """Hidden column of the event time in epoch milliseconds."""
    return f"${side}t"
