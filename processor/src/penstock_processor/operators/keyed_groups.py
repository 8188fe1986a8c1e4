"""Groups without a window: accumulators in slots by key, each with the time of its last use.

A group that no row has touched for the time to live is as if it had never been; its slot is cleared when the key
comes again, or by a look over all slots now and then. What a slot holds leaves and comes as saved columns, always
whole values.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from penstock.model.types import DataType
from penstock_processor.operators.accumulators import Accumulator, Retracting, Slots
from penstock_processor.operators.arrival import Arrival, numbered
from penstock_processor.operators.changes import kept
from penstock_processor.operators.collected import CollectedFeed
from penstock_processor.operators.distinct import DistinctFeed
from penstock_processor.operators.slots import SlotTable, hashable_keys, key_columns
from penstock_processor.operators.step import SLICE
from penstock_processor.operators.value_counts import ValueCounts

__all__ = ["ROWS", "KeyedGroups", "KeyedShape", "Marks"]

Marks = npt.NDArray[np.bool_]

ROWS = "$rows"  # saved: the number of rows of a group
_USED = "$used"  # saved: when a group was last touched, epoch milliseconds
_PANE = 0  # all groups are in one pane of the slots
#: How often in a time to live all slots are looked over, and at most how often at all.
_LOOKS_PER_TTL, _LOOK_MS_MIN = 8, 1000


@dataclass(frozen=True, slots=True)
class KeyedShape:
    """What is grouped and how. Input columns: `$slice` (always 0), `key_names`, the arguments of `accumulators`.

    `outputs` are over the keys and saved columns, aliased to the node's fields. `values`: arguments of which each
    value is kept, for calls that cannot take a row back otherwise; `feeds` the same where nothing is taken back.
    """

    key_names: tuple[str, ...]
    key_types: tuple[DataType, ...]
    accumulators: tuple[Accumulator, ...]
    feeds: tuple[DistinctFeed | CollectedFeed, ...]
    values: tuple[ValueCounts, ...]
    outputs: tuple[pl.Expr, ...]
    ttl_ms: int


class KeyedGroups:
    """See the module. `groups` are frames with `by`, a row per slot of the slots beside them."""

    def __init__(self, shape: KeyedShape) -> None:
        self._shape = shape
        self._partials = [partial for each in shape.accumulators for partial in each.partials]
        self._kept = (*shape.feeds, *shape.values)
        fed = [each for feed in self._kept if not isinstance(feed, CollectedFeed) for each in feed.accumulators]
        self._all = (*shape.accumulators, *fed)
        self._collected = [feed for feed in shape.feeds if isinstance(feed, CollectedFeed)]
        self._by_arrival = bool(self._collected) or any(isinstance(each, Arrival) for each in self._all)
        self._retracting = [each for each in shape.accumulators if isinstance(each, Retracting)]
        self._table = SlotTable()
        self._used = np.zeros(0, np.int64)
        self._look_at_ms = 0
        self.by = (SLICE, *shape.key_names)

    def __len__(self) -> int:
        return len(self._table)

    def combined(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Rows, as `numbered`, by group: what `absorb` and `retract` read."""
        return rows.group_by(self.by, maintain_order=True).agg(self._partials)

    def open(self, groups: pl.DataFrame, now_ms: int) -> tuple[Slots, Marks, pl.DataFrame]:
        """The slots of groups, which of them are new, and those that are new because their time was up.

        New groups are empty. All are in use now.
        """
        slots, new = self.find(groups)
        late = ~new & (self._used[slots] <= now_ms - self._shape.ttl_ms) if now_ms else np.zeros(len(slots), np.bool_)
        if late.any():
            self._empty(slots[late])
        self._used[slots] = now_ms
        return slots, new | late, kept(groups, late)

    def find(self, groups: pl.DataFrame) -> tuple[Slots, Marks]:
        """The slots of groups, and which are new; slots of those are made, empty."""
        keys = hashable_keys([groups[name] for name in self._shape.key_names], groups.height)
        slots, new = self._table.find(groups[SLICE], keys)
        self._make_room()
        if not new:
            return slots, np.zeros(len(slots), np.bool_)
        made = np.array(new, np.int64)
        for accumulator in self._all:
            accumulator.clear(made)
        return slots, np.ones(len(slots), np.bool_) if len(made) == len(slots) else np.isin(slots, made)

    def absorb(self, slots: Slots, combined: pl.DataFrame) -> None:
        """Rows that are brought, to these slots."""
        for accumulator in self._shape.accumulators:
            accumulator.absorb(slots, combined)

    def retract(self, slots: Slots, combined: pl.DataFrame) -> None:
        """Rows that are taken back."""
        if len(self._retracting) < len(self._shape.accumulators):
            raise TypeError("an accumulator of these groups takes nothing back")
        for accumulator in self._retracting:
            accumulator.retract(slots, combined)

    def feed(self, brought: pl.DataFrame, taken: pl.DataFrame | None) -> list[pl.DataFrame]:
        """The values of these rows for what keeps values. Returns what has to be kept of them."""
        kept = [each.absorb(brought, self._table) for each in self._shape.feeds]
        return kept + [each.change(brought, taken, self._table) for each in self._shape.values]

    def numbered(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows with the order in which they are, if any call goes by it."""
        return numbered(rows) if self._by_arrival else rows

    def save(self, slots: Slots) -> list[pl.Series]:
        """What `outputs` read of slots."""
        columns = [column for accumulator in self._all for column in accumulator.save(slots)]
        columns += [column for each in self._collected for column in each.shown(slots)]
        return [*columns, *(column for each in self._shape.values for column in each.extremes(slots))]

    def state(self, groups: pl.DataFrame, slots: Slots) -> pl.DataFrame:
        """What a delta has to hold of groups, but for kept values."""
        columns = [column for accumulator in self._all for column in accumulator.save(slots)]
        return groups.hstack([*columns, pl.Series(_USED, self._used[slots])])

    def load(self, saved: pl.DataFrame) -> None:
        """Set groups to what `state` gave."""
        slots, _ = self.find(saved)
        for accumulator in self._all:
            accumulator.load(slots, saved)
        self._used[slots] = saved[_USED].to_numpy()

    def learn(self, frames: Iterable[pl.DataFrame]) -> None:
        """Values that `feed` or `kept_values` gave; the groups have slots."""
        for frame in frames:
            for each in self._kept:
                if each.column in frame.columns:
                    each.load(frame, self._table)

    def everything(self) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
        """The state of all groups, and all values that are kept."""
        pane = self._table.panes.get(_PANE, {})
        slots = np.fromiter(pane.values(), np.int64, len(pane))
        groups = self._groups(list(pane))
        kept = [each.save(groups, slots) for each in self._kept]
        return self.state(groups, slots), kept

    def expired(self, now_ms: int) -> pl.DataFrame:
        """Now and then: groups whose time is up; they are forgotten."""
        if not now_ms or now_ms < self._look_at_ms:
            return self._groups([])
        self._look_at_ms = now_ms + max(self._shape.ttl_ms // _LOOKS_PER_TTL, _LOOK_MS_MIN)
        pane = self._table.panes.get(_PANE, {})
        slots = np.fromiter(pane.values(), np.int64, len(pane))
        late = (self._used[slots] <= now_ms - self._shape.ttl_ms).tolist()
        gone = self._groups([key for key, is_late in zip(pane, late, strict=True) if is_late])
        self.forget(gone)
        return gone

    def forget(self, groups: pl.DataFrame) -> None:
        """These groups are gone, if they are there."""
        if not groups.height:
            return
        pane = self._table.panes.get(_PANE, {})
        keys = hashable_keys([groups[name] for name in self._shape.key_names], groups.height)
        slots = [slot for key in keys if (slot := pane.pop(key, None)) is not None]
        for each in self._kept:
            each.forget(np.array(slots, np.int64))
        self._table.free(slots)

    def clear(self) -> None:
        """Nothing is there any more."""
        self.forget(self._groups(list(self._table.panes.get(_PANE, {}))))

    def _empty(self, slots: Slots) -> None:
        for accumulator in self._all:
            accumulator.clear(slots)
        for each in self._kept:
            each.forget(slots)

    def _groups(self, keys: Sequence[Hashable]) -> pl.DataFrame:
        panes = pl.Series(SLICE, [_PANE] * len(keys), dtype=pl.Int64)
        return pl.DataFrame([panes, *key_columns(keys, self._shape.key_names, self._shape.key_types)])

    def _make_room(self) -> None:
        room = self._table.capacity - len(self._used)
        if room > 0:
            for accumulator in self._all:
                accumulator.grow(self._table.capacity)
            self._used = np.concatenate([self._used, np.zeros(room, np.int64)])
