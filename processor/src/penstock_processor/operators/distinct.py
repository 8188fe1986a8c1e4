"""DISTINCT inside an aggregate call: lets each value of a group through once, to accumulators of its own."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from penstock.model.types import DataType
from penstock_processor.operators.accumulators import Accumulator, Slots
from penstock_processor.operators.slots import SlotTable, hashable_keys, key_columns
from penstock_processor.operators.step import SLICE

__all__ = ["DistinctFeed"]

_SLOT = "$slot"


class DistinctFeed:
    """Values seen per slot. `column` holds the argument; NULL is not a value."""

    def __init__(self, column: str, data_type: DataType, *, keys: Sequence[str], accumulators: Sequence[Accumulator]
                 ) -> None:  # fmt: skip
        self.column = column
        self._type = data_type
        self.accumulators = tuple(accumulators)
        self._keys = tuple(keys)
        self._partials = [partial for each in accumulators for partial in each.partials]
        self._seen: dict[int, set[Hashable]] = {}

    def absorb(self, rows: pl.DataFrame, table: SlotTable) -> pl.DataFrame:
        """Feed what is new and return it (slice, keys, value): what has to be kept. The groups have slots already."""
        values = rows.select(SLICE, *self._keys, self.column).drop_nulls(self.column).unique(maintain_order=True)
        slots, fresh = self._learn(values, table)
        if not fresh.any():
            return values.clear()
        values = values.filter(pl.Series(fresh))
        grouped = (
            values.with_columns(pl.Series(_SLOT, slots[fresh]))
            .group_by(_SLOT, maintain_order=True)
            .agg(self._partials)
        )
        for accumulator in self.accumulators:
            accumulator.absorb(grouped[_SLOT].to_numpy(), grouped)
        return values

    def merge(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Take the values of slots into others; the first ones are free then."""
        slots: list[int] = []
        values: list[Hashable] = []
        for source, target in zip(sources, targets, strict=True):
            known = self._seen.setdefault(target, set())
            new = self._seen.pop(source, set()) - known
            known |= new
            values += new
            slots += [target] * len(new)
        if not values:
            return
        columns = key_columns(values, [self.column], [self._type])
        grouped = (
            pl.DataFrame([pl.Series(_SLOT, slots, dtype=pl.Int64), *columns]).group_by(_SLOT).agg(self._partials)
        )
        for accumulator in self.accumulators:
            accumulator.absorb(grouped[_SLOT].to_numpy(), grouped)

    def load(self, values: pl.DataFrame, table: SlotTable) -> None:
        """Learn values that were kept; the accumulators are loaded by themselves."""
        self._learn(values, table)

    def save(self, keys: pl.DataFrame, slots: Slots) -> pl.DataFrame:
        """Everything seen in these slots; row i of `keys` (slice, keys) is slot `slots[i]`."""
        sets = [self._seen.get(slot, set()) for slot in slots.tolist()]
        rows = np.repeat(np.arange(len(sets)), [len(seen) for seen in sets])
        values: list[Hashable] = [value for seen in sets for value in seen]
        return keys[rows].hstack(key_columns(values, [self.column], [self._type]))

    def forget(self, slots: Slots) -> None:
        """These slots are free."""
        for slot in slots.tolist():
            self._seen.pop(slot, None)

    def _learn(self, values: pl.DataFrame, table: SlotTable) -> tuple[Slots, npt.NDArray[np.bool_]]:
        keys = hashable_keys([values[name] for name in self._keys], values.height)
        slots, _ = table.find(values[SLICE], keys)
        fresh = np.zeros(values.height, np.bool_)
        pairs = zip(slots.tolist(), hashable_keys([values[self.column]], values.height), strict=True)
        for n, (slot, value) in enumerate(pairs):
            seen = self._seen.setdefault(slot, set())
            if value not in seen:
                seen.add(value)
                fresh[n] = True
        return slots, fresh
