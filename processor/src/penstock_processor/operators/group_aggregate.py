"""GROUP BY without a window, and SELECT DISTINCT: what a group gives changes with its rows.

A cycle absorbs its rows and tells what each touched group gave before and gives now. Flink, "Group Aggregation": a
row that is taken back is taken out of its group; a group without rows is gone; one that nothing has touched for the
time to live is forgotten, and nothing is said of it; a row that is taken back from a group that is not there is
ignored.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from penstock.model.batch import Op
from penstock.ports.log import DeltaKind, StateDelta
from penstock_processor.operators.accumulators import Slots
from penstock_processor.operators.changes import brings, equal_rows, kept
from penstock_processor.operators.keyed_groups import ROWS, KeyedGroups, KeyedShape, Marks
from penstock_processor.operators.payload import pack, unpack
from penstock_processor.operators.step import AT, CHANGE, NOWHERE, Flow, Operator, Step

__all__ = ["GroupAggregateOperator"]


class GroupAggregateOperator:
    """See the module.

    `updating`: give changes; else only groups that are new (they never change). `refresh`: also tell that a group
    stays as it is, so that whoever keeps state of it knows that it is in use, as Flink does with a time to live.
    """

    def __init__(self, source: Operator, shape: KeyedShape, operator: str, *, updating: bool, refresh: bool) -> None:
        self.id = operator
        self._source = source
        self._shape = shape
        self._updating = updating
        self._refresh = refresh
        self._groups = KeyedGroups(shape)

    def run(self, step: Step) -> Flow:
        """See `Operator`."""
        flow = self._source.run(step)
        if flow.frame is None or flow.frame.height == 0:
            return Flow(None, flow.before, flow.after)
        return Flow(self._changes(flow.frame, step), flow.before, flow.after)

    def restore(self, deltas: Sequence[StateDelta]) -> None:
        """See `Stateful`."""
        for delta in deltas:
            frames = unpack(delta.payload)
            if delta.kind is DeltaKind.DELETE:
                self._groups.forget(frames[0])
                continue
            if delta.kind is DeltaKind.REPLACE:
                self._groups.clear()
            if delta.kind is not DeltaKind.APPEND:
                self._groups.load(frames.pop(0))
            self._groups.learn(frames)

    def compact(self) -> StateDelta:
        """See `Stateful`."""
        state, kept = self._groups.everything()
        return StateDelta(self.id, DeltaKind.REPLACE, pack([state, *kept]))

    def size(self) -> int:
        """See `Stateful`."""
        return len(self._groups)

    def _changes(self, rows: pl.DataFrame, step: Step) -> pl.DataFrame | None:
        forgotten = self._groups.expired(step.now_ms)
        rows = self._groups.numbered(rows)
        bring = brings(rows).to_numpy() if CHANGE in rows.columns else None
        brought, taken = (rows, None) if bring is None else (kept(rows, bring), kept(rows, ~bring))
        combined = self._groups.combined(brought)
        groups = combined.select(self._groups.by)
        if taken is not None and taken.height:
            groups = pl.concat([groups, taken.select(self._groups.by)]).unique(maintain_order=True)
        slots, new, late = self._groups.open(groups, step.now_ms)
        if taken is not None and new.any():
            unknown = kept(groups, new)
            taken = taken.join(unknown, on=self._groups.by, how="anti", nulls_equal=True, maintain_order="left")
        old = self._results(kept(groups, ~new), slots[~new])
        self._groups.absorb(slots[: combined.height], combined)  # the groups of what is brought come first
        if taken is not None and taken.height:
            back = self._groups.combined(taken)
            self._groups.retract(self._groups.find(back)[0], back)
        values = self._groups.feed(brought, taken)
        saved = groups.hstack(self._groups.save(slots))
        alive = (saved[ROWS] > 0).to_numpy()
        now = kept(saved, alive).select(self._shape.outputs)
        if step.durable:
            gone = [each for each in (forgotten, late, kept(groups, ~alive & ~new)) if each.height]
            self._record(step, gone, groups=kept(groups, alive), slots=slots[alive], values=values)
        self._groups.forget(kept(groups, ~alive))
        return self._told(old, now, alive=alive, new=new)

    def _results(self, groups: pl.DataFrame, slots: Slots) -> pl.DataFrame:
        return groups.hstack(self._groups.save(slots)).select(self._shape.outputs)

    def _told(self, old: pl.DataFrame, now: pl.DataFrame, *, alive: Marks, new: Marks) -> pl.DataFrame | None:
        """Changes: all that is taken back, then what is brought. Row i of `old` is the i-th group that is not new."""
        if not self._updating:
            now = kept(now, new[alive])
            return now.hstack([_nowhere(now.height)]) if now.height else None
        stays, was = alive[~new], ~new[alive]
        back = np.where(stays, Op.UPDATE_BEFORE, Op.DELETE).astype(np.int8)
        forth = np.where(was, Op.UPDATE_AFTER, Op.INSERT).astype(np.int8)
        if not self._refresh and stays.any():
            same = equal_rows(kept(old, stays), kept(now, was), now.columns)
            differs_back, differs_forth = np.ones(len(stays), np.bool_), np.ones(len(was), np.bool_)
            differs_back[stays] = differs_forth[was] = ~same
            old, back = kept(old, differs_back), back[differs_back]
            now, forth = kept(now, differs_forth), forth[differs_forth]
        if not len(back) + len(forth):
            return None
        ops = pl.Series(CHANGE, np.concatenate([back, forth]))
        told = now if not len(back) else old if not len(forth) else old.vstack(now)
        return told.hstack([ops, _nowhere(told.height)])

    def _record(self, step: Step, gone: Sequence[pl.DataFrame], *, groups: pl.DataFrame, slots: Slots,
                values: Sequence[pl.DataFrame]) -> None:  # fmt: skip
        """Deltas: groups that are gone, then `groups` as they are now, and the values that they have to keep."""
        if gone:
            step.deltas.append(StateDelta(self.id, DeltaKind.DELETE, pack([pl.concat(gone)])))
        if not groups.height:
            return
        step.deltas.append(StateDelta(self.id, DeltaKind.UPSERT, pack([self._groups.state(groups, slots)])))
        values = [each.join(groups, on=groups.columns, how="semi", nulls_equal=True) for each in values]
        if any(each.height for each in values):
            step.deltas.append(StateDelta(self.id, DeltaKind.APPEND, pack(values)))


def _nowhere(height: int) -> pl.Series:
    return pl.Series(AT, np.full(height, NOWHERE, np.int64))
