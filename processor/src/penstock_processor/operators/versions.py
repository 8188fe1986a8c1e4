"""Versions of rows by key and time: which one was valid at a time, and which are no longer needed.

Rows lie in segments sorted by (key, time, arrival), a few large old ones and small recent ones, as in `segments`.
Keys are numbered when they are first seen. Finding costs a binary search per row and segment. When segments are
merged, versions that the watermark has left behind go, but for the last one of each key.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from penstock_processor.operators.slots import hashable_keys

__all__ = ["UNKNOWN", "VersionTable"]

UNKNOWN = -1  # number of a key of which there is no version
_LEAST = np.iinfo(np.int64).min

Ints = npt.NDArray[np.int64]


class _Part:
    """Versions sorted by (key, time, arrival)."""

    def __init__(self, frame: pl.DataFrame, keys: Ints, times: Ints, numbers: Ints) -> None:
        order = np.lexsort((numbers, times, keys))
        self.frame = frame[order]
        self.keys, self.times, self.numbers = keys[order], times[order], numbers[order]

    def __len__(self) -> int:
        return len(self.keys)

    def last_at(self, keys: Ints, times: Ints) -> Ints:
        """Row of the last version of each key at or before its time; -1 if there is none."""
        first = np.searchsorted(self.keys, keys, side="left")
        low, high = first.copy(), np.searchsorted(self.keys, keys, side="right")
        while (open_ := low < high).any():
            middle = (low + high) // 2
            later = open_ & (self.times[np.minimum(middle, len(self) - 1)] <= times)
            low = np.where(later, middle + 1, low)
            high = np.where(open_ & ~later, middle, high)
        return np.where(low > first, low - 1, -1)

    def needed(self, watermark_ms: int) -> npt.NDArray[np.bool_]:
        """All versions but those that another one follows which the watermark has reached, too."""
        followed = np.zeros(len(self), np.bool_)
        followed[:-1] = (self.keys[:-1] == self.keys[1:]) & (self.times[1:] <= watermark_ms)
        return ~followed


class VersionTable:
    """See the module. `keys`, `time`, `number`: columns of the key, of the begin (ms) and of the order of arrival.

    `in_order`: a version that begins before an earlier arrival of its key does not count.
    """

    def __init__(self, keys: Sequence[str], *, time: str, number: str, in_order: bool) -> None:
        self._keys, self._time, self._number = list(keys), time, number
        self._in_order = in_order
        self._known: dict[Hashable, int] = {}
        self._newest: Ints = np.zeros(0, np.int64)  # by key: the begin of its last version
        self._parts: list[_Part] = []
        self._watermark = _LEAST

    def __len__(self) -> int:
        return sum(len(part) for part in self._parts)

    def numbers_of(self, frame: pl.DataFrame, columns: Sequence[str]) -> Ints:
        """The number of each row's key; UNKNOWN also where a part of it is NULL."""
        found = map(self._known.get, self._hashed(frame, columns))
        numbers = np.array([UNKNOWN if each is None else each for each in found], np.int64)
        whole = frame.select(pl.all_horizontal(pl.col(list(columns)).is_not_null())).to_series().to_numpy()
        return np.where(whole, numbers, UNKNOWN)

    def add(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Learn versions in the order of their arrival (without NULL in their keys); returns those that count."""
        if frame.height == 0:
            return frame
        keys = np.array([self._known.setdefault(key, len(self._known)) for key in self._hashed(frame, self._keys)])
        times: Ints = frame[self._time].to_numpy()
        if self._in_order:
            counts = self._in_time(keys, times)
            frame, keys, times = frame.filter(pl.Series(counts)), keys[counts], times[counts]
        if frame.height:
            self._parts.append(_Part(frame, keys, times, frame[self._number].to_numpy()))
            while len(self._parts) > 1 and len(self._parts[-2]) <= 2 * len(self._parts[-1]):
                self._merge()
        return frame

    def pass_to(self, watermark_ms: int) -> None:
        """No time at or before this will be asked for any more."""
        self._watermark = max(self._watermark, watermark_ms)

    def find(self, keys: Ints, times: Ints) -> tuple[Ints, pl.DataFrame | None]:
        """Of these (key, time) the places that have a version, ascending, and the versions in that order."""
        begin, arrived = np.full(len(keys), _LEAST), np.full(len(keys), -1)
        where, row = np.full(len(keys), -1), np.zeros(len(keys), np.int64)
        for number, part in enumerate(self._parts):
            found = part.last_at(keys, times)
            at, by = part.times[found], part.numbers[found]
            better = (found >= 0) & ((at > begin) | ((at == begin) & (by > arrived)))
            begin, arrived = np.where(better, at, begin), np.where(better, by, arrived)
            where, row = np.where(better, number, where), np.where(better, found, row)
        has = np.flatnonzero(where >= 0)
        if not len(has):
            return has, None
        used = np.unique(where[has]).tolist()
        frames = [self._parts[number].frame[row[has[where[has] == number]]] for number in used]
        places = np.concatenate([np.flatnonzero(where[has] == number) for number in used])
        return has, pl.concat(frames)[np.argsort(places)]

    def frame(self) -> pl.DataFrame:
        """All versions that may be needed, in the order of their arrival."""
        parts = [part.frame.filter(pl.Series(part.needed(self._watermark))) for part in self._parts]
        return pl.concat(parts).sort(self._number) if parts else pl.DataFrame()

    def clear(self) -> None:
        """Forget everything."""
        self._known.clear()
        self._newest = np.zeros(0, np.int64)
        self._parts = []

    def _hashed(self, frame: pl.DataFrame, columns: Sequence[str]) -> Sequence[Hashable]:
        return list(hashable_keys([frame[name] for name in columns], frame.height))

    def _in_time(self, keys: Ints, times: Ints) -> npt.NDArray[np.bool_]:
        """Which versions are not older than those of their key before them; notes the newest."""
        grown = np.full(len(self._known), _LEAST)
        grown[: len(self._newest)] = self._newest
        self._newest = grown
        so_far = pl.DataFrame({"k": keys, "t": np.maximum(times, grown[keys])})
        greatest = so_far.select(pl.col("t").cum_max().over("k")).to_series().to_numpy()
        np.maximum.at(grown, keys, times)
        return times >= greatest

    def _merge(self) -> None:
        last, previous = self._parts.pop(), self._parts.pop()
        both = _Part(
            pl.concat([previous.frame, last.frame]),
            np.concatenate([previous.keys, last.keys]),
            np.concatenate([previous.times, last.times]),
            np.concatenate([previous.numbers, last.numbers]),
        )
        needed = both.needed(self._watermark)
        if not needed.all():
            kept = both.frame.filter(pl.Series(needed))
            both = _Part(kept, both.keys[needed], both.times[needed], both.numbers[needed])
        self._parts.append(both)
