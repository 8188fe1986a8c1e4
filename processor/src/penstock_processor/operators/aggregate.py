"""Windowed aggregation with groups: TUMBLE, HOP and CUMULATE, final or also early.

State is one slot of accumulators per (slice, key). A cycle absorbs its rows (judged by the watermark before it), then
fires the windows that the watermark after it has reached. Results are ordered by window and key. Semantics: Flink,
"Window Aggregation": one result per window and key; a row is late when its last window has fired.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from penstock.model.batch import OP_COLUMN, PENDING_COLUMN, Op
from penstock.model.types import DataType
from penstock.ports.log import DeltaKind, StateDelta
from penstock_processor.operators.accumulators import Accumulator, Slots
from penstock_processor.operators.chain import LAZY_FROM_ROWS, PASSES, Chain
from penstock_processor.operators.distinct import DistinctFeed
from penstock_processor.operators.lateness import on_time
from penstock_processor.operators.payload import pack, unpack
from penstock_processor.operators.slots import SlotTable, hashable_keys, key_columns
from penstock_processor.operators.step import AT, NOWHERE, SLICE, Flow, Operator, Step
from penstock_processor.operators.windows import Windows

__all__ = ["SLOT", "AggregateShape", "WindowAggregate"]

SLOT = "$slot"  # in the chain above early results: the slot of each
_VISIBLE = "$visible"

#: Slots that one query merges when HOP windows fire: bounds the memory of a watermark that jumps far ahead.
FIRESLOTS_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class AggregateShape:
    """What is grouped and how. Input columns: `$slice`, `key_names`, and the arguments that `accumulators` read.

    `outputs` are over `$slice`, the keys and saved columns, aliased to the node's fields. `early`: the stateless
    chain from here to the sink; with it the operator also emits while windows are open, as a changelog. `combined`:
    the input is what PartialAggregateOperators made of the rows.
    """

    windows: Windows
    key_names: tuple[str, ...]
    key_types: tuple[DataType, ...]
    accumulators: tuple[Accumulator, ...]
    distinct: tuple[DistinctFeed, ...]
    outputs: tuple[pl.Expr, ...]
    early: Chain | None = None
    combined: bool = False


class WindowAggregate:
    """See the module."""

    def __init__(self, source: Operator, shape: AggregateShape, operator: str) -> None:
        self.id = operator
        self._source = source
        self._shape = shape
        self._windows = shape.windows
        self._groups = (SLICE, *shape.key_names)
        self._partials = [
            partial
            for each in shape.accumulators
            for partial in (each.merges[:1] if shape.combined else each.partials)  # a part has no rounding error
        ]
        self._all = (*shape.accumulators, *(a for feed in shape.distinct for a in feed.accumulators))
        self._table = SlotTable()
        self._room = 0
        self._visible = np.zeros(0, np.bool_)

    def run(self, step: Step) -> Flow:
        """See `Operator`."""
        flow = self._source.run(step)
        touched: tuple[pl.DataFrame, Slots] | None = None
        kept: list[pl.DataFrame] = []
        if flow.frame is not None and flow.frame.height:
            rows = on_time(flow.frame, self._windows, flow.before, step)
            if rows.height:
                touched, kept = self._absorb(rows)
        due = self._due(flow.before, flow.after) if step.advancing else []
        if self._shape.early is None:
            frame = self._fire(due)
        else:
            frame = self._update(self._shape.early, touched, due=due, step=step)
        if step.durable:
            self._record(step, touched, kept=kept, after=flow.after if due else None)
        if due and flow.after is not None:
            live_from = self._windows.kept_from(flow.after)
            self._drop([s for s in self._table.panes if s < live_from])
        return Flow(frame, flow.before, flow.after)

    def restore(self, deltas: Sequence[StateDelta]) -> None:
        """See `Stateful`."""
        for delta in deltas:
            frames = unpack(delta.payload)
            if delta.kind is DeltaKind.DELETE:
                self._drop([s for s in frames[0][SLICE].to_list() if s in self._table.panes])
                continue
            if delta.kind is DeltaKind.REPLACE:
                self._drop(list(self._table.panes))
            if delta.kind is not DeltaKind.APPEND:
                self._load(frames.pop(0))
            for frame in frames:
                for feed in self._shape.distinct:
                    if feed.column in frame.columns:
                        feed.load(frame, self._table)

    def compact(self) -> StateDelta:
        """See `Stateful`."""
        slices = sorted(self._table.panes)
        frame, slots = self._gather([(s, s) for s in slices])
        keys = frame.select(self._groups)
        seen = [feed.save(keys, slots) for feed in self._shape.distinct]
        return StateDelta(self.id, DeltaKind.REPLACE, pack([frame, *seen]))

    def size(self) -> int:
        """See `Stateful`."""
        return len(self._table)

    def _absorb(self, rows: pl.DataFrame) -> tuple[tuple[pl.DataFrame, Slots], list[pl.DataFrame]]:
        """Merge rows into their slots. Returns the groups touched, with their slots, and new DISTINCT values."""
        if rows.height < LAZY_FROM_ROWS:
            grouped = rows.group_by(self._groups).agg(self._partials)
        else:
            grouped = rows.lazy().group_by(self._groups).agg(self._partials).collect()
        slots = self._find(grouped)
        for accumulator in self._shape.accumulators:
            accumulator.absorb(slots, grouped)
        kept = [feed.absorb(rows, self._table) for feed in self._shape.distinct]
        return (grouped[list(self._groups)], slots), kept

    def _find(self, groups: pl.DataFrame) -> Slots:
        keys = hashable_keys([groups[name] for name in self._shape.key_names], groups.height)
        slots, new = self._table.find(groups[SLICE], keys)
        if self._table.capacity > self._room:
            self._room = self._table.capacity
            for accumulator in self._all:
                accumulator.grow(self._room)
            self._visible = np.concatenate([self._visible, np.zeros(self._room - len(self._visible), np.bool_)])
        if new:
            cleared = np.array(new, np.int64)
            for accumulator in self._all:
                accumulator.clear(cleared)
            self._visible[cleared] = False
        return slots

    def _due(self, before: int | None, after: int | None) -> list[int]:
        """Numbers of the windows that fire now and hold anything, ascending."""
        panes, windows = self._table.panes, self._windows
        if not panes or after is None:
            return []
        end = windows.first_open(after)
        start = None if before is None else windows.first_open(before)
        if start is not None and start >= end:
            return []
        candidates: Iterable[int]
        if start is not None and (end - start) // windows.slide_ms <= len(panes):
            candidates = range(start, end, windows.slide_ms)
        else:
            held = {w for s in panes for w in (windows.windows_with(s) if windows.sliced else (s,))}
            candidates = sorted(w for w in held if w < end and (start is None or w >= start))
        return [w for w in candidates if any(s in panes for s in windows.slices_in(w))]

    def _gather(self, parts: Sequence[tuple[int, int]]) -> tuple[pl.DataFrame, Slots]:
        """Saved state of slices, given as (number to show as `$slice`, slice)."""
        found = [self._table.slots(s) for _, s in parts]
        keys: list[Hashable] = [key for _, s in parts for key in self._table.panes[s]]
        slots = np.concatenate(found) if found else np.zeros(0, np.int64)
        shown = np.repeat(np.array([w for w, _ in parts], np.int64), [len(f) for f in found])
        columns = key_columns(keys, self._shape.key_names, self._shape.key_types)
        return pl.DataFrame([pl.Series(SLICE, shown), *columns, *self._save(slots)]), slots

    def _save(self, slots: Slots) -> list[pl.Series]:
        columns = [column for accumulator in self._all for column in accumulator.save(slots)]
        if self._shape.early is not None:
            columns.append(pl.Series(_VISIBLE, self._visible[slots]))
        return columns

    def _load(self, saved: pl.DataFrame) -> None:
        slots = self._find(saved)
        for accumulator in self._all:
            accumulator.load(slots, saved)
        if self._shape.early is not None:
            self._visible[slots] = saved[_VISIBLE].to_numpy()

    def _fire(self, due: Sequence[int]) -> pl.DataFrame | None:
        """Results of the windows."""
        if not due:
            return None
        done = [self._results(saved) for saved in self._windows_saved(due)]
        return done[0] if len(done) == 1 else pl.concat(done)

    def _windows_saved(self, due: Sequence[int]) -> Iterable[pl.DataFrame]:
        """Saved state per window and key, in bounded portions of whole windows."""
        if not self._windows.sliced:
            yield self._gather([(w, w) for w in due])[0]
            return
        merges = [merge for accumulator in self._all for merge in accumulator.merges]
        portion: list[tuple[int, int]] = []
        size = 0
        for window in due:
            held = [(window, s) for s in self._windows.slices_in(window) if s in self._table.panes]
            portion += held
            size += sum(len(self._table.panes[s]) for _, s in held)
            if size >= FIRESLOTS_MAX or window == due[-1]:
                yield self._gather(portion)[0].group_by(self._groups, maintain_order=True).agg(merges)
                portion, size = [], 0

    def _results(self, saved: pl.DataFrame, *hidden: str) -> pl.DataFrame:
        at = pl.lit(NOWHERE, pl.Int64).alias(AT)
        return saved.sort(self._groups).select(*self._shape.outputs, at, *hidden)

    def _update(self, above: Chain, touched: tuple[pl.DataFrame, Slots] | None, *, due: Sequence[int], step: Step
                ) -> pl.DataFrame | None:  # fmt: skip
        """Early: what changed in open windows (pending), and the last word on those that fire, as a changelog."""
        parts = []
        if touched is not None:
            groups, slots = touched
            is_open = ~np.isin(groups[SLICE].to_numpy(), np.array(due, np.int64))
            if is_open.any():
                groups, slots = groups.filter(pl.Series(is_open)), slots[is_open]
                parts.append(_marked(groups.hstack(self._save(slots)), slots, pending=True))
        if due:
            saved, slots = self._gather([(w, w) for w in due])
            parts.append(_marked(saved, slots, pending=False))
        if not parts:
            return None
        results = self._results(pl.concat(parts), SLOT, PENDING_COLUMN)
        done = above.apply(results, step)
        if done is None:
            return None
        slots, passes = done[SLOT].to_numpy(), done[PASSES].to_numpy()
        was = self._visible[slots]
        self._visible[slots] = passes
        ops = np.where(passes, np.where(was, Op.UPDATE_AFTER, Op.INSERT), Op.DELETE).astype(np.int8)
        done = done.drop(SLOT, PASSES).with_columns(pl.Series(OP_COLUMN, ops))
        told = passes | was
        return done if told.all() else done.filter(pl.Series(told))

    def _record(self, step: Step, touched: tuple[pl.DataFrame, Slots] | None, *, kept: Sequence[pl.DataFrame],
                after: int | None) -> None:  # fmt: skip
        """Deltas: slots that live on, new DISTINCT values, and slices that go (`after`: windows have fired)."""
        live_from = None if after is None else self._windows.kept_from(after)
        if touched is not None:
            groups, slots = touched
            if live_from is not None:
                live = groups[SLICE] >= live_from
                groups, slots = groups.filter(live), slots[live.to_numpy()]
                kept = [frame.filter(pl.col(SLICE) >= live_from) for frame in kept]
            if groups.height:
                frame = groups.hstack(self._save(slots))
                step.deltas.append(StateDelta(self.id, DeltaKind.UPSERT, pack([frame])))
            if any(frame.height for frame in kept):
                step.deltas.append(StateDelta(self.id, DeltaKind.APPEND, pack(kept)))
        if live_from is not None:
            gone = pl.Series(SLICE, [s for s in self._table.panes if s < live_from], dtype=pl.Int64)
            if len(gone):
                step.deltas.append(StateDelta(self.id, DeltaKind.DELETE, pack([gone.to_frame()])))

    def _drop(self, slices: Sequence[int]) -> None:
        for slice_start in slices:
            if self._shape.distinct:
                slots = self._table.slots(slice_start)
                for feed in self._shape.distinct:
                    feed.forget(slots)
            self._table.drop(slice_start)


def _marked(saved: pl.DataFrame, slots: Slots, *, pending: bool) -> pl.DataFrame:
    return saved.hstack([pl.Series(SLOT, slots), pl.Series(PENDING_COLUMN, [pending] * len(slots))])
