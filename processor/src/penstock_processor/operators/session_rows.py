"""SESSION as a table function: rows wait until their session has ended, and come with its bounds.

State is the rows themselves, by session. A delta has the rows of a cycle, or the watermark at which sessions ended;
which session a row is in follows from the rows. Semantics: Flink, "SESSION" without an aggregation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from penstock.ports.log import DeltaKind, StateDelta
from penstock_processor.operators.payload import pack, unpack
from penstock_processor.operators.session_placing import in_time, pieces
from penstock_processor.operators.sessions import LAST, START, Sessions, session_bounds, session_time
from penstock_processor.operators.slots import hashable_keys
from penstock_processor.operators.step import AT, NOWHERE, SLICE, Flow, Operator, Step
from penstock_processor.operators.window_assign import window_columns

__all__ = ["SessionRowsOperator"]

_NUMBER = "$number"  # of a row's session in this batch
_ARRIVAL = "$arrival"  # number of the row


class SessionRowsOperator:
    """Adds `window_start`, `window_end`, `window_time`. `partition`: columns whose values have sessions of their own.

    Sessions come by their end, rows of sessions with equal bounds in the order of their arrival.
    """

    def __init__(self, source: Operator, *, gap_ms: int, time_column: str, partition: Sequence[str],
                 dtypes: Sequence[pl.DataType], operator: str) -> None:  # fmt: skip
        self.id = operator
        self._source = source
        self._time = session_time(pl.col(time_column))
        self._partition = list(partition)
        self._columns = window_columns(session_bounds(gap_ms), dtypes)
        self._sessions = Sessions(gap_ms)
        self._rows: dict[int, list[pl.DataFrame]] = {}  # by session
        self._next = 0

    def run(self, step: Step) -> Flow:
        """See `Operator`."""
        flow = self._source.run(step)
        if flow.frame is not None and flow.frame.height:
            rows = flow.frame.with_columns(self._time)
            rows = in_time(rows, self._sessions, self._partition, watermark=flow.before, step=step).drop(AT)
            if rows.height:
                numbers = np.arange(self._next, self._next + rows.height, dtype=np.int64)
                rows = rows.with_columns(pl.Series(_ARRIVAL, numbers))
                self._absorb(rows)
                if step.durable:
                    step.deltas.append(StateDelta(self.id, DeltaKind.APPEND, pack([rows])))
        if not step.advancing or flow.after is None:
            return Flow(None, flow.before, flow.after)
        done = self._end(flow.after)
        if done is not None and step.durable:
            ended = pl.DataFrame({SLICE: [flow.after]}, schema={SLICE: pl.Int64})
            step.deltas.append(StateDelta(self.id, DeltaKind.DELETE, pack([ended])))
        return Flow(done, flow.before, flow.after)

    def complete_to(self, watermark_ms: int) -> int:
        """How far the rows are complete by the start of their sessions."""
        return self._sessions.complete_to(watermark_ms)

    def restore(self, deltas: Sequence[StateDelta]) -> None:
        """See `Stateful`."""
        for delta in deltas:
            (frame,) = unpack(delta.payload)
            if delta.kind is DeltaKind.DELETE:
                self._end(frame[SLICE][0])
                continue
            if delta.kind is DeltaKind.REPLACE:
                self._sessions.clear()
                self._rows.clear()
            if frame.height:
                self._absorb(frame)

    def compact(self) -> StateDelta:
        """See `Stateful`."""
        frames = [frame for number in sorted(self._rows) for frame in self._rows[number]]
        return StateDelta(self.id, DeltaKind.REPLACE, pack([pl.concat(frames) if frames else pl.DataFrame()]))

    def size(self) -> int:
        """See `Stateful`."""
        return sum(frame.height for frames in self._rows.values() for frame in frames)

    def _absorb(self, rows: pl.DataFrame) -> None:
        """Put rows, in the order of their arrival, into sessions that they make, extend or join."""
        order = rows.select(pl.arg_sort_by([*self._partition, SLICE], maintain_order=True)).to_series().to_numpy()
        self._next = max(self._next, int(rows[_ARRIVAL].max()) + 1)  # type: ignore[arg-type]  # integers, not none
        ordered = rows[order]
        firsts = pieces(ordered, self._partition, gap_ms=self._sessions.gap_ms)
        ends = np.append(firsts[1:], ordered.height)
        times = ordered[SLICE].to_numpy()
        keys = hashable_keys([ordered[name][firsts] for name in self._partition], len(firsts))
        numbers = []
        into: dict[int, int] = {}
        for key, first, last in zip(keys, times[firsts].tolist(), times[ends - 1].tolist(), strict=True):
            number, taken = self._sessions.extend(key, first, last)
            for each in taken:
                into[each] = number
                self._rows.setdefault(number, []).extend(self._rows.pop(each, []))
            numbers.append(number)
        self._sessions.take_before()
        final = np.array([_end_of(into, number) for number in numbers], np.int64)
        placed = np.empty(rows.height, np.int64)
        placed[order] = np.repeat(final, ends - firsts)
        parts = rows.with_columns(pl.Series(_NUMBER, placed)).partition_by(_NUMBER, maintain_order=True, as_dict=True)
        for (number,), part in parts.items():
            self._rows.setdefault(number, []).append(part.drop(_NUMBER))

    def _end(self, watermark: int) -> pl.DataFrame | None:
        """Rows of the sessions that have ended, which are forgotten."""
        found = []
        for number in self._sessions.due(watermark):
            session = self._sessions.open[number]
            bounds = (pl.lit(session.start).alias(START), pl.lit(session.last).alias(LAST))
            found += [frame.with_columns(bounds) for frame in self._rows.pop(number)]
            self._sessions.remove(number)
        if not found:
            return None
        rows = pl.concat(found).sort(LAST, START, _ARRIVAL).with_columns(self._columns)
        return rows.drop(START, LAST, _ARRIVAL).with_columns(pl.lit(NOWHERE, pl.Int64).alias(AT))


def _end_of(into: dict[int, int], number: int) -> int:
    """The session that a session has gone into, through others."""
    while number in into:
        number = into[number]
    return number
