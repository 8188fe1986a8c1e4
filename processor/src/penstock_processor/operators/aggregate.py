"""Windowed aggregation with groups: TUMBLE, HOP and CUMULATE, final, also early, or also late.

State is one slot of accumulators per (slice, key). A cycle absorbs its rows (judged by the watermark before it), then
fires the windows that the watermark after it has reached. Results are ordered by window and key. Semantics: Flink,
"Window Aggregation": one result per window and key; a row is late when its last window has fired.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import polars as pl

from penstock.model.batch import PENDING_COLUMN
from penstock.ports.log import DeltaKind, StateDelta
from penstock_processor.operators.accumulators import Slots
from penstock_processor.operators.chain import Chain
from penstock_processor.operators.groups import AggregateShape, Groups
from penstock_processor.operators.lateness import on_time
from penstock_processor.operators.payload import pack, unpack
from penstock_processor.operators.step import MAX_WATERMARK, SLICE, Flow, Operator, Step
from penstock_processor.operators.window_results import SLOT, marked, results_of, told
from penstock_processor.operators.windows import Windows

__all__ = ["WindowAggregate"]

#: Slots that one query merges when HOP windows fire: bounds the memory of a watermark that jumps far ahead.
FIRESLOTS_MAX = 1_000_000


class WindowAggregate:
    """See the module. `pending`: early results also of open windows. `lateness_ms`: so long after they have fired,
    windows take rows and update what they gave."""

    def __init__(self, source: Operator, shape: AggregateShape, windows: Windows, operator: str, *,
                 pending: bool = True, lateness_ms: int = 0) -> None:  # fmt: skip
        self.id = operator
        self._source = source
        self._shape = shape
        self._windows = windows
        self._pending = pending
        self._lateness = lateness_ms
        self._groups = Groups(shape)

    def run(self, step: Step) -> Flow:
        """See `Operator`."""
        flow = self._source.run(step)
        touched: tuple[pl.DataFrame, Slots] | None = None
        kept: list[pl.DataFrame] = []
        if flow.frame is not None and flow.frame.height:
            rows = on_time(flow.frame, self._windows, flow.before, step, lateness_ms=self._lateness)
            if rows.height:
                groups, slots, kept = self._groups.absorb(rows)
                touched = groups, slots
        due = self._due(flow.before, flow.after) if step.advancing else []
        if self._shape.early is None:
            frame = self._fire(due)
        else:
            frame = self._update(self._shape.early, touched, due=due, after=flow.after, step=step)
        live_from = self._live_from(flow.after, due) if step.advancing else None
        if step.durable:
            self._record(step, touched, kept=kept, live_from=live_from)
            self._record_told(step, due, live_from=live_from)
        if live_from is not None:
            self._groups.drop([s for s in self._groups.panes if s < live_from])
        return Flow(frame, flow.before, flow.after)

    def restore(self, deltas: Sequence[StateDelta]) -> None:
        """See `Stateful`."""
        for delta in deltas:
            frames = unpack(delta.payload)
            if delta.kind is DeltaKind.DELETE:
                self._groups.drop([s for s in frames[0][SLICE].to_list() if s in self._groups.panes])
                continue
            if delta.kind is DeltaKind.REPLACE:
                self._groups.drop(list(self._groups.panes))
            if delta.kind is not DeltaKind.APPEND:
                self._groups.load(frames.pop(0))
            self._groups.learn(frames)

    def compact(self) -> StateDelta:
        """See `Stateful`."""
        frame, slots = self._groups.gather([(s, s) for s in sorted(self._groups.panes)])
        return StateDelta(self.id, DeltaKind.REPLACE, pack([frame, *self._groups.seen(frame, slots)]))

    def size(self) -> int:
        """See `Stateful`."""
        return len(self._groups)

    def _due(self, before: int | None, after: int | None) -> list[int]:
        """Numbers of the windows that fire now and hold anything, ascending."""
        panes, windows = self._groups.panes, self._windows
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

    def _live_from(self, after: int | None, due: Sequence[int]) -> int | None:
        """The first pane that a row may still come for; None while there is nothing to forget."""
        if after is None or not (due or self._lateness):
            return None
        live_from = self._windows.kept_from(after if after == MAX_WATERMARK else after - self._lateness)
        return live_from if due or any(s < live_from for s in self._groups.panes) else None

    def _fire(self, due: Sequence[int]) -> pl.DataFrame | None:
        """Results of the windows."""
        if not due:
            return None
        done = [results_of(self._shape, self._groups.by, saved) for saved in self._windows_saved(due)]
        return done[0] if len(done) == 1 else pl.concat(done)

    def _windows_saved(self, due: Sequence[int]) -> Iterable[pl.DataFrame]:
        """Saved state per window and key, in bounded portions of whole windows."""
        if not self._windows.sliced:
            yield self._groups.gather([(w, w) for w in due], shown=True)[0]
            return
        portion: list[tuple[int, int]] = []
        size = 0
        for window in due:
            held = [(window, s) for s in self._windows.slices_in(window) if s in self._groups.panes]
            portion += held
            size += sum(len(self._groups.panes[s]) for _, s in held)
            if size >= FIRESLOTS_MAX or window == due[-1]:
                saved = self._groups.gather(portion, shown=True)[0]
                yield saved.group_by(self._groups.by, maintain_order=True).agg(self._groups.merges)
                portion, size = [], 0

    def _update(self, above: Chain, touched: tuple[pl.DataFrame, Slots] | None, *, due: Sequence[int],
                after: int | None, step: Step) -> pl.DataFrame | None:  # fmt: skip
        """What changed in open windows (pending) and in those that late rows still update, and the last word on those
        that fire, as a changelog."""
        parts = []
        if touched is not None:
            groups, slots = touched
            numbers = groups[SLICE].to_numpy()
            fired = numbers < (np.iinfo(np.int64).min if after is None else self._windows.first_open(after))
            fires_now = np.isin(numbers, np.array(due, np.int64))
            for chosen, pending in ((~fired & self._pending, True), (fired & ~fires_now, False)):
                if chosen.any():
                    some = groups.filter(pl.Series(chosen))
                    saved = some.hstack(self._groups.save(slots[chosen], shown=True))
                    parts.append(marked(saved, slots[chosen], pending=pending))
        if due:
            saved, slots = self._groups.gather([(w, w) for w in due], shown=True)
            parts.append(marked(saved, slots, pending=False))
        if not parts:
            return None
        results = results_of(self._shape, self._groups.by, pl.concat(parts), SLOT, PENDING_COLUMN)
        done = above.apply(results, step)
        return None if done is None else told(done, self._groups)

    def _record(self, step: Step, touched: tuple[pl.DataFrame, Slots] | None, *, kept: Sequence[pl.DataFrame],
                live_from: int | None) -> None:  # fmt: skip
        """Deltas: slots that live on, new DISTINCT values, and slices that go (those before `live_from`)."""
        if touched is not None:
            groups, slots = touched
            if live_from is not None:
                live = groups[SLICE] >= live_from
                groups, slots = groups.filter(live), slots[live.to_numpy()]
                kept = [frame.filter(pl.col(SLICE) >= live_from) for frame in kept]
            if groups.height:
                frame = groups.hstack(self._groups.save(slots))
                step.deltas.append(StateDelta(self.id, DeltaKind.UPSERT, pack([frame])))
            if any(frame.height for frame in kept):
                step.deltas.append(StateDelta(self.id, DeltaKind.APPEND, pack(kept)))
        if live_from is not None:
            gone = pl.Series(SLICE, [s for s in self._groups.panes if s < live_from], dtype=pl.Int64)
            if len(gone):
                step.deltas.append(StateDelta(self.id, DeltaKind.DELETE, pack([gone.to_frame()])))

    def _record_told(self, step: Step, due: Sequence[int], *, live_from: int | None) -> None:
        """Deltas of windows that have fired and live on: that the target has their groups."""
        living = [w for w in due if live_from is None or w >= live_from] if self._lateness else []
        if living:
            frame, _ = self._groups.gather([(w, w) for w in living])
            step.deltas.append(StateDelta(self.id, DeltaKind.UPSERT, pack([frame])))
