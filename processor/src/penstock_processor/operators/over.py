"""OVER in order of event time: each row with values of the rows before it, once the watermark has passed its time.

Semantics: Flink, "Over Aggregation". Rows come in order of time, those of one time as they arrived; RANGE counts all
rows of the same time, ROWS those that arrived before. A row whose time the watermark has passed is late.

State is rows that wait for the watermark, rows that later frames may hold, and, of frames without a beginning, one
value a call and key.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from penstock.model.types import DataType
from penstock.ports.log import DeltaKind, StateDelta
from penstock_processor.operators.awaited import AwaitedRows
from penstock_processor.operators.over_calls import OverCall, masked
from penstock_processor.operators.over_segments import OverSegment, OverSegments
from penstock_processor.operators.payload import pack, unpack
from penstock_processor.operators.ranges import Ints, first_reaching
from penstock_processor.operators.slots import hashable_keys, key_columns
from penstock_processor.operators.step import AT, MAX_WATERMARK, NOWHERE, Flow, Operator, Step, timestamp

__all__ = ["TIME", "OverLag", "OverOperator", "OverShape"]

TIME = "$t"  # of each row, epoch milliseconds
_PLACE = "$place"  # of a row among those of its key
_SLACK_ROWS = 1_000  # dead rows that are not worth looking for


@dataclass(frozen=True, slots=True)
class OverLag:
    """The value of `column`, of type `dtype`, `offset` rows before the frame's last row; NULL if there is none."""

    name: str
    column: str
    dtype: pl.DataType
    offset: int


@dataclass(frozen=True, slots=True)
class OverShape:
    """The frame: `preceding` rows (`rows`) or milliseconds and the current row; None: all rows before.

    Input columns: `columns`, among them those of `partition`; TIME; `arguments`, which calls and lags read. `outputs`
    are over the names of calls and lags, and over `zeros`: what rounding took from sums, which is not kept here.
    """

    columns: tuple[str, ...]
    partition: tuple[str, ...]
    partition_types: tuple[DataType, ...]
    rows: bool
    preceding: int | None
    arguments: tuple[str, ...]
    calls: tuple[OverCall, ...]
    lags: tuple[OverLag, ...]
    zeros: tuple[pl.Expr, ...]
    outputs: tuple[pl.Expr, ...]

    @property
    def tail(self) -> int | None:
        """The last rows of each key that are kept; None: those that are not too long ago."""
        if self.preceding is None:
            return max((lag.offset for lag in self.lags), default=0)
        return self.preceding if self.rows else None


class _Keys:
    """Numbers of keys, and how many rows each has had."""

    def __init__(self) -> None:
        self.listed: list[Hashable] = []
        self.places: Ints = np.zeros(64, np.int64)
        self._numbers: dict[Hashable, int] = {}

    def find(self, keys: Sequence[Hashable]) -> Ints:
        """The number of each key; new ones get the next."""
        found = []
        for key in keys:
            number = self._numbers.get(key)
            if number is None:
                number = self._numbers[key] = len(self.listed)
                self.listed.append(key)
            found.append(number)
        while len(self.places) < len(self.listed):
            self.places = np.concatenate([self.places, np.zeros(len(self.places), np.int64)])
        return np.array(found, np.int64)


