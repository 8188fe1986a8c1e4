"""Rows that later frames may hold: segments sorted by key and order, large old ones and small recent ones.

Keys are numbers. Each row has its time and its place among the rows of its key. What a frame takes of a segment is
one range of it, found by two binary searches; what calls need of a segment is made once for it. Adding a batch costs
the batch (and now and then a merge), asking costs the rows asked for: nothing costs the whole state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import polars as pl

from penstock_processor.operators.over_calls import OverCall
from penstock_processor.operators.ranges import Ints, RangeTree, first_reaching

__all__ = ["OverSegment", "OverSegments"]

Alive = Callable[["OverSegment"], npt.NDArray[np.bool_]]


class OverSegment:
    """Rows sorted by key number, then in their order. `times` and `places`: of each row."""

    def __init__(self, rows: pl.DataFrame, keys: Ints, times: Ints, places: Ints) -> None:
        self.rows, self.keys, self.times, self.places = rows, keys, times, places
        self._trees: dict[str, RangeTree] = {}

    def __len__(self) -> int:
        return len(self.keys)

    def ranges(self, keys: Ints) -> tuple[Ints, Ints]:
        """The rows of each key: [first, last)."""
        first = np.searchsorted(self.keys, keys, side="left").astype(np.int64)
        return first, np.searchsorted(self.keys, keys, side="right").astype(np.int64)

    def since(self, keys: Ints, times: Ints) -> tuple[Ints, Ints]:
        """Of each key, the rows from a time on."""
        first, last = self.ranges(keys)
        return first_reaching(self.times, first, last, times), last

    def from_place(self, keys: Ints, places: Ints) -> tuple[Ints, Ints]:
        """Of each key, the rows from a place on."""
        first, last = self.ranges(keys)
        return first_reaching(self.places, first, last, places), last

    def values(self, call: OverCall, first: Ints, last: Ints) -> pl.Series:
        """The call's value for each range of rows."""
        if call.name not in self._trees:
            self._trees[call.name] = call.tree(self.rows)
        return call.over(self.rows, self._trees[call.name], first, last)

    def kept(self, rows: npt.NDArray[np.bool_]) -> OverSegment:
        """Some of the rows."""
        return OverSegment(self.rows.filter(pl.Series(rows)), self.keys[rows], self.times[rows], self.places[rows])


class OverSegments:
    """Segments, the oldest first; of a key, an older one has older rows. `alive`: which rows frames may hold."""

    def __init__(self, alive: Alive) -> None:
        self._alive = alive
        self._parts: list[OverSegment] = []

    def __iter__(self) -> Iterator[OverSegment]:
        return iter(self._parts)

    def __len__(self) -> int:
        return sum(len(part) for part in self._parts)

    def add(self, segment: OverSegment) -> None:
        """Keep rows; merge recent segments, without their dead rows, until each is at most half of the one before."""
        if not len(segment):
            return
        self._parts.append(segment)
        while len(self._parts) > 1 and len(self._parts[-2]) <= 2 * len(self._parts[-1]):
            newer, older = self._parts.pop(), self._parts.pop()
            self._parts.append(self._merged([older, newer]))

    def clean(self, most: int) -> None:
        """Let go of dead rows if there are more than `most` rows."""
        if len(self) > most and self._parts:
            merged = self._merged(self._parts)
            self._parts = [merged] if len(merged) else []

    def clear(self) -> None:
        """Forget everything."""
        self._parts = []

    def merged(self) -> OverSegment | None:
        """All rows that live, in one segment; None if there is none."""
        merged = self._merged(self._parts) if self._parts else None
        return merged if merged is not None and len(merged) else None

    def _merged(self, parts: list[OverSegment]) -> OverSegment:
        living = [part.kept(self._alive(part)) for part in parts]
        keys = np.concatenate([part.keys for part in living])
        order = np.argsort(keys, kind="stable")  # the older rows of a key stay in front
        rows = pl.concat([part.rows for part in living])
        times = np.concatenate([part.times for part in living])
        places = np.concatenate([part.places for part in living])
        return OverSegment(rows[order], keys[order], times[order], places[order])
