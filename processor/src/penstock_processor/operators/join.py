"""Interval join of two append-only inputs: pairs with equal keys whose times lie close enough.

Semantics: Flink, "Interval Joins". A pair is emitted as soon as both rows are there. A row waits until the watermark
(the lesser of both inputs) says that nothing on time can match it; then it is emitted padded with NULL if the join
keeps the rows of its side and it has matched nothing. There is no late test: a late row still matches what waits, and
waits itself only if something on time could match it.

What a step returns does not depend on how waiting rows are arranged: rows are numbered as they arrive, dead ones are
invisible before they are gone, and results are ordered by (left, right) number, those without a match behind them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from penstock.ports.log import DeltaKind, StateDelta
from penstock_processor.operators.pairing import Pairing, column_name, key_name, time_name, unmatched
from penstock_processor.operators.payload import pack, unpack
from penstock_processor.operators.segments import Segment, Segments
from penstock_processor.operators.step import AT, MAX_WATERMARK, Flow, Operator, Step
from penstock_processor.operators.watermarks import least

__all__ = ["IntervalJoinOperator", "JoinSide"]


@dataclass(frozen=True, slots=True)
class JoinSide:
    """One input: its columns under the join's names, `time_name`, and one `key_name` per key. `outlives_ms`: how long
    after its own time a row can still be matched by rows on time. `padded`: rows without a match are emitted.
    """

    side: str  # "l" or "r"
    source: Operator
    keys: int
    outlives_ms: int
    padded: bool = False


@dataclass(slots=True)
class _Arrived:
    """New rows of a side: those that can match (`rows`, and which of them were kept), and those that cannot."""

    rows: Segment | None = None
    without_key: pl.DataFrame | None = None


class _Waiting:
    """Rows of one side that wait, and the numbering of those that arrive."""

    def __init__(self, shape: JoinSide) -> None:
        self.shape = shape
        self.keys = [key_name(shape.side, n) for n in range(shape.keys)]
        self.time = time_name(shape.side)
        self.number = column_name(shape.side, "n")
        self.expiry = column_name(shape.side, "x")
        self.rows = Segments(keys=self.keys, time=self.time, expiry=self.expiry)
        self._next = 0
        self._matched: list[pl.Series] = []  # out of deltas: numbers of rows that have matched

    def arrive(self, frame: pl.DataFrame | None, step: Step) -> _Arrived:
        """Number new rows; those without event time are problems, those with a NULL key match nothing."""
        if frame is None or frame.height == 0:
            return _Arrived()
        times = frame[self.time]
        if times.null_count():
            step.reject(frame.filter(times.is_null()), "no_event_time", "the time that this join goes by is NULL")
            frame = frame.filter(times.is_not_null())
        numbers = np.arange(self._next, self._next + frame.height, dtype=np.int64)
        frame = frame.drop(AT).hstack([pl.Series(self.number, numbers)])
        known = frame.drop_nulls(self.keys)
        without = frame.filter(pl.any_horizontal(pl.col(self.keys).is_null())) if self.shape.padded else None
        self._next += frame.height
        if known.height == 0:
            return _Arrived(None, without)
        # A row whose time is the watermark is on time (WATERMARK FOR ts AS ts, two rows of one millisecond).
        expiries = known[self.time].to_numpy() + self.shape.outlives_ms + 1
        return _Arrived(self.rows.make(known.hstack([pl.Series(self.expiry, expiries)])), without)

    def settle(self, arrived: _Arrived, before: int | None, after: int | None) -> pl.DataFrame | None:
        """Rows that will never match, in the order of their arrival: to be called before `keep`."""
        if not self.shape.padded:
            return None
        found = [] if arrived.without_key is None else [arrived.without_key]
        if after is not None:
            found += [unmatched(part, part.due(before, after)) for part in self.rows]
            if arrived.rows is not None:
                found.append(unmatched(arrived.rows, arrived.rows.due(None, after)))
        found = [part.drop(self.expiry, strict=False) for part in found if part.height]
        return pl.concat(found).sort(self.number) if found else None

    def keep(self, new: Segment | None, watermark: int | None) -> pl.DataFrame | None:
        """Let rows wait that something on time can still match; returns them."""
        if watermark is not None:
            self.rows.purge(watermark)
        if new is None:
            return None
        frame, matched = new.frame, new.matched
        if watermark is not None:
            alive = new.expiries > watermark
            frame, matched = frame.filter(pl.Series(alive)), matched[alive]
        if frame.height == 0:
            return None
        self.rows.add(frame, matched)
        return frame

    def load(self, frame: pl.DataFrame) -> None:
        """Rows out of a delta."""
        if frame.height:
            self._next = max(self._next, int(frame[self.number].max()) + 1)  # type: ignore[arg-type]  # an integer
            self.rows.add(frame)

    def note(self, matched: pl.DataFrame) -> None:
        """Numbers out of a delta of rows that have matched."""
        if matched.height:
            self._matched.append(matched[self.number])

    def mark(self) -> None:
        """At the end of a restoration: what was noted."""
        if self._matched:
            numbers = np.unique(pl.concat(self._matched).to_numpy())
            for part in self.rows:
                part.matched |= np.isin(part.frame[self.number].to_numpy(), numbers)
        self._matched = []

    def clear(self) -> None:
        """Forget everything."""
        self.rows.clear()
        self._matched = []

    def matched(self) -> pl.DataFrame:
        """Numbers of all waiting rows that have matched."""
        found = [part.frame[self.number].filter(pl.Series(part.matched)) for part in self.rows if part.matched.any()]
        return pl.concat(found).to_frame() if found else pl.DataFrame()


class IntervalJoinOperator:
    """See the module. `pairing`: what is left to do with candidate pairs: equal keys, residual, output columns."""

    def __init__(self, left: JoinSide, right: JoinSide, *, lower_ms: int, upper_ms: int, pairing: Pairing,
                 operator: str) -> None:  # fmt: skip
        self.id = operator
        self._left, self._right = _Waiting(left), _Waiting(right)
        self._lower, self._upper = lower_ms, upper_ms
        self._pairing = pairing
        self._outer = pairing.padding.any

    def run(self, step: Step) -> Flow:
        """See `Operator`."""
        left, right = self._left.shape.source.run(step), self._right.shape.source.run(step)
        before, after = least([left.before, right.before]), least([left.after, right.after])
        new_left, new_right = self._left.arrive(left.frame, step), self._right.arrive(right.frame, step)
        pairs = self._matches(new_left.rows, new_right.rows, before=before, step=step)
        alone = self._left.settle(new_left, before, after), self._right.settle(new_right, before, after)
        kept = [self._left.keep(new_left.rows, after), self._right.keep(new_right.rows, after)]
        if step.durable:
            self._save(kept, pairs, after, step)
        return Flow(self._pairing.results(pairs, *alone, step), self._delayed(before), self._delayed(after))

    def restore(self, deltas: Sequence[StateDelta]) -> None:
        """See `Stateful`. What the watermark has made invisible is dropped by the first cycle."""
        sides = self._left, self._right
        for delta in deltas:
            if delta.kind is DeltaKind.REPLACE:
                self._left.clear()
                self._right.clear()
            frames = unpack(delta.payload)
            for side, frame in zip(sides, frames[:2], strict=True):
                side.load(frame)
            for side, frame in zip(sides, frames[2:], strict=False):
                side.note(frame)
        for side in sides:
            side.mark()

    def compact(self) -> StateDelta:
        """See `Stateful`."""
        sides = self._left, self._right
        frames = [pl.DataFrame() if f is None else f for f in (side.rows.frame() for side in sides)]
        frames += [side.matched() for side in sides] if self._outer else []
        return StateDelta(self.id, DeltaKind.REPLACE, pack(frames))

    def size(self) -> int:
        """See `Stateful`."""
        return len(self._left.rows) + len(self._right.rows)

    def _save(self, kept: Sequence[pl.DataFrame | None], pairs: pl.DataFrame | None, after: int | None, step: Step
              ) -> None:  # fmt: skip
        """New rows that wait now; of an outer join also which of those that wait have found a match now."""
        frames = [pl.DataFrame() if frame is None else frame for frame in kept]
        if self._outer and pairs is not None:
            for side in (self._left, self._right):
                waiting = pairs if after is None else pairs.filter(pl.col(side.expiry) > after)
                frames.append(waiting.select(side.number).unique())
        if any(frame.height for frame in frames):
            step.deltas.append(StateDelta(self.id, DeltaKind.APPEND, pack(frames)))

    def _matches(self, new_left: Segment | None, new_right: Segment | None, *, before: int | None, step: Step
                 ) -> pl.DataFrame | None:  # fmt: skip
        found: list[pl.DataFrame] = []
        if new_left is not None:
            for segment in self._right.rows:
                found += self._pairs(new_left, segment, step, visible=before, both=False)
            if new_right is not None:
                found += self._pairs(new_left, new_right, step, visible=before, both=True)
        if new_right is not None:
            for segment in self._left.rows:
                found += self._pairs(segment, new_right, step, visible=before, both=False, waiting_left=True)
        return pl.concat(found).sort(self._left.number, self._right.number) if found else None

    def _pairs(self, left: Segment, right: Segment, step: Step, *, visible: int | None, both: bool,
               waiting_left: bool = False) -> Iterator[pl.DataFrame]:  # fmt: skip
        """Rows side by side whose keys are equal and whose times are close enough. Of two new rows at least one
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
                pairs = self._pairing.pairs(left, right, mine[near], other[near], step)
                if pairs is not None:
                    yield pairs

    def _delayed(self, watermark: int | None) -> int | None:
        """Both times of a pair yet to come, and the time of a row that is padded later, lie above this."""
        if watermark is None or watermark == MAX_WATERMARK:
            return watermark
        return watermark + min(0, self._lower, -self._upper) - self._outer
