"""Aggregation over sessions: windows that rows of a key make by being close to each other, and that merge.

State is one slot of accumulators per (session, group). A cycle sorts its rows into pieces without a pause longer than
the gap, extends and merges sessions by them, and fires those that the watermark has reached. Semantics: Flink,
"SESSION": a row is late when its session, after merging, has ended already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from penstock.ports.log import DeltaKind, StateDelta
from penstock_processor.operators.accumulators import Slots
from penstock_processor.operators.groups import AggregateShape, Groups
from penstock_processor.operators.payload import pack, unpack
from penstock_processor.operators.sessions import LAST, START, Session, Sessions
from penstock_processor.operators.slots import hashable_keys
from penstock_processor.operators.step import SLICE, Flow, Operator, Step, timestamp
from penstock_processor.operators.window_results import results_of

__all__ = ["SessionAggregate"]

_PLACE = "$place"


@dataclass(slots=True)
class _Touched:
    """What a cycle's rows changed. `gone`: sessions that others took in; `merged`: those that took them in."""

    groups: pl.DataFrame
    slots: Slots
    kept: list[pl.DataFrame]
    gone: list[int] = field(default_factory=list)
    merged: set[int] = field(default_factory=set)


class SessionAggregate:
    """See the module. `partition`: the key columns that have sessions of their own, a part of the shape's keys."""

    def __init__(self, source: Operator, shape: AggregateShape, *, gap_ms: int, partition: Sequence[str],
                 operator: str) -> None:  # fmt: skip
        self.id = operator
        self._source = source
        self._shape = shape
        self._partition = list(partition)
        self._groups = Groups(shape)
        self._sessions = Sessions(gap_ms)

    def run(self, step: Step) -> Flow:
        """See `Operator`."""
        flow = self._source.run(step)
        touched: _Touched | None = None
        if flow.frame is not None and flow.frame.height:
            rows = self._on_time(flow.frame, flow.before, step)
            if rows.height:
                touched = self._absorb(rows)
        due = self._sessions.due(flow.after) if step.advancing and flow.after is not None else []
        frame = None
        if due:
            saved, _ = self._groups.gather([(n, n) for n in due])
            frame = results_of(self._shape, (START, LAST, *self._shape.key_names), self._bounded(saved))
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

    def _on_time(self, frame: pl.DataFrame, watermark: int | None, step: Step) -> pl.DataFrame:
        """Rows that count, sorted by partition and time; the others go to `step.reject`."""
        times = frame[SLICE]
        if times.null_count():
            step.reject(frame.filter(times.is_null()), "no_event_time", "the time that its window goes by is NULL")
            frame = frame.filter(times.is_not_null())
        if watermark is not None and frame.height:
            least = int(frame[SLICE].min())  # type: ignore[arg-type]  # an integer: the frame is not empty
            if self._sessions.is_late(least, watermark):
                frame = self._without_late(frame, watermark, step)
        return frame.sort([*self._partition, SLICE], maintain_order=True)

    def _without_late(self, frame: pl.DataFrame, watermark: int, step: Step) -> pl.DataFrame:
        """Late rows count where an open session takes them, in the order of their arrival, as in Flink."""
        times = frame[SLICE].to_list()
        of_key: dict[object, list[int]] = {}
        for n, key in enumerate(hashable_keys([frame[name] for name in self._partition], frame.height)):
            of_key.setdefault(key, []).append(n)
        counts = np.ones(frame.height, np.bool_)
        for key, rows in of_key.items():
            if any(self._sessions.is_late(times[n], watermark) for n in rows):
                counts[rows] = self._sessions.accepted(key, [times[n] for n in rows], watermark)
        late = frame.filter(pl.Series(~counts))
        step.reject(late, "late", f"the session of this row had ended; the watermark was at {timestamp(watermark)}")
        return frame.filter(pl.Series(counts))

    def _absorb(self, rows: pl.DataFrame) -> _Touched:
        """Merge rows, sorted by partition and time, into sessions and groups."""
        firsts = self._pieces(rows)
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
        gone = [number for number in into if number in self._groups.panes]
        self._groups.merge([(number, _end_of(into, number)) for number in gone])
        placed = rows.with_columns(pl.Series(SLICE, np.repeat(np.array(final, np.int64), ends - firsts)))
        groups, slots, kept = self._groups.absorb(placed)
        return _Touched(groups, slots, kept, gone, {_end_of(into, number) for number in gone})

    def _pieces(self, rows: pl.DataFrame) -> Slots:
        """Where pieces begin: rows of one partition without a pause longer than the gap."""
        begins = pl.col(SLICE).diff() > self._sessions.gap_ms
        for name in self._partition:
            begins = begins | pl.col(name).ne_missing(pl.col(name).shift(1))
        begins = begins.fill_null(True) | (pl.int_range(pl.len()) == 0)
        return rows.select(begins.alias(_PLACE))[_PLACE].arg_true().cast(pl.Int64).to_numpy()

    def _bounded(self, saved: pl.DataFrame) -> pl.DataFrame:
        """Saved state of groups with the bounds of their sessions."""
        sessions = [self._sessions.open[number] for number in saved[SLICE].to_list()]
        return saved.hstack(
            [
                pl.Series(START, [session.start for session in sessions], dtype=pl.Int64),
                pl.Series(LAST, [session.last for session in sessions], dtype=pl.Int64),
            ]
        )

    def _record(self, step: Step, touched: _Touched | None, due: Sequence[int]) -> None:
        """Deltas: sessions that went into others, groups and values of DISTINCT that live on, ended sessions."""
        if touched is not None:
            if touched.gone:
                step.deltas.append(self._delete(touched.gone))
            ended = pl.Series(due, dtype=pl.Int64)
            merged = pl.Series(list(touched.merged), dtype=pl.Int64)
            self._upsert(step, touched, pl.col(SLICE).is_in(ended.implode()) | pl.col(SLICE).is_in(merged.implode()))
            whole = sorted(touched.merged - set(due))
            if whole:
                frame, slots = self._groups.gather([(n, n) for n in whole])
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


def _end_of(into: dict[int, int], number: int) -> int:
    """The session that a session has gone into, through others."""
    while number in into:
        number = into[number]
    return number
