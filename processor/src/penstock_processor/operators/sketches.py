"""Approximate aggregates in memory that does not grow with the group: Apache DataSketches, one sketch a slot.

HyperLogLog counts distinct values, KLL keeps quantiles, frequent items keep heavy hitters. Saved columns are the
sketches' own bytes (BYTES), a few KB at most, and merge. The library is imported with the first sketch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from penstock_processor.operators.accumulators import Slots

__all__ = ["DistinctCount", "HeavyHitters", "Quantiles", "SketchKind", "Sketches"]

#: log2 of the registers: an error of about 1.6 % (one standard deviation) in 4 KB.
DISTINCT_LOG2_REGISTERS = 12
#: KLL's k: a rank error of about 1.3 % in about 5 KB.
QUANTILES_K = 200
#: log2 of the counters: a value with more than 0.3 % of the weight is never missed.
HITTERS_LOG2_COUNTERS = 10


class SketchKind(Protocol):
    """What a sketch does; one is a value of the library, of which nothing is known here."""

    def values(self, column: pl.Expr) -> pl.Expr:
        """Values of a batch that it has to see: no NULL."""
        ...

    def made(self) -> Any:
        """An empty sketch."""
        ...

    def add(self, sketch: Any, values: pl.Series) -> None:
        """Let it see values."""
        ...

    def merged(self, sketches: Sequence[Any]) -> Any:
        """One sketch of what all have seen."""
        ...

    def dump(self, sketch: Any) -> bytes:
        """Its bytes."""
        ...

    def load(self, dumped: bytes) -> Any:
        """The inverse of `dump`."""
        ...


class DistinctCount:
    """HyperLogLog."""

    suffix = "h"  # of the saved column

    def values(self, column: pl.Expr) -> pl.Expr:
        """See `SketchKind`: each once."""
        return column.drop_nulls().unique()

    def made(self) -> Any:
        """See `SketchKind`."""
        return _library().hll_sketch(DISTINCT_LOG2_REGISTERS)

    def add(self, sketch: Any, values: pl.Series) -> None:
        """See `SketchKind`. What is no number goes by its text."""
        listed = values.to_list() if values.dtype.is_integer() or values.dtype.is_float() else _texts(values)
        for value in listed:
            sketch.update(value)

    def merged(self, sketches: Sequence[Any]) -> Any:
        """See `SketchKind`."""
        union = _library().hll_union(DISTINCT_LOG2_REGISTERS)
        for sketch in sketches:
            union.update(sketch)
        return union.get_result(_library().tgt_hll_type.HLL_8)

    def dump(self, sketch: Any) -> bytes:
        """See `SketchKind`."""
        return bytes(sketch.serialize_updatable())

    def load(self, dumped: bytes) -> Any:
        """See `SketchKind`."""
        return _library().hll_sketch.deserialize(dumped)

    def count(self, column: pl.Expr) -> pl.Expr:
        """The estimate of saved sketches; 0 of none."""

        def counts(dumped: pl.Series) -> pl.Series:
            found = [0 if each is None else round(self.load(each).get_estimate()) for each in dumped.to_list()]
            return pl.Series(dumped.name, found, dtype=pl.Int64)

        return column.map_batches(counts, return_dtype=pl.Int64, is_elementwise=True)


class Quantiles:
    """KLL over DOUBLE. NaN is no value."""

    suffix = "k"

    def values(self, column: pl.Expr) -> pl.Expr:
        """See `SketchKind`."""
        return column.drop_nulls().drop_nans()

    def made(self) -> Any:
        """See `SketchKind`."""
        return _library().kll_doubles_sketch(QUANTILES_K)

    def add(self, sketch: Any, values: pl.Series) -> None:
        """See `SketchKind`."""
        sketch.update(values.to_numpy(writable=True))

    def merged(self, sketches: Sequence[Any]) -> Any:
        """See `SketchKind`."""
        made = self.made()
        for sketch in sketches:
            made.merge(sketch)
        return made

    def dump(self, sketch: Any) -> bytes:
        """See `SketchKind`."""
        return bytes(sketch.serialize())

    def load(self, dumped: bytes) -> Any:
        """See `SketchKind`."""
        return _library().kll_doubles_sketch.deserialize(dumped)

    def quantile(self, column: pl.Expr, share: float) -> pl.Expr:
        """The value of saved sketches that `share` (0 to 1) of all values do not exceed; NULL of none."""

        def quantiles(dumped: pl.Series) -> pl.Series:
            sketches = [None if each is None else self.load(each) for each in dumped.to_list()]
            found = [None if s is None or s.is_empty() else s.get_quantile(share, True) for s in sketches]
            return pl.Series(dumped.name, found, dtype=pl.Float64)

        return column.map_batches(quantiles, return_dtype=pl.Float64, is_elementwise=True)


class HeavyHitters:
    """Frequent items over the texts of values."""

    suffix = "f"

    def values(self, column: pl.Expr) -> pl.Expr:
        """See `SketchKind`."""
        return column.drop_nulls()

    def made(self) -> Any:
        """See `SketchKind`."""
        return _library().frequent_strings_sketch(HITTERS_LOG2_COUNTERS)

    def add(self, sketch: Any, values: pl.Series) -> None:
        """See `SketchKind`."""
        counted = values.value_counts(sort=True)
        for value, count in zip(_texts(counted[values.name]), counted["count"].to_list(), strict=True):
            sketch.update(value, count)

    def merged(self, sketches: Sequence[Any]) -> Any:
        """See `SketchKind`."""
        made = self.made()
        for sketch in sketches:
            made.merge(sketch)
        return made

    def dump(self, sketch: Any) -> bytes:
        """See `SketchKind`."""
        return bytes(sketch.serialize())

    def load(self, dumped: bytes) -> Any:
        """See `SketchKind`."""
        return _library().frequent_strings_sketch.deserialize(dumped)

    def hitters(self, dumped: bytes, most: int) -> list[tuple[str, int]]:
        """At most `most` values with their estimated counts, the greatest count first, then by value."""
        kind = _library().frequent_items_error_type.NO_FALSE_NEGATIVES
        found = [(value, estimate) for value, estimate, _, _ in self.load(dumped).get_frequent_items(kind)]
        return sorted(found, key=lambda each: (-each[1], each[0]))[:most]

    def top(self, column: pl.Expr, most: int, dtype: pl.DataType) -> pl.Expr:
        """`hitters` of saved sketches as lists of structs `value` (of `dtype`) and `count`; NULL of none."""
        wanted = pl.List(pl.Struct({"value": dtype, "count": pl.Int64()}))

        def tops(dumped: pl.Series) -> pl.Series:
            found = [None if each is None else self.hitters(each, most) for each in dumped.to_list()]
            texts = [None if each is None else [value for value, _ in each] for each in found]
            values = [None if each is None else _of_texts(each, dtype) for each in texts]
            rows = [
                None
                if each is None
                else [{"value": v, "count": c} for v, (_, c) in zip(own or [], each, strict=True)]
                for own, each in zip(values, found, strict=True)
            ]
            return pl.Series(dumped.name, rows, dtype=wanted)

        return column.map_batches(tops, return_dtype=wanted, is_elementwise=True)


class Sketches:
    """An `Accumulator` of one sketch a slot; `name` is its bytes, NULL while it has seen nothing."""

    def __init__(self, name: str, column: str, kind: SketchKind) -> None:
        self._name, self._kind = name, kind
        self.partials = [kind.values(pl.col(column)).implode().alias(name)]

        def merged(saved: Sequence[pl.Series]) -> bytes | None:
            known = [kind.load(each) for each in saved[0].drop_nulls().to_list()]
            return kind.dump(kind.merged(known)) if known else None

        self.merges = [pl.map_groups([pl.col(name)], merged, return_dtype=pl.Binary, returns_scalar=True).alias(name)]
        self._sketches: npt.NDArray[Any] = np.zeros(0, object)

    def grow(self, capacity: int) -> None:
        """See `Accumulator`."""
        self._sketches = np.concatenate([self._sketches, np.full(capacity - len(self._sketches), None, object)])

    def clear(self, slots: Slots) -> None:
        """See `Accumulator`."""
        self._sketches[slots] = None

    def absorb(self, slots: Slots, grouped: pl.DataFrame) -> None:
        """See `Accumulator`."""
        for slot, values in zip(slots.tolist(), grouped[self._name], strict=True):
            if len(values):
                if self._sketches[slot] is None:
                    self._sketches[slot] = self._kind.made()
                self._kind.add(self._sketches[slot], values)

    def save(self, slots: Slots) -> list[pl.Series]:
        """See `Accumulator`."""
        dumped = [None if each is None else self._kind.dump(each) for each in self._sketches[slots].tolist()]
        return [pl.Series(self._name, dumped, dtype=pl.Binary)]

    def load(self, slots: Slots, saved: pl.DataFrame) -> None:
        """See `Accumulator`."""
        for slot, dumped in zip(slots.tolist(), saved[self._name].to_list(), strict=True):
            self._sketches[slot] = None if dumped is None else self._kind.load(dumped)


def _texts(values: pl.Series) -> list[str]:
    if values.dtype == pl.Binary:
        return [value.hex() for value in values.to_list()]
    return values.cast(pl.String).to_list()


def _of_texts(texts: list[str], dtype: pl.DataType) -> list[Any]:
    """The inverse of `_texts`."""
    if dtype == pl.Binary:
        return [bytes.fromhex(text) for text in texts]
    return pl.Series(texts, dtype=pl.String).cast(dtype).to_list()


def _library() -> Any:
    import datasketches  # type: ignore[import-untyped]  # it has no stubs; most apps need no sketch

    return datasketches
