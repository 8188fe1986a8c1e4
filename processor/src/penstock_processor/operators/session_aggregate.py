"""Aggregation over sessions: windows that rows of a key make by being close to each other, and that merge.

State is one slot of accumulators per (session, group). A cycle sorts its rows into pieces without a pause longer than
the gap, extends and merges sessions by them, and fires those that the watermark has reached. Semantics: Flink,
"SESSION": a row is late when its session, after merging, has ended already.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from penstock.model.batch import OP_COLUMN, PENDING_COLUMN, Op
from penstock.ports.log import DeltaKind, StateDelta
from penstock_processor.operators.accumulators import Slots
from penstock_processor.operators.chain import PASSES, Chain
from penstock_processor.operators.groups import AggregateShape, Groups
from penstock_processor.operators.payload import pack, unpack
from penstock_processor.operators.session_placing import in_time, pieces
from penstock_processor.operators.sessions import LAST, START, Session, Sessions
from penstock_processor.operators.slots import hashable_keys
from penstock_processor.operators.step import SLICE, Flow, Operator, Step
from penstock_processor.operators.window_results import SLOT, marked, results_of, told

__all__ = ["SessionAggregate"]

_PLACE = "$place"


@dataclass(slots=True)
class _Touched:
    """What a cycle's rows changed. `gone`: sessions that others took in; `whole`: those told with all groups.

    `back`: early results under keys that the target no longer has.
    """

    groups: pl.DataFrame
    slots: Slots
    kept: list[pl.DataFrame]
    gone: list[int] = field(default_factory=list)
    whole: set[int] = field(default_factory=set)
    back: pl.DataFrame | None = None


class SessionAggregate:
    """See the module. `partition`: the key columns that have sessions of their own, a part of the shape's keys.

    Early results move where a session's start moves, or also its end (`end_moves`): the old row is deleted.
    """

    def __init__(self, source: Operator, shape: AggregateShape, *, gap_ms: int, partition: Sequence[str],
                 operator: str, end_moves: bool = False) -> None:  # fmt: skip
        self.id = operator
        self._source = source
        self._shape = shape
        self._partition = list(partition)
        self._end_moves = end_moves
        self._groups = Groups(shape)
        self._sessions = Sessions(gap_ms)

    def run(self, step: Step) -> Flow:
        """See `Operator`."""
        flow = self._source.run(step)
        touched: _Touched | None = None
        if flow.frame is not None and flow.frame.height:
            rows = in_time(flow.frame, self._sessions, self._partition, watermark=flow.before, step=step)
            rows = self._groups.numbered(rows).sort([*self._partition, SLICE], maintain_order=True)
            if rows.height:
                touched = self._absorb(rows, step)
        due = self._sessions.due(flow.after) if step.advancing and flow.after is not None else []
        frame = self._fire(due) if self._shape.early is None else self._update(self._shape.early, touched, due, step)
        if step.durable:
            self._record(step, touched, due)
        for number in due:
            self._sessions.remove(number)
        self._groups.drop(due)
        return Flow(frame, flow.before, flow.after)

    def complete_to(self, watermark_ms: int) -> int:
        """How far the results are complete by their start."""
        return self._sessions.complete_to(watermark_ms)

    def restore(self, deltas: Sequence[StateDelta]) -> None:
        """See `Stateful`."""
        for delta in deltas:
            frames = unpack(delta.payload)
            if delta.kind is DeltaKind.DELETE:
                self._forget([n for n in frames[0][SLICE].to_list() if n in self._groups.panes])
                continue
            if delta.kind is DeltaKind.REPLACE:
                self._forget(list(self._groups.panes))
            if delta.kind is not DeltaKind.APPEND:
                self._load(frames.pop(0))
            self._groups.learn(frames)

    def compact(self) -> StateDelta:
        """See `Stateful`."""
        frame, slots = self._groups.gather([(n, n) for n in sorted(self._groups.panes)])
        return StateDelta(self.id, DeltaKind.REPLACE, pack([self._bounded(frame), *self._groups.seen(frame, slots)]))

    def size(self) -> int:
        """See `Stateful`."""
        return len(self._groups)

    def _fire(self, due: Sequence[int]) -> pl.DataFrame | None:
        """Results of the sessions that have ended."""
        if not due:
            return None
        saved, _ = self._groups.gather([(n, n) for n in due], shown=True)
        return self._results(self._bounded(saved))

    def _update(self, above: Chain, touched: _Touched | None, due: Sequence[int], step: Step) -> pl.DataFrame | None:
        """Early: results that moved are taken back, sessions that changed are pending, those that ended final."""
        changed = [] if touched is None else sorted(touched.whole - set(due))
        parts = []
        for numbers, pending in ((changed, True), (due, False)):
            if numbers:
                saved, slots = self._groups.gather([(n, n) for n in numbers], shown=True)
                parts.append(marked(self._bounded(saved), slots, pending=pending))
        frames = [] if touched is None or touched.back is None else [touched.back]
        if parts:
            done = above.apply(self._results(pl.concat(parts), SLOT, PENDING_COLUMN), step)
            frames += [] if done is None else [told(done, self._groups)]
        return pl.concat(frames) if frames else None

    def _take_back(self, above: Chain, before: dict[int, Session], step: Step) -> pl.DataFrame | None:
        """Deletions of early results whose session is gone or has other bounds; the groups are as they were told."""
        moved = [n for n, was in before.items() if n in self._groups.panes and self._has_moved(n, was)]
        saved, slots = self._groups.gather([(n, n) for n in moved], shown=True)
        seen = self._groups.visible[slots]
        if not seen.any():
            return None
        saved, slots = saved.filter(pl.Series(seen)), slots[seen]
        self._groups.visible[slots] = False
        results = self._results(marked(_with_bounds(saved, before), slots, pending=True), SLOT, PENDING_COLUMN)
        done = above.apply(results, step)
        if done is None:
            return None
        return done.drop(SLOT, PASSES).with_columns(pl.lit(int(Op.DELETE), pl.Int8).alias(OP_COLUMN))

    def _has_moved(self, number: int, was: Session) -> bool:
        now = self._sessions.open.get(number)
        return now is None or now.start != was.start or (self._end_moves and now.last != was.last)

    def _results(self, bounded: pl.DataFrame, *hidden: str) -> pl.DataFrame:
        return results_of(self._shape, (START, LAST, *self._shape.key_names), bounded, *hidden)

    def _absorb(self, rows: pl.DataFrame, step: Step) -> _Touched:
        """Merge rows, sorted by partition and time, into sessions and groups."""
        firsts = pieces(rows, self._partition, gap_ms=self._sessions.gap_ms)
        ends = np.append(firsts[1:], rows.height)
        times = rows[SLICE].to_numpy()
        keys = hashable_keys([rows[name][firsts] for name in self._partition], len(firsts))
        numbers: list[int] = []
        into: dict[int, int] = {}
        for key, first, last in zip(keys, times[firsts].tolist(), times[ends - 1].tolist(), strict=True):
            number, taken = self._sessions.extend(key, first, last)
            into.update(dict.fromkeys(taken, number))
            numbers.append(number)
        final = [_end_of(into, number) for number in numbers]
        before, back = self._sessions.take_before(), None
        if self._shape.early is not None:
            back = self._take_back(self._shape.early, before, step)
        gone = [number for number in into if number in self._groups.panes]
        self._groups.merge([(number, _end_of(into, number)) for number in gone])
        placed = rows.with_columns(pl.Series(SLICE, np.repeat(np.array(final, np.int64), ends - firsts)))
        groups, slots, kept = self._groups.absorb(placed)
        whole = set(final) if self._shape.early is not None else {_end_of(into, number) for number in gone}
        return _Touched(groups, slots, kept, gone, whole, back)

    def _bounded(self, saved: pl.DataFrame) -> pl.DataFrame:
        """Saved state of groups with the bounds of their sessions."""
        return _with_bounds(saved, self._sessions.open)

    def _record(self, step: Step, touched: _Touched | None, due: Sequence[int]) -> None:
        """Deltas: sessions that went into others, groups and values of DISTINCT that live on, ended sessions."""
        if touched is not None:
            if touched.gone:
                step.deltas.append(self._delete(touched.gone))
            ended = pl.Series(due, dtype=pl.Int64)
            whole = pl.Series(list(touched.whole), dtype=pl.Int64)
            self._upsert(step, touched, pl.col(SLICE).is_in(ended.implode()) | pl.col(SLICE).is_in(whole.implode()))
            rest = sorted(touched.whole - set(due))
            if rest:
                frame, slots = self._groups.gather([(n, n) for n in rest])
                payload = pack([self._bounded(frame), *self._groups.seen(frame, slots)])
                step.deltas.append(StateDelta(self.id, DeltaKind.UPSERT, payload))
        if due:
            step.deltas.append(self._delete(due))

    def _upsert(self, step: Step, touched: _Touched, but: pl.Expr) -> None:
        """Groups and DISTINCT values of sessions that are told neither as ended nor as a whole."""
        stay = touched.groups.select((~but).alias(_PLACE))[_PLACE]
        groups, slots = touched.groups.filter(stay), touched.slots[stay.to_numpy()]
        if groups.height:
            frame = self._bounded(groups.hstack(self._groups.save(slots)))
            step.deltas.append(StateDelta(self.id, DeltaKind.UPSERT, pack([frame])))
        kept = [frame.filter(~but) for frame in touched.kept]
        if any(frame.height for frame in kept):
            step.deltas.append(StateDelta(self.id, DeltaKind.APPEND, pack(kept)))

    def _delete(self, numbers: Sequence[int]) -> StateDelta:
        return StateDelta(
            self.id, DeltaKind.DELETE, pack([pl.DataFrame([pl.Series(SLICE, numbers, dtype=pl.Int64)])])
        )

    def _load(self, saved: pl.DataFrame) -> None:
        keys = hashable_keys([saved[name] for name in self._partition], saved.height)
        bounds = zip(saved[SLICE].to_list(), keys, saved[START].to_list(), saved[LAST].to_list(), strict=True)
        for number, key, start, last in bounds:
            self._sessions.put(number, Session(key, start, last))
        self._groups.load(saved.drop(START, LAST))

    def _forget(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self._sessions.remove(number)
        self._groups.drop(numbers)


def _with_bounds(saved: pl.DataFrame, by_number: Mapping[int, Session]) -> pl.DataFrame:
    sessions = [by_number[number] for number in saved[SLICE].to_list()]
    starts = pl.Series(START, [session.start for session in sessions], dtype=pl.Int64)
    return saved.hstack([starts, pl.Series(LAST, [session.last for session in sessions], dtype=pl.Int64)])


def _end_of(into: dict[int, int], number: int) -> int:
    """The session that a session has gone into, through others."""
    while number in into:
        number = into[number]
    return number
