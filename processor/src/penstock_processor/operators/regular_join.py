"""Joins without bounds in time: both inputs are kept, each change of one side meets what the other side has.

Semantics: Flink, "Regular Joins". A pair is given as soon as both rows are there, and taken back when either goes. A
row that is given without a match is taken back when its first match comes, and given again when its last one goes; so
rows of such a side carry the number of their matches. A NULL in the key matches nothing. Of each cycle the net change
is given, what is taken back first. What has outlived its time is not taken back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from penstock.model.batch import Op
from penstock.ports.log import DeltaKind, StateDelta
from penstock_processor.operators.chain import Chain
from penstock_processor.operators.changes import brings, with_change
from penstock_processor.operators.hash_index import Ints
from penstock_processor.operators.keyed_rows import KeyedRows
from penstock_processor.operators.payload import pack, unpack
from penstock_processor.operators.row_changes import changes_to
from penstock_processor.operators.step import AT, CHANGE, NOWHERE, Flow, Operator, Step
from penstock_processor.operators.watermarks import least

__all__ = ["JoinInput", "JoinShape", "RegularJoinOperator"]

_MINE, _OTHER = "$mine", "$other"  # row of the changing side, position in the other one
_FRAMES = 3  # of one side in a delta


@dataclass(frozen=True, slots=True)
class JoinInput:
    """One input: its columns under the join's names with their types, and hidden columns of its keys.

    `updating`: its rows can be taken back. `unmatched`: its rows are given while they have no match; `matched`: once
    while they have one.
    """

    source: Operator
    columns: dict[str, pl.DataType]
    keys: tuple[str, ...]
    updating: bool
    unmatched: bool = False
    matched: bool = False


@dataclass(frozen=True, slots=True)
class JoinShape:
    """`match`: whether a candidate pair is one: keys, then the rest of the condition. `pairs`: pairs are given.

    `columns`: those of the output. `updating`: the output has CHANGE.
    """

    match: Chain
    columns: tuple[str, ...]
    pairs: bool
    updating: bool


@dataclass(slots=True)
class _Given:
    """What this cycle gives."""

    back: list[pl.DataFrame] = field(default_factory=list)
    brought: list[pl.DataFrame] = field(default_factory=list)


class _Side:
    """Rows of one input, and the changes of their matches in this cycle."""

    def __init__(self, shape: JoinInput, ttl_ms: int | None) -> None:
        self.shape = shape
        self.counted = shape.unmatched or shape.matched
        self._columns = [*shape.columns, *shape.keys]
        self.kept = KeyedRows(shape.keys, whole=self._columns if shape.updating else None, ttl_ms=ttl_ms)
        self._begin()

    def _begin(self) -> None:
        self.added, self.gone = pl.DataFrame(), np.zeros(0, np.int64)
        self.free = pl.DataFrame()  # rows that can have no match, with CHANGE
        self._tallies: list[tuple[Ints, int]] = []

    def arrive(self, frame: pl.DataFrame | None, now_ms: int) -> None:
        """The changes of this cycle."""
        self._begin()
        if frame is None or frame.height == 0:
            return
        if any(frame[key].null_count() for key in self.shape.keys):
            without = pl.any_horizontal([pl.col(key).is_null() for key in self.shape.keys])
            self.free = with_change(frame.filter(without)) if self.shape.unmatched else self.free
            frame = frame.filter(~without)
        self.added, (self.gone,) = changes_to((self.kept,), frame, self._columns, now_ms)

    def tally(self, positions: Ints, change: int) -> None:
        """These rows have won or lost a match each; a row may be there several times."""
        if self.counted and len(positions):
            self._tallies.append((positions, change))

    def tallied(self) -> tuple[Ints, Ints]:
        """(position, change) of rows whose number of matches changes."""
        if not self._tallies:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        positions = np.concatenate([each for each, _ in self._tallies])
        changes = np.repeat([change for _, change in self._tallies], [len(each) for each, _ in self._tallies])
        found, places = np.unique(positions, return_inverse=True)
        return found, np.bincount(places, weights=changes, minlength=len(found)).astype(np.int64)


class RegularJoinOperator:
    """See the module."""

    def __init__(self, left: JoinInput, right: JoinInput, shape: JoinShape, *, ttl_ms: int | None,
                 operator: str) -> None:  # fmt: skip
        self.id = operator
        self._shape = shape
        self._sides = (_Side(left, ttl_ms), _Side(right, ttl_ms))

    def run(self, step: Step) -> Flow:
        """See `Operator`."""
        flows = [side.shape.source.run(step) for side in self._sides]
        for side, flow in zip(self._sides, flows, strict=True):
            side.arrive(flow.frame, step.now_ms)
        done = self._joined(step)
        changes = [side.kept.changes() for side in self._sides] if step.durable else []
        if any(frames is not None for frames in changes):
            packed = [frame for frames in changes for frame in frames or [pl.DataFrame()] * _FRAMES]
            step.deltas.append(StateDelta(self.id, DeltaKind.APPEND, pack(packed)))
        for side in self._sides:
            side.kept.tidy(step.now_ms)
        return Flow(done, least([f.before for f in flows]), least([f.after for f in flows]))

    def restore(self, deltas: Sequence[StateDelta]) -> None:
        """See `Stateful`."""
        for delta in deltas:
            frames = unpack(delta.payload)
            for n, side in enumerate(self._sides):
                if delta.kind is DeltaKind.REPLACE:
                    side.kept.clear()
                side.kept.load(frames[n * _FRAMES : (n + 1) * _FRAMES])

    def compact(self) -> StateDelta:
        """See `Stateful`."""
        frames = [frame for side in self._sides for frame in side.kept.saved()]
        return StateDelta(self.id, DeltaKind.REPLACE, pack(frames))

    def size(self) -> int:
        """See `Stateful`."""
        return sum(len(side.kept) for side in self._sides)

    def _joined(self, step: Step) -> pl.DataFrame | None:
        """First what goes, of the left and of the right, then what comes: so each pair is seen once."""
        given = _Given()
        for n, side in enumerate(self._sides):
            if len(side.gone):
                self._leave(n, given, step)
        for n, side in enumerate(self._sides):
            if side.added.height:
                self._come(n, given, step)
        for side in self._sides:
            self._settle(side, given, step.now_ms)
        return self._output(given)

    def _leave(self, n: int, given: _Given, step: Step) -> None:
        side, other = self._sides[n], self._sides[1 - n]
        rows, counts = side.kept.rows(side.gone), side.kept.counts[side.gone]
        _, there = self._matches(n, rows, Op.DELETE, given.back, step)
        other.tally(there, -1)
        if side.counted:
            shown = counts == 0 if side.shape.unmatched else counts > 0
            given.back.append(self._alone(side, rows.filter(pl.Series(shown))))
        side.kept.remove(side.gone)

    def _come(self, n: int, given: _Given, step: Step) -> None:
        side, other = self._sides[n], self._sides[1 - n]
        mine, there = self._matches(n, side.added, Op.INSERT, given.brought, step)
        other.tally(there, 1)
        positions = side.kept.add(side.added, step.now_ms)
        side.tally(positions[mine], 1)

    def _settle(self, side: _Side, given: _Given, now_ms: int) -> None:
        """Rows that won their first match or lost their last one, and new ones."""
        if side.free.height:
            brought = brings(side.free)
            given.back.append(self._alone(side, side.free.filter(~brought)))
            given.brought.append(self._alone(side, side.free.filter(brought)))
        if not side.counted:
            return
        positions, changes = side.tallied()
        alive = side.kept.alive(positions)
        positions, changes = positions[alive], changes[alive]
        new = side.kept.added()
        before = side.kept.counts[positions]
        after = np.maximum(before + changes, 0)
        side.kept.write(positions, after, now_ms)
        old = positions < new[0] if len(new) else np.ones(len(positions), np.bool_)
        lost, won = positions[old & (before > 0) & (after == 0)], positions[old & (before == 0) & (after > 0)]
        matched = side.kept.counts[new] > 0
        if side.shape.unmatched:
            back, come = won, np.concatenate([lost, new[~matched]])
        else:
            back, come = lost, np.concatenate([won, new[matched]])
        for chosen, into in ((back, given.back), (come, given.brought)):
            if len(chosen):
                into.append(self._alone(side, side.kept.rows(chosen)))

    def _matches(self, n: int, rows: pl.DataFrame, op: Op, into: list[pl.DataFrame], step: Step) -> tuple[Ints, Ints]:
        """(row, position on the other side) of pairs that match; the pairs go `into` what is given."""
        side, other = self._sides[n], self._sides[1 - n]
        found = []
        for mine, there in other.kept.matches(rows.select(side.shape.keys), step.now_ms):
            beside = [pl.Series(_MINE, mine), pl.Series(_OTHER, there)]
            candidates = rows[mine].hstack(other.kept.rows(there)).hstack(beside)
            marked = candidates.with_columns(
                pl.lit(NOWHERE, pl.Int64).alias(AT), pl.lit(int(op), pl.Int8).alias(CHANGE)
            )
            done = self._shape.match.apply(marked, step)
            if done is not None:
                found.append(done)
        if not found:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        pairs = pl.concat(found).sort(_MINE, _OTHER)
        if self._shape.pairs:
            into.append(pairs.select(self._shape.columns))
        return pairs[_MINE].to_numpy(), pairs[_OTHER].to_numpy()

    def _alone(self, side: _Side, rows: pl.DataFrame) -> pl.DataFrame:
        """Rows without a partner: the other side's columns are NULL."""
        other = self._sides[1 - self._sides.index(side)]
        types = {**side.shape.columns, **other.shape.columns}
        missing = [pl.lit(None, types[name]).alias(name) for name in self._shape.columns if name not in rows.columns]
        return rows.with_columns(missing).select(self._shape.columns)

    def _output(self, given: _Given) -> pl.DataFrame | None:
        parts = []
        for frames, op in ((given.back, Op.DELETE), (given.brought, Op.INSERT)):
            some = [frame for frame in frames if frame.height]
            if some:
                parts.append(pl.concat(some).with_columns(pl.lit(int(op), pl.Int8).alias(CHANGE)))
        if not parts:
            return None
        done = pl.concat(parts).with_columns(pl.lit(NOWHERE, pl.Int64).alias(AT))
        return done if self._shape.updating else done.drop(CHANGE)
