"""Rows that wait until the watermark passes their time. Taking those that are due costs what is taken.

Rows lie in parts sorted by time, large old ones and small recent ones: a cycle looks into each part once, by halves.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

__all__ = ["Waiting"]


class _Part:
    def __init__(self, frame: pl.DataFrame, time: str) -> None:
        self.frame = frame.sort(time, maintain_order=True)
        self.times = self.frame[time].to_numpy()
        self.taken = 0

    def __len__(self) -> int:
        return len(self.times) - self.taken

    def rest(self) -> pl.DataFrame:
        return self.frame[self.taken :]

    def take(self, through: int) -> pl.DataFrame:
        end = int(np.searchsorted(self.times, through, side="right"))
        due = self.frame[self.taken : end]
        self.taken = max(end, self.taken)
        return due


class Waiting:
    """`time`: column of the rows' times in epoch milliseconds."""

    def __init__(self, time: str) -> None:
        self._time = time
        self._parts: list[_Part] = []

    def __len__(self) -> int:
        return sum(len(part) for part in self._parts)

    def add(self, frame: pl.DataFrame) -> None:
        """Keep rows; recent parts are merged until each is at most half of the one before it."""
        if frame.height == 0:
            return
        self._parts.append(_Part(frame, self._time))
        while len(self._parts) > 1 and len(self._parts[-2]) <= 2 * len(self._parts[-1]):
            last, previous = self._parts.pop(), self._parts.pop()
            self._parts.append(_Part(pl.concat([previous.rest(), last.rest()]), self._time))

    def take(self, through: int) -> Sequence[pl.DataFrame]:
        """Rows up to this time, which wait no longer; in no order."""
        found = [due for part in self._parts if (due := part.take(through)).height]
        self._parts = [part for part in self._parts if len(part)]
        return found

    def clear(self) -> None:
        """Forget everything."""
        self._parts = []

    def frame(self) -> pl.DataFrame | None:
        """All rows; None if there is none."""
        return pl.concat([part.rest() for part in self._parts]) if self._parts else None
