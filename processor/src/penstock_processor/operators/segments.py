"""Rows that wait for their match: segments sorted by the hash of their keys, large old ones and small recent ones.

Adding a batch costs the batch (and now and then a merge: sizes grow geometrically); looking a batch up costs two
binary searches per row and segment. Nothing costs the whole state.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

__all__ = ["PAIRS_MAX", "Segment", "Segments"]

#: Candidate pairs that one probe puts side by side: bounds the memory of a key with very many rows.
PAIRS_MAX = 500_000

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


class Segment:
    """Rows sorted by key hash. `time`, `expiry`: names of columns in epoch milliseconds.

    `matched`: which rows have found a match so far; the arrays are in the order of `frame` here, and of the given
    frame in the constructor.
    """

    def __init__(self, frame: pl.DataFrame, *, keys: Sequence[str], time: str, expiry: str,
                 matched: Flags | None = None) -> None:  # fmt: skip
        hashes = frame.select(keys).hash_rows().to_numpy()
        order = np.argsort(hashes, kind="stable")
        self.frame = frame[order]
        self.hashes = hashes[order]
        self.matched: Flags = np.zeros(len(order), np.bool_) if matched is None else matched[order]
        self.times: Ints = self.frame[time].to_numpy()
        self.expiries: Ints = self.frame[expiry].to_numpy()
        self._expiry_order = np.argsort(self.expiries, kind="stable")
        self._by_expiry: Ints = self.expiries[self._expiry_order]

    def __len__(self) -> int:
        return len(self.hashes)

    def dead(self, watermark_ms: int) -> int:
        """Rows that nothing on time can match any more."""
        return int(np.searchsorted(self._by_expiry, watermark_ms, side="right"))

    def due(self, before_ms: int | None, after_ms: int) -> Ints:
        """Numbers of the rows that die as the watermark moves from one to the other."""
        first = 0 if before_ms is None else self.dead(before_ms)
        return self._expiry_order[first : max(first, self.dead(after_ms))]

    def overlaps(self, first_ms: int, last_ms: int) -> bool:
        """Whether any row's time may lie in [first, last]."""
        return bool(len(self)) and int(self.times.min()) <= last_ms and int(self.times.max()) >= first_ms

    def pairs(self, other: Segment) -> Iterator[tuple[Ints, Ints]]:
        """Row numbers (here, in `other`) with equal hashes, in bounded portions."""
        first = np.searchsorted(other.hashes, self.hashes, side="left")
        counts = np.searchsorted(other.hashes, self.hashes, side="right") - first
        rows = np.flatnonzero(counts)
        first, counts = first[rows], counts[rows]
        ends = np.cumsum(counts)
        at = 0
        while at < len(rows):
            before = int(ends[at - 1]) if at else 0
            to = max(at + 1, int(np.searchsorted(ends, before + PAIRS_MAX, side="right")))
            size = counts[at:to]
            mine = np.repeat(rows[at:to], size)
            steps = np.arange(len(mine)) - np.repeat(np.cumsum(size) - size, size)
            yield mine, np.repeat(first[at:to], size) + steps
            at = to


class Segments:
    """One side of a join. `expiry`: once the watermark has reached it, a row is invisible, and goes in time."""

    def __init__(self, *, keys: Sequence[str], time: str, expiry: str) -> None:
        self._keys, self._time, self._expiry = tuple(keys), time, expiry
        self._parts: list[Segment] = []

    def __iter__(self) -> Iterator[Segment]:
        return iter(self._parts)

    def __len__(self) -> int:
        return sum(len(part) for part in self._parts)

    def make(self, frame: pl.DataFrame, matched: Flags | None = None) -> Segment:
        """A segment of new rows (not added)."""
        return Segment(frame, keys=self._keys, time=self._time, expiry=self._expiry, matched=matched)

    def add(self, frame: pl.DataFrame, matched: Flags | None = None) -> None:
        """Keep rows; merge recent segments until each is at most half of the one before it."""
        self._parts.append(self.make(frame, matched))
        while len(self._parts) > 1 and len(self._parts[-2]) <= 2 * len(self._parts[-1]):
            last, previous = self._parts.pop(), self._parts.pop()
            both = np.concatenate([previous.matched, last.matched])
            self._parts.append(self.make(pl.concat([previous.frame, last.frame]), both))

    def purge(self, watermark_ms: int) -> None:
        """Let go of segments that are dead for the greater part."""
        kept = []
        for part in self._parts:
            dead = part.dead(watermark_ms)
            if 2 * dead > len(part):
                alive = part.expiries > watermark_ms
                part = self.make(part.frame.filter(pl.Series(alive)), part.matched[alive])
            if len(part):
                kept.append(part)
        self._parts = kept

    def clear(self) -> None:
        """Forget everything."""
        self._parts = []

    def frame(self) -> pl.DataFrame | None:
        """All rows; None if there is none."""
        return pl.concat([part.frame for part in self._parts]) if self._parts else None
