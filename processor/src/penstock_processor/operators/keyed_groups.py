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
from penstock_processor.operators.collected import CollectedFeed
from penstock_processor.operators.distinct import DistinctFeed
from penstock_processor.operators.slots import SlotTable, hashable_keys, key_columns
from penstock_processor.operators.step import SLICE
from penstock_processor.operators.value_counts import ValueCounts

__all__ = ["ROWS", "KeyedGroups", "KeyedShape"]

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
        self._keys: list[Hashable] = []  # by slot
        self._used = np.zeros(0, np.int64)
        self._held = np.zeros(0, np.bool_)
        self._look_at_ms = 0
        self.by = (SLICE, *shape.key_names)

    def __len__(self) -> int:
        return len(self._table)

    def find(self, groups: pl.DataFrame) -> tuple[Slots, npt.NDArray[np.bool_]]:
        """The slots of groups, and which are new; slots of those are made, empty."""
        keys = hashable_keys([groups[name] for name in self._shape.key_names], groups.height)
        listed = list(keys)
        slots, new = self._table.find(groups[SLICE], listed)
        self._make_room()
        fresh = np.zeros(len(slots), np.bool_)
        if new:
            cleared = np.array(new, np.int64)
            for accumulator in self._all:
                accumulator.clear(cleared)
            self._held[cleared] = True
            fresh = np.isin(slots, cleared)
            for n in np.flatnonzero(fresh).tolist():
                self._keys[slots[n]] = listed[n]
        return slots, fresh

    def known(self, groups: pl.DataFrame) -> npt.NDArray[np.bool_]:
        """Which of these groups there are."""
        pane = self._table.panes.get(_PANE, {})
        keys = hashable_keys([groups[name] for name in self._shape.key_names], groups.height)
        return np.fromiter((key in pane for key in keys), np.bool_, groups.height)

    def absorb(self, rows: pl.DataFrame) -> None:
        """Rows that are brought, as `numbered`; their groups have slots."""
        grouped, slots = self._merged(rows)
        for accumulator in self._shape.accumulators:
            accumulator.absorb(slots, grouped)

    def retract(self, rows: pl.DataFrame) -> None:
        """Rows that are taken back, of groups that have slots."""
        if len(self._retracting) < len(self._shape.accumulators):
            raise TypeError("an accumulator of these groups takes nothing back")
        grouped, slots = self._merged(rows)
        for accumulator in self._retracting:
            accumulator.retract(slots, grouped)

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

    def touch(self, slots: Slots, now_ms: int) -> None:
        """These slots are in use."""
        self._used[slots] = now_ms

    def expired(self, groups: pl.DataFrame, now_ms: int) -> pl.DataFrame:
        """Those of `groups`, and now and then those of all, whose time is up; they are forgotten."""
        if not now_ms:
            return groups.clear()
        if now_ms >= self._look_at_ms:
            self._look_at_ms = now_ms + max(self._shape.ttl_ms // _LOOKS_PER_TTL, _LOOK_MS_MIN)
            slots = np.flatnonzero(self._held & (self._used <= now_ms - self._shape.ttl_ms))
            gone = self._groups([self._keys[slot] for slot in slots.tolist()])
        else:
            groups = groups.filter(pl.Series(self.known(groups)))
            slots, _ = self.find(groups)
            gone = groups.filter(pl.Series(self._used[slots] <= now_ms - self._shape.ttl_ms))
        self.forget(gone)
        return gone

    def forget(self, groups: pl.DataFrame) -> None:
        """These groups are gone, if they are there."""
        pane = self._table.panes.get(_PANE, {})
        keys = hashable_keys([groups[name] for name in self._shape.key_names], groups.height)
        slots = [slot for key in keys if (slot := pane.pop(key, None)) is not None]
        gone = np.array(slots, np.int64)
        for each in self._kept:
            each.forget(gone)
        self._held[gone] = False
        for slot in slots:
            self._keys[slot] = None
        self._table.free(slots)

    def clear(self) -> None:
        """Nothing is there any more."""
        self.forget(self._groups(list(self._table.panes.get(_PANE, {}))))

    def _merged(self, rows: pl.DataFrame) -> tuple[pl.DataFrame, Slots]:
        grouped = rows.group_by(self.by).agg(self._partials)
        return grouped, self.find(grouped)[0]

    def _groups(self, keys: Sequence[Hashable]) -> pl.DataFrame:
        panes = pl.Series(SLICE, [_PANE] * len(keys), dtype=pl.Int64)
        return pl.DataFrame([panes, *key_columns(keys, self._shape.key_names, self._shape.key_types)])

    def _make_room(self) -> None:
        room = self._table.capacity - len(self._used)
        if room > 0:
            for accumulator in self._all:
                accumulator.grow(self._table.capacity)
            self._used = np.concatenate([self._used, np.zeros(room, np.int64)])
            self._held = np.concatenate([self._held, np.zeros(room, np.bool_)])
            self._keys += [None] * room
