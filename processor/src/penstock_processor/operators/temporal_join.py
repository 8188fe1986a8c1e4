"""Event-time temporal join: each row with the version of its key that was valid at its time.

Semantics: Flink, "Event Time Temporal Join". A row waits until the watermark (the lesser of both inputs) has reached
its time; then no version that was valid at that time can come any more. A row that comes later than that is late; a
version that comes late counts from then on.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from penstock.ports.log import DeltaKind, StateDelta
from penstock_processor.operators.pairing import KeyedSide, Pairing, column_name, key_name, time_name
from penstock_processor.operators.payload import pack, unpack
from penstock_processor.operators.segments import Segments
from penstock_processor.operators.step import AT, Flow, Step, timestamp
from penstock_processor.operators.versions import VersionTable
from penstock_processor.operators.watermarks import least

__all__ = ["TemporalJoinOperator"]

_ROW = "$row"


class TemporalJoinOperator:
    """See the module. `pairing`: the condition beside the key, what is padded, and the output columns."""

    def __init__(self, left: KeyedSide, right: KeyedSide, *, pairing: Pairing, in_order: bool, operator: str) -> None:
        self.id = operator
        self._left, self._right = left, right
        self._pairing = pairing
        self._time, self._number = time_name("l"), column_name("l", "n")
        self._keys = [key_name("l", n) for n in range(left.keys)]
        self._waiting = Segments(keys=self._keys, time=self._time, expiry=self._time)
        version_keys = [key_name("r", n) for n in range(right.keys)]
        self._version_keys, self._version_number = version_keys, column_name("r", "n")
        self._versions = VersionTable(version_keys, time=time_name("r"), number=self._version_number,
                                      in_order=in_order)  # fmt: skip
        self._next = [0, 0]

    def run(self, step: Step) -> Flow:
        """See `Operator`."""
        left, right = self._left.source.run(step), self._right.source.run(step)
        before, after = least([left.before, right.before]), least([left.after, right.after])
        versions = self._new_versions(right.frame, step)
        rows = self._new_rows(left.frame, before, step)
        due, kept = self._due(rows, before, after)
        results = None if due is None else self._joined(due, step)
        if after is not None:
            self._versions.pass_to(after)
        if step.durable and (kept.height or versions.height):
            step.deltas.append(StateDelta(self.id, DeltaKind.APPEND, pack([kept, versions])))
        return Flow(results, before, after)

    def restore(self, deltas: Sequence[StateDelta]) -> None:
        """See `Stateful`. Rows that the watermark had reached are dropped by the first cycle."""
        for delta in deltas:
            if delta.kind is DeltaKind.REPLACE:
                self._waiting.clear()
                self._versions.clear()
            rows, versions = unpack(delta.payload)
            if rows.height:
                self._waiting.add(rows)
                self._next[0] = max(self._next[0], int(rows[self._number].max()) + 1)  # type: ignore[arg-type]  # an integer
            if versions.height:
                self._versions.add(versions)
                self._next[1] = max(self._next[1], int(versions[self._version_number].max()) + 1)  # type: ignore[arg-type]  # an integer

    def compact(self) -> StateDelta:
        """See `Stateful`."""
        rows = self._waiting.frame()
        frames = [pl.DataFrame() if rows is None else rows, self._versions.frame()]
        return StateDelta(self.id, DeltaKind.REPLACE, pack(frames))

    def size(self) -> int:
        """See `Stateful`."""
        return len(self._waiting) + len(self._versions)

    def _new_versions(self, frame: pl.DataFrame | None, step: Step) -> pl.DataFrame:
        """What counts of new versions; of a NULL key none can be asked for."""
        if frame is None or frame.height == 0:
            return pl.DataFrame()
        frame = _timed(frame, time_name("r"), "a version begins at", step).drop_nulls(self._version_keys)
        return self._versions.add(self._numbered(frame, 1, self._version_number))

    def _new_rows(self, frame: pl.DataFrame | None, watermark: int | None, step: Step) -> pl.DataFrame | None:
        """New rows that are not late."""
        if frame is None or frame.height == 0:
            return None
        frame = _timed(frame, self._time, "this join goes by", step)
        if watermark is not None:
            late = frame.filter(pl.col(self._time) <= watermark)
            if late.height:
                step.reject(late, "late", f"versions before {timestamp(watermark)}, the watermark, are not kept")
                frame = frame.filter(pl.col(self._time) > watermark)
        return self._numbered(frame, 0, self._number) if frame.height else None

    def _numbered(self, frame: pl.DataFrame, side: int, name: str) -> pl.DataFrame:
        first = self._next[side]
        self._next[side] = first + frame.height
        numbers = np.arange(first, first + frame.height, dtype=np.int64)
        return frame.drop(AT).hstack([pl.Series(name, numbers)])

    def _due(self, rows: pl.DataFrame | None, before: int | None, after: int | None
             ) -> tuple[pl.DataFrame | None, pl.DataFrame]:  # fmt: skip
        """Rows whose time the watermark has reached now, in order; and the new ones that wait."""
        if after is None:
            if rows is not None:
                self._waiting.add(rows)
            return None, pl.DataFrame() if rows is None else rows
        found = [part.frame[now] for part in self._waiting if len(now := part.due(before, after))]
        self._waiting.purge(after)
        kept = pl.DataFrame()
        if rows is not None:
            found.append(rows.filter(pl.col(self._time) <= after))
            kept = rows.filter(pl.col(self._time) > after)
            if kept.height:
                self._waiting.add(kept)
        due = pl.concat(found).sort(self._time, self._number) if found else None
        return (due if due is not None and due.height else None), kept

    def _joined(self, due: pl.DataFrame, step: Step) -> pl.DataFrame | None:
        keys = self._versions.numbers_of(due, self._keys)
        has, versions = self._versions.find(keys, due[self._time].to_numpy())
        pairs = None
        if versions is not None:
            pairs = self._pairing.checked(due[has].hstack(versions).with_columns(pl.Series(_ROW, has)), step)
        alone = None
        if self._pairing.padding.of_left:
            matched = np.zeros(due.height, np.bool_)
            if pairs is not None:
                matched[pairs[_ROW].to_numpy()] = True
            alone = due.filter(pl.Series(~matched))
        return self._pairing.results(pairs, alone, None, step)


def _timed(frame: pl.DataFrame, time: str, what: str, step: Step) -> pl.DataFrame:
    """Rows that have their time; the others are problems."""
    missing = frame[time].is_null()
    if missing.any():
        step.reject(frame.filter(missing), "no_event_time", f"the time that {what} is NULL")
        frame = frame.filter(~missing)
    return frame
