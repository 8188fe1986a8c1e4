"""Groups of a windowed aggregate: accumulators in slots, by pane (a slice, a window, a session) and key.

Frames carry the pane's number as `$slice`. What a slot holds leaves and comes as saved columns, always whole values.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from penstock.model.types import DataType
from penstock_processor.operators.accumulators import Accumulator, Slots
from penstock_processor.operators.arrival import Arrival, numbered
from penstock_processor.operators.chain import LAZY_FROM_ROWS, Chain
from penstock_processor.operators.collected import CollectedFeed
from penstock_processor.operators.distinct import DistinctFeed
from penstock_processor.operators.slots import SlotTable, hashable_keys, key_columns
from penstock_processor.operators.step import SLICE

__all__ = ["AggregateShape", "Groups"]

_INTO = "$into"
_VISIBLE = "$visible"  # saved: whether the target has a row of the slot


@dataclass(frozen=True, slots=True)
class AggregateShape:
    """What is grouped and how. Input columns: `$slice`, `key_names`, and the arguments that `accumulators` read.

    `outputs` are over `$slice`, the keys and saved columns, aliased to the node's fields. `early`: the stateless
    chain from here to the sink; with it the operator also emits while windows are open, as a changelog. `combined`:
    the input is what PartialAggregateOperators made of the rows. `collected`: calls that need all values of a group;
    their results are columns beside the saved ones where groups are `shown`.
    """

    key_names: tuple[str, ...]
    key_types: tuple[DataType, ...]
    accumulators: tuple[Accumulator, ...]
    distinct: tuple[DistinctFeed, ...]
    outputs: tuple[pl.Expr, ...]
    early: Chain | None = None
    combined: bool = False
    collected: tuple[CollectedFeed, ...] = ()


class Groups:
    """See the module. `visible`: per slot, whether an early result of it was told and not taken back."""

    def __init__(self, shape: AggregateShape) -> None:
        self._shape = shape
        self._partials = [
            partial
            for each in shape.accumulators
            for partial in (each.merges[:1] if shape.combined else each.partials)  # a part has no rounding error
        ]
        self._all = (*shape.accumulators, *(a for feed in shape.distinct for a in feed.accumulators))
        self._feeds: tuple[DistinctFeed | CollectedFeed, ...] = (*shape.distinct, *shape.collected)
        self._by_arrival = bool(shape.collected) or any(isinstance(each, Arrival) for each in self._all)
        self._table = SlotTable()
        self._room = 0
        self.by = (SLICE, *shape.key_names)
        self.merges = [merge for accumulator in self._all for merge in accumulator.merges]
        self.merges += [pl.col(result.name).first() for feed in shape.collected for result in feed.results]
        self.visible = np.zeros(0, np.bool_)

    def __len__(self) -> int:
        return len(self._table)

    @property
    def panes(self) -> dict[int, dict[Hashable, int]]:
        """Pane -> key -> slot."""
        return self._table.panes

    def numbered(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows with the order in which they are now as that of their arrival, if any call goes by it."""
        return numbered(rows) if self._by_arrival else rows

    def absorb(self, rows: pl.DataFrame) -> tuple[pl.DataFrame, Slots, list[pl.DataFrame]]:
        """Merge rows into their slots. Returns the groups touched, their slots, and what feeds have to keep."""
        rows = self.numbered(rows)
        if rows.height < LAZY_FROM_ROWS:
            grouped = rows.group_by(self.by).agg(self._partials)
        else:
            grouped = rows.lazy().group_by(self.by).agg(self._partials).collect()
        slots = self._find(grouped)
        for accumulator in self._shape.accumulators:
            accumulator.absorb(slots, grouped)
        kept = [feed.absorb(rows, self._table) for feed in self._feeds]
        return grouped[list(self.by)], slots, kept

    def gather(self, parts: Sequence[tuple[int, int]], *, shown: bool = False) -> tuple[pl.DataFrame, Slots]:
        """Saved state of panes and its slots, given as (number to show as `$slice`, pane); `shown` as in `save`."""
        found = [self._table.slots(pane) for _, pane in parts]
        keys: list[Hashable] = [key for _, pane in parts for key in self.panes[pane]]
        slots = np.concatenate(found) if found else np.zeros(0, np.int64)
        numbers = np.repeat(np.array([w for w, _ in parts], np.int64), [len(f) for f in found])
        columns = key_columns(keys, self._shape.key_names, self._shape.key_types)
        return pl.DataFrame([pl.Series(SLICE, numbers), *columns, *self.save(slots, shown=shown)]), slots

    def save(self, slots: Slots, *, shown: bool = False) -> list[pl.Series]:
        """Saved columns of slots; `shown`: also the results over collected values."""
        columns = [column for accumulator in self._all for column in accumulator.save(slots)]
        if shown:
            columns += [column for feed in self._shape.collected for column in feed.shown(slots)]
        if self._shape.early is not None:
            columns.append(pl.Series(_VISIBLE, self.visible[slots]))
        return columns

    def load(self, saved: pl.DataFrame) -> None:
        """Set groups (a frame with `by` and saved columns) to what was saved."""
        slots = self._find(saved)
        for accumulator in self._all:
            accumulator.load(slots, saved)
        if self._shape.early is not None:
            self.visible[slots] = saved[_VISIBLE].to_numpy()

    def seen(self, groups: pl.DataFrame, slots: Slots) -> list[pl.DataFrame]:
        """All values that feeds keep of these groups."""
        keys = groups.select(self.by)
        return [feed.save(keys, slots) for feed in self._feeds]

    def learn(self, frames: Iterable[pl.DataFrame]) -> None:
        """Values that feeds kept; the accumulators are loaded by themselves."""
        for frame in frames:
            for feed in self._feeds:
                if feed.column in frame.columns:
                    feed.load(frame, self._table)

    def merge(self, panes: Iterable[tuple[int, int]]) -> None:
        """Move the groups of the first of each pair of panes into the second."""
        sources: list[int] = []
        targets: list[int] = []
        for source, target in panes:
            for slot, taken in self._table.move(source, target):
                sources.append(slot)
                targets.append(taken)
        if not sources:
            return
        both = np.array([*dict.fromkeys(targets), *sources], np.int64)
        ends = pl.Series(_INTO, [*dict.fromkeys(targets), *targets], dtype=pl.Int64)
        plain = self._shape.accumulators
        saved = pl.DataFrame([ends, *(column for each in plain for column in each.save(both))])
        merged = saved.group_by(_INTO, maintain_order=True).agg(m for each in plain for m in each.merges)
        for accumulator in plain:
            accumulator.load(merged[_INTO].to_numpy(), merged)
        for feed in self._feeds:
            feed.merge(sources, targets)
        self._table.free(sources)

    def drop(self, panes: Iterable[int]) -> None:
        """Forget panes; their slots are free."""
        for pane in panes:
            if self._feeds:
                slots = self._table.slots(pane)
                for feed in self._feeds:
                    feed.forget(slots)
            self._table.drop(pane)

    def _find(self, groups: pl.DataFrame) -> Slots:
        keys = hashable_keys([groups[name] for name in self._shape.key_names], groups.height)
        slots, new = self._table.find(groups[SLICE], keys)
        if self._table.capacity > self._room:
            self._room = self._table.capacity
            for accumulator in self._all:
                accumulator.grow(self._room)
            self.visible = np.concatenate([self.visible, np.zeros(self._room - len(self.visible), np.bool_)])
        if new:
            cleared = np.array(new, np.int64)
            for accumulator in self._all:
                accumulator.clear(cleared)
            self.visible[cleared] = False
        return slots
