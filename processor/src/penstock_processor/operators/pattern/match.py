"""MATCH_RECOGNIZE: rows of each key in order of event time, as the watermark passes them; a row for each match.

Semantics: Flink, "Pattern Recognition". A row waits until the watermark has reached its time, so that those of a key
are taken in order; one that comes later than that is late. What a condition asks of a row by itself is computed for
the whole batch at once, and only rows that can begin a match, or whose key has one begun, are looked at one by one.

State: rows that wait (APPEND; DELETE says up to where they were taken) and what has begun of each key (UPSERT).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import polars as pl

from penstock.ports.log import DeltaKind, StateDelta
from penstock_processor.operators.chain import Chain
from penstock_processor.operators.pattern.automaton import Automaton
from penstock_processor.operators.pattern.begun import KeyMatches
from penstock_processor.operators.pattern.conditions import RowRefused
from penstock_processor.operators.pattern.keys import Keys
from penstock_processor.operators.pattern.matching import Found, Matching
from penstock_processor.operators.pattern.rows import DueRows
from penstock_processor.operators.pattern.shape import Shape
from penstock_processor.operators.pattern.told import Told
from penstock_processor.operators.pattern.waiting import Waiting
from penstock_processor.operators.payload import pack, unpack
from penstock_processor.operators.slots import hashable_keys
from penstock_processor.operators.step import AT, NOWHERE, Flow, Operator, Step, timestamp

__all__ = ["ARRIVAL", "MatchOperator"]

ARRIVAL = "$arrival"  # numbers rows as they come: the order of rows of one moment
_DUE = "$due"  # time of a row, epoch milliseconds


class MatchOperator:
    """See the module. `above`: measures and what stands over them, over partition columns, reaches and aggregates."""

    def __init__(self, source: Operator, shape: Shape, above: Chain, operator: str) -> None:
        self.id = operator
        self._source = source
        self._shape = shape
        self._above = above
        self._waiting = Waiting(_DUE)
        self._arrived = 0
        self._keys = Keys(shape.partition, shape.partition_types, shape.kept_types)
        self._rows = DueRows(shape, Automaton([variable.times for variable in shape.variables]))
        self._matching = Matching(self._rows.automaton, self._rows.asked, self._rows.resume, shape.bounds)

    def run(self, step: Step) -> Flow:
        """See `Operator`."""
        flow = self._source.run(step)
        due = self._due(flow, step)
        told = Told(self._shape)
        touched: dict[Hashable, None] = {}
        if due is not None:
            self._take(due, told, touched, step)
        for name in touched:
            self._keys.schedule(name, self._matching.due_ms)
        if flow.after is not None:
            self._expire(flow.after, told, touched)
        if touched:
            self._settle(touched, step)
        told.report(self._keys, step)
        frame = told.frame(self._keys)
        return Flow(None if frame is None else self._above.apply(frame, step), flow.before, flow.after)

    def restore(self, deltas: Sequence[StateDelta]) -> None:
        """See `Stateful`."""
        for delta in deltas:
            frames = unpack(delta.payload)
            match delta.kind:
                case DeltaKind.REPLACE:
                    self._waiting.clear()
                    self._keys.clear()
                    self._wait(frames[0])
                    self._keys.load(frames[1:])
                case DeltaKind.APPEND:
                    self._wait(frames[0])
                case DeltaKind.DELETE:
                    self._waiting.take(frames[0][_DUE][0])
                case DeltaKind.UPSERT:
                    self._keys.load(frames)
        for name in self._keys.open:
            self._keys.schedule(name, self._matching.due_ms)

    def compact(self) -> StateDelta:
        """See `Stateful`."""
        waiting = self._waiting.frame()
        frames = self._keys.save(self._keys.open, whole=True)
        return StateDelta(self.id, DeltaKind.REPLACE, pack([pl.DataFrame() if waiting is None else waiting, *frames]))

    def size(self) -> int:
        """See `Stateful`: rows that wait, and matches that have begun."""
        return len(self._waiting) + sum(len(key.open) - 1 + len(key.complete) for key in self._keys.open.values())

    def _wait(self, frame: pl.DataFrame) -> None:
        if frame.height:
            self._arrived = max(self._arrived, int(frame[ARRIVAL].max()) + 1)  # type: ignore[arg-type]  # an integer
            self._waiting.add(frame)

    def _due(self, flow: Flow, step: Step) -> pl.DataFrame | None:
        """Rows that the watermark has reached, in order; the others of this cycle wait."""
        new = None if flow.frame is None else self._arrive(flow.frame, flow.before, step)
        found = [] if flow.after is None else list(self._waiting.take(flow.after))
        if found and step.durable:
            through = pack([pl.DataFrame([pl.Series(_DUE, [flow.after], dtype=pl.Int64)])])
            step.deltas.append(StateDelta(self.id, DeltaKind.DELETE, through))
        if new is not None and new.height:
            early = new if flow.after is None else new.filter(pl.col(_DUE) > flow.after)
            if early.height:
                early = early.with_columns(pl.lit(NOWHERE, pl.Int64).alias(AT))
                self._waiting.add(early)
                if step.durable:
                    step.deltas.append(StateDelta(self.id, DeltaKind.APPEND, pack([early])))
            if flow.after is not None:
                found.append(new if early.height == 0 else new.filter(pl.col(_DUE) <= flow.after))
        due = pl.concat(found) if found else None
        if due is None or due.height == 0:
            return None
        by = [(_DUE, False, False), *self._shape.order, (ARRIVAL, False, False)]
        return due.sort([c for c, _, _ in by], descending=[d for _, d, _ in by], nulls_last=[n for _, _, n in by])

    def _arrive(self, frame: pl.DataFrame, watermark: int | None, step: Step) -> pl.DataFrame:
        """Rows on time, numbered, with their time in milliseconds."""
        times = frame[self._shape.time]
        if times.null_count():
            step.reject(frame.filter(times.is_null()), "no_event_time", "the time that this pattern goes by is NULL")
            frame = frame.filter(times.is_not_null())
        frame = frame.with_columns(pl.col(self._shape.time).dt.timestamp("ms").alias(_DUE))
        if watermark is not None and frame.height and frame[_DUE].min() <= watermark:  # type: ignore[operator]  # an integer
            late = frame.filter(pl.col(_DUE) <= watermark)
            step.reject(
                late, "late", f"the pattern had gone past this row; the watermark was at {timestamp(watermark)}"
            )
            frame = frame.filter(pl.col(_DUE) > watermark)
        numbers = np.arange(self._arrived, self._arrived + frame.height, dtype=np.int64)
        self._arrived += frame.height
        return frame.hstack([pl.Series(ARRIVAL, numbers)])

    def _take(self, due: pl.DataFrame, told: Told, touched: dict[Hashable, None], step: Step) -> None:
        """Each row by its key, in order of time."""
        rows, matching, keys = self._rows, self._matching, self._keys.open
        rows.over(due)
        names = hashable_keys([due[name] for name in self._shape.partition], due.height)
        found: list[Found] = []
        for n, (name, at_ms, may_start) in enumerate(zip(names, due[_DUE].to_list(), rows.may_start, strict=True)):
            key = keys.get(name)
            if key is None:
                if not may_start:
                    continue
                key = KeyMatches()
                matching.begin(key)
            elif matching.may_expire(key, at_ms):
                matching.expire(key, at_ms, found)
            touched[name] = None
            rows.look_at(n)
            try:
                ended = matching.take(key, at_ms, may_start=may_start)
            except RowRefused as refused:
                detail = "a condition of the pattern, or what it adds up, has no value for this row"
                step.reject(due[n : n + 1], refused.code, detail)
                told.add(name, key, found)
                if not key.begun:
                    keys.pop(name, None)
                continue
            key.last_ms = at_ms
            if ended or key.begun:
                key.rows.append(rows.row())
            if ended or key.complete:
                matching.tell(key, ended, at_ms, found)
            if given_up := matching.cut(key):
                self._give_up(due[n : n + 1], given_up, step)
                matching.tell(key, (), at_ms, found)
            if found:
                told.add(name, key, found)
            if key.begun:
                keys[name] = key
            else:
                keys.pop(name, None)

    def _give_up(self, row: pl.DataFrame, count: int, step: Step) -> None:
        bounds = self._shape.bounds
        detail = (f"{count} matches that had begun were given up at this row: a key has at most "
                  f"{bounds.matches_max:,}, of {bounds.rows_max:,} rows each; write WITHIN, or conditions that end "
                  "them")  # fmt: skip
        step.reject(row, "pattern_too_long", detail)

    def _expire(self, watermark: int, told: Told, touched: dict[Hashable, None]) -> None:
        """Keys without a row in time."""
        found: list[Found] = []
        for name in self._keys.due(watermark, self._matching.due_ms):
            key = self._keys.open[name]
            self._matching.expire(key, watermark, found)
            touched[name] = None
            told.add(name, key, found)
            if key.begun:
                self._keys.schedule(name, self._matching.due_ms)
            else:
                del self._keys.open[name]

    def _settle(self, touched: dict[Hashable, None], step: Step) -> None:
        """What has changed goes into the log; rows that no match needs go."""
        for name in touched:
            key = self._keys.open.get(name)
            if key is not None:
                key.trim()
        if step.durable:
            frames = self._keys.save(touched, whole=False)
            if frames[0].height:
                step.deltas.append(StateDelta(self.id, DeltaKind.UPSERT, pack(frames)))