class OverOperator:
    """See the module."""

    def __init__(self, source: Operator, shape: OverShape, operator: str) -> None:
        self.id = operator
        self._source = source
        self._shape = shape
        self._awaited = AwaitedRows(TIME)
        self._keys = _Keys()
        self._segments = OverSegments(self._alive)
        self._clean_from = self._forget_from = _SLACK_ROWS
        self._totals: dict[str, list[Any]] = {call.name: [] for call in shape.calls}
        self._watermark: int | None = None

    def run(self, step: Step) -> Flow:
        """See `Operator`."""
        flow = self._source.run(step)
        rows = None if flow.frame is None or flow.frame.height == 0 else self._in_time(flow.frame, flow.before, step)
        if flow.after is None or not step.advancing:
            self._wait(rows, step)
            return Flow(None, flow.before, flow.after)
        waited = len(self._awaited)
        now = [] if rows is None else [rows.filter(pl.col(TIME) <= flow.after)]
        released = self._awaited.release(flow.after, now)
        if step.durable and len(self._awaited) < waited:
            through = pl.DataFrame({TIME: [flow.after]}, schema={TIME: pl.Int64})
            step.deltas.append(StateDelta(self.id, DeltaKind.DELETE, pack([through])))
        self._wait(None if rows is None else rows.filter(pl.col(TIME) > flow.after), step)
        self._watermark = flow.after
        return Flow(None if released is None else self._compute(released, step), flow.before, flow.after)

    def restore(self, deltas: Sequence[StateDelta]) -> None:
        """See `Stateful`."""
        for delta in deltas:
            frames = unpack(delta.payload)
            match delta.kind:
                case DeltaKind.DELETE:
                    self._awaited.release(frames[0][TIME][0])
                case DeltaKind.APPEND:
                    self._load_rows(*frames)
                case DeltaKind.UPSERT:
                    self._load_totals(frames[0])
                case DeltaKind.REPLACE:
                    self._forget()
                    self._load_rows(frames[0], frames[1])
                    self._load_totals(frames[2])

    def compact(self) -> StateDelta:
        """See `Stateful`."""
        kept = self._segments.merged()
        frames = [self._awaited.frame(), None if kept is None else self._with_keys(kept), self._saved_totals(None)]
        payload = pack([pl.DataFrame() if frame is None else frame for frame in frames])
        return StateDelta(self.id, DeltaKind.REPLACE, payload)

    def size(self) -> int:
        """See `Stateful`."""
        return len(self._awaited) + len(self._segments) + (len(self._keys.listed) if self._totalled else 0)

    @property
    def _totalled(self) -> bool:
        return self._shape.preceding is None

    def _in_time(self, frame: pl.DataFrame, watermark: int | None, step: Step) -> pl.DataFrame:
        times = frame[TIME]
        if times.null_count():
            step.reject(frame.filter(times.is_null()), "no_event_time", "the time that OVER goes by is NULL")
            frame = frame.filter(times.is_not_null())
        if watermark is None:
            return frame
        late = frame.filter(pl.col(TIME) <= watermark)
        if late.height:
            step.reject(
                late, "late", f"rows of its time have been given; the watermark was at {timestamp(watermark)}"
            )
            frame = frame.filter(pl.col(TIME) > watermark)
        return frame

    def _wait(self, rows: pl.DataFrame | None, step: Step) -> None:
        """Keep rows that the watermark has not passed."""
        if rows is None or rows.height == 0:
            return
        rows = rows.with_columns(pl.lit(NOWHERE, pl.Int64).alias(AT))
        self._awaited.add(rows)
        if step.durable:
            step.deltas.append(StateDelta(self.id, DeltaKind.APPEND, pack([rows, pl.DataFrame()])))

    def _compute(self, rows: pl.DataFrame, step: Step) -> pl.DataFrame:
        """Rows in order of time, with their values; they become part of the state."""
        keys = self._keys.find(list(hashable_keys([rows[name] for name in self._shape.partition], rows.height)))
        order = np.argsort(keys, kind="stable")
        keys, ordered = keys[order], rows[order]
        numbers = np.arange(len(keys), dtype=np.int64)
        firsts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1])).astype(np.int64)
        ends = np.append(firsts[1:], len(keys)).astype(np.int64)
        begin, end = np.repeat(firsts, ends - firsts), np.repeat(ends, ends - firsts)
        places = self._keys.places[keys] + numbers - begin
        held = ordered.select(TIME, *self._shape.arguments)
        batch = OverSegment(held, keys, ordered[TIME].to_numpy(), places)
        first, last = self._frames(batch, begin, end)
        values = [*self._values(batch, first, last), *self._lagged(batch, begin, last)]
        self._keys.places[keys[firsts]] += ends - firsts
        self._keep(batch, values[: len(self._shape.calls)], ends - 1, step)
        back = np.empty(len(order), np.int64)
        back[order] = numbers
        valued = ordered.with_columns(*values, *self._shape.zeros)[back]
        return valued.select(*self._shape.columns, *self._shape.outputs, AT)

    def _frames(self, batch: OverSegment, begin: Ints, end: Ints) -> tuple[Ints, Ints]:
        """Of each row, the rows of the batch that its frame holds."""
        numbers = np.arange(len(batch), dtype=np.int64)
        preceding = self._shape.preceding
        if self._shape.rows:
            return (begin if preceding is None else np.maximum(begin, numbers - preceding)), numbers + 1
        last = first_reaching(batch.times, numbers, end, batch.times + 1)
        if preceding is None:
            return begin, last
        return first_reaching(batch.times, begin, numbers, batch.times - preceding), last

    def _values(self, batch: OverSegment, first: Ints, last: Ints) -> list[pl.Series]:
        """The value of each call for each row."""
        preceding = self._shape.preceding
        parts: list[tuple[OverSegment, Ints, Ints]] = []
        if preceding is not None:
            for segment in self._segments:
                if self._shape.rows:
                    found = segment.from_place(batch.keys, batch.places - preceding)
                else:
                    found = segment.since(batch.keys, batch.times - preceding)
                if (found[0] < found[1]).any():
                    parts.append((segment, *found))
        parts.append((batch, first, last))
        values = []
        for call in self._shape.calls:
            found_values = [segment.values(call, *span) for segment, *span in parts]
            if preceding is None:
                totals = self._totals[call.name]
                totals += [call.nothing] * (len(self._keys.listed) - len(totals))
                before = pl.Series(call.name, [totals[key] for key in batch.keys.tolist()], dtype=call.dtype)
                found_values.insert(0, before)
            values.append(reduce(call.joined, found_values).alias(call.name))
        return values

    def _lagged(self, batch: OverSegment, begin: Ints, last: Ints) -> list[pl.Series]:
        """What lies a number of rows before the frame's last one."""
        found = []
        for lag in self._shape.lags:
            wanted = batch.places[last - 1] - lag.offset
            at = last - 1 - lag.offset
            values = _picked(batch, lag, at, at >= begin)
            for segment in self._segments:
                first, end = segment.ranges(batch.keys)
                there = first < end
                at = first + wanted - segment.places[np.where(there, first, 0)]
                there &= (at >= first) & (at < end)
                values = values.zip_with(pl.Series(~there), _picked(segment, lag, at, there))
            found.append(values.alias(lag.name))
        return found

    def _keep(self, batch: OverSegment, values: Sequence[pl.Series], lasts: Ints, step: Step) -> None:
        """Rows that later frames may hold, and values of frames that have no beginning."""
        if self._totalled and values:
            for call, series in zip(self._shape.calls, values, strict=True):
                totals = self._totals[call.name]
                for key, value in zip(batch.keys[lasts].tolist(), series.gather(pl.Series(lasts)), strict=True):
                    totals[key] = value
        kept = batch.kept(self._alive(batch))
        if step.durable and len(kept):
            payload = pack([pl.DataFrame(), self._with_keys(kept)])
            step.deltas.append(StateDelta(self.id, DeltaKind.APPEND, payload))
        if step.durable and self._totalled:
            totals_frame = self._saved_totals(batch.keys[lasts])
            if totals_frame is not None:
                step.deltas.append(StateDelta(self.id, DeltaKind.UPSERT, pack([totals_frame])))
        self._add(kept)

    def _add(self, segment: OverSegment) -> None:
        self._segments.add(segment)
        if len(self._segments) > self._clean_from:
            self._segments.clean(self._clean_from)
            self._clean_from = 2 * len(self._segments) + _SLACK_ROWS
        if self._shape.tail is None and len(self._keys.listed) > self._forget_from:
            self._renumber()
            self._forget_from = 2 * len(self._keys.listed) + _SLACK_ROWS

    def _renumber(self) -> None:
        """Forget keys that have no rows any more (frames of time alone: places do not matter)."""
        merged = self._segments.merged()
        self._segments.clear()
        numbers = np.zeros(0, np.int64) if merged is None else np.unique(merged.keys)
        listed = [self._keys.listed[number] for number in numbers.tolist()]
        self._keys = _Keys()
        self._keys.find(listed)
        if merged is not None:
            keys = np.searchsorted(numbers, merged.keys).astype(np.int64)
            self._segments.add(OverSegment(merged.rows, keys, merged.times, merged.places))

    def _alive(self, segment: OverSegment) -> npt.NDArray[np.bool_]:
        """Which rows a later frame may hold."""
        tail, preceding = self._shape.tail, self._shape.preceding
        if tail is not None:
            return segment.places >= self._keys.places[segment.keys] - tail
        if self._watermark is None or preceding is None:
            return np.ones(len(segment), np.bool_)
        if self._watermark == MAX_WATERMARK:
            return np.zeros(len(segment), np.bool_)
        return segment.times > self._watermark - preceding

    def _with_keys(self, segment: OverSegment) -> pl.DataFrame:
        keys = [self._keys.listed[number] for number in segment.keys.tolist()]
        columns = key_columns(keys, self._shape.partition, self._shape.partition_types)
        shown = [column.alias(f"$k{n}") for n, column in enumerate(columns)]
        return segment.rows.hstack([*shown, pl.Series(_PLACE, segment.places)])

    def _saved_totals(self, numbers: Ints | None) -> pl.DataFrame | None:
        """Of these keys, or of all; None if there is nothing to save."""
        if not self._totalled:
            return None
        chosen = range(len(self._keys.listed)) if numbers is None else numbers.tolist()
        keys = [self._keys.listed[number] for number in chosen]
        if not keys:
            return None
        columns = key_columns(keys, self._shape.partition, self._shape.partition_types)
        saved = [column.alias(f"$k{n}") for n, column in enumerate(columns)]
        saved.append(pl.Series(_PLACE, self._keys.places[list(chosen)]))
        for call in self._shape.calls:
            totals = self._totals[call.name]
            totals += [call.nothing] * (len(self._keys.listed) - len(totals))
            saved.append(pl.Series(call.name, [totals[number] for number in chosen], dtype=call.dtype))
        return pl.DataFrame(saved)

    def _load_rows(self, awaited: pl.DataFrame, kept: pl.DataFrame) -> None:
        if awaited.height:
            self._awaited.add(awaited)
        if kept.height == 0:
            return
        keys = self._find(kept)
        places = kept[_PLACE].to_numpy()
        np.maximum.at(self._keys.places, keys, places + 1)
        order = np.argsort(keys, kind="stable")
        rows = kept.select(TIME, *self._shape.arguments)[order]
        self._add(OverSegment(rows, keys[order], rows[TIME].to_numpy(), places[order]))

    def _load_totals(self, saved: pl.DataFrame) -> None:
        if saved.height == 0:
            return
        keys = self._find(saved)
        self._keys.places[keys] = saved[_PLACE].to_numpy()
        for call in self._shape.calls:
            totals = self._totals[call.name]
            totals += [call.nothing] * (len(self._keys.listed) - len(totals))
            for key, value in zip(keys.tolist(), saved[call.name].to_list(), strict=True):
                totals[key] = value

    def _find(self, saved: pl.DataFrame) -> Ints:
        columns = [saved[f"$k{n}"] for n in range(len(self._shape.partition))]
        return self._keys.find(list(hashable_keys(columns, saved.height)))

    def _forget(self) -> None:
        self._awaited.clear()
        self._segments.clear()
        self._keys = _Keys()
        self._totals = {call.name: [] for call in self._shape.calls}


def _picked(segment: OverSegment, lag: OverLag, at: Ints, there: npt.NDArray[np.bool_]) -> pl.Series:
    """The values of rows that are there; NULL for the others."""
    if not there.any():
        return pl.Series(lag.name, [None] * len(at), dtype=lag.dtype)
    picked = segment.rows[lag.column].gather(pl.Series(np.where(there, at, 0)))
    return masked(picked, there)
