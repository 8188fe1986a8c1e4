"""Rows that wait until the watermark has passed their time, and then come in order of time.

Frames sorted by time, large old ones and small recent ones: adding a batch costs the batch (and now and then a
merge), releasing costs what is released. Rows of equal time come as they arrived.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

__all__ = ["AwaitedRows"]


class AwaitedRows:
    """`time`: the column that rows are sorted by, Int64."""

    def __init__(self, time: str) -> None:
        self._time = time
        self._parts: list[pl.DataFrame] = []  # in the order of arrival, each sorted by time

    def __len__(self) -> int:
        return sum(part.height for part in self._parts)

    def add(self, rows: pl.DataFrame) -> None:
        """Rows in the order of their arrival."""
        if rows.height:
            self._parts.append(rows.sort(self._time, maintain_order=True))
        while len(self._parts) > 1 and self._parts[-2].height <= 2 * self._parts[-1].height:
            self._parts[-2:] = [pl.concat(self._parts[-2:]).sort(self._time, maintain_order=True)]

    def release(self, through: int, more: Sequence[pl.DataFrame] = ()) -> pl.DataFrame | None:
        """Rows up to this time, which are forgotten, and `more` that need not wait; None: no rows."""
        found, rest = [], []
        for part in self._parts:
            count = int(part[self._time].search_sorted(through, side="right"))
            if count:
                found.append(part[:count])
            if count < part.height:
                rest.append(part[count:])
        self._parts = rest
        found += [rows for rows in more if rows.height]
        return pl.concat(found).sort(self._time, maintain_order=True) if found else None

    def clear(self) -> None:
        """Forget everything."""
        self._parts = []

    def frame(self) -> pl.DataFrame | None:
        """All rows; None if there is none."""
        return pl.concat(self._parts) if self._parts else None
