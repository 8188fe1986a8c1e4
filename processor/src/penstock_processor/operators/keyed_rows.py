"""Rows that are kept by key and can be taken back: what joins without time bounds and rankings remember.

Rows are numbered as they come and lie in that order; indexes lead from a key, and from a whole row, to positions. A
row that goes is only marked; when the greater part is marked, the rest is moved together. So a cycle costs the rows
that it touches, amortised, and never the whole state. Positions hold until `tidy`; numbers for good.

A row can have a time to live since it was last written (processing time, epoch milliseconds): then it is invisible,
and goes with the next clearing. Deltas say what was added, what was written again, and what went.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from penstock_processor.operators.hash_index import Hashes, HashIndex, Ints

__all__ = ["COUNT", "NUMBER", "WRITTEN", "KeyedRows", "hashes_of", "pairs_of_equal"]

NUMBER = "$number"
COUNT = "$count"
WRITTEN = "$written"

#: So many dead rows are never worth moving the others together.
DEAD_MIN = 1024
_FIRST_ROOM = 1024
_NONE = np.zeros(0, np.int64)


class KeyedRows:
    """See the module. `keys`: columns; `whole`: columns by whose values rows can be found, too (`equal`).

    `counts`: a number beside each row that the owner sets (a join: its matches).
    """

    def __init__(self, keys: Sequence[str], *, whole: Sequence[str] | None = None, ttl_ms: int | None = None) -> None:
        self._keys = list(keys)
        self._ttl = ttl_ms
        self._by_key = HashIndex()
        self._whole = list(whole or ())
        self._by_row = HashIndex() if whole else None
        self._next = 0
        self._changed: dict[int, None] = {}
        self._added_from = 0
        self._gone: list[Ints] = []
        self._empty()

    def _empty(self) -> None:
        self._parts: list[pl.DataFrame] = []
        self._frame: pl.DataFrame | None = None
        self._size = 0  # positions that are used
        self._dead = 0
        self._look_again_ms: int | None = None
        self._numbers, self.counts, self._written = (np.zeros(_FIRST_ROOM, np.int64) for _ in range(3))
        self._alive = np.zeros(_FIRST_ROOM, np.bool_)

    def __len__(self) -> int:
        return self._size - self._dead

    def matches(self, keys: pl.DataFrame, now_ms: int) -> Iterator[tuple[Ints, Ints]]:
        """(row of `keys`, position) of visible rows whose key's hash is equal, in bounded portions, in no order.

        `keys` has the key columns in order, under any names; without key columns all rows have one key.
        """
        for mine, positions in self._by_key.lookup(hashes_of(keys, 1)):
            seen = self._visible(positions, now_ms)
            if seen.all():
                yield mine, positions
            elif seen.any():
                yield mine[seen], positions[seen]

    def equal(self, rows: pl.DataFrame, now_ms: int) -> tuple[Ints, Ints]:
        """(row of `rows`, position) of visible rows that are equal in the columns `whole`: one for each that has one.

        `rows` has these columns, in order. Two equal rows find two different ones, the oldest first.
        """
        assert self._by_row is not None
        hashes = hashes_of(rows, rows.height)
        found = list(self._by_row.lookup(hashes))
        if not found or self._frame is None:
            return _NONE, _NONE
        mine, positions = (np.concatenate(parts) for parts in zip(*found, strict=True))
        seen = self._visible(positions, now_ms)
        mine, positions = mine[seen], positions[seen]
        same = _same(self._frame[positions].select(rows.columns), rows[mine])
        return _one_each(hashes, mine[same], positions[same])

    def rows(self, positions: Ints) -> pl.DataFrame:
        """The rows there. There must be some rows at all."""
        assert self._frame is not None
        return self._frame[positions]

    def numbers(self, positions: Ints) -> Ints:
        """In order of arrival."""
        return self._numbers[positions]

    def alive(self, positions: Ints) -> npt.NDArray[np.bool_]:
        """Which of them have not gone."""
        return self._alive[positions]

    def added(self) -> Ints:
        """Positions of rows that were added since `tidy` and have not gone."""
        first = int(np.searchsorted(self._numbers[: self._size], self._added_from))
        found: Ints = first + np.flatnonzero(self._alive[first : self._size])
        return found

    def written(self, positions: Ints) -> Ints:
        """When rows were written."""
        return self._written[positions]

    def add(self, rows: pl.DataFrame, now_ms: int, *, written: Ints | None = None) -> Ints:
        """Keep rows; returns their positions. `written`: when each was, if not now."""
        numbers = np.arange(self._next, self._next + rows.height, dtype=np.int64)
        times = np.full(rows.height, now_ms, np.int64) if written is None else written
        return self._put(rows, numbers, np.zeros(rows.height, np.int64), times)

    def remove(self, positions: Ints) -> None:
        """Rows that go. Each once."""
        self._alive[positions] = False
        self._dead += len(positions)
        self._gone.append(self._numbers[positions])

    def write(self, positions: Ints, counts: Ints, now_ms: int) -> None:
        """Other numbers beside rows. Each position once."""
        self.counts[positions] = counts
        self._written[positions] = now_ms
        self._changed.update(dict.fromkeys(self._numbers[positions].tolist()))

    def tidy(self, now_ms: int) -> None:
        """Call it once at the end of a cycle: clears what is dead, if that is worth it; `changes` begin anew."""
        self._added_from, self._gone, self._changed = self._next, [], {}
        if self._ttl is not None and self._size and (self._look_again_ms is None or now_ms >= self._look_again_ms):
            self._expire(now_ms)
        self._clear_dead()

    def changes(self) -> list[pl.DataFrame] | None:
        """Rows added, rows written again, numbers of rows that went, since `tidy`; None if nothing changed."""
        gone, added_from = np.concatenate(self._gone) if self._gone else _NONE, self._added_from
        added = self._saved(self.added())
        written = self._places(np.array([n for n in self._changed if n < added_from], np.int64))
        old = gone[gone < added_from]
        if added.height == 0 and not len(written) and not len(old):
            return None
        again = pl.DataFrame([pl.Series(NUMBER, self._numbers[written]), pl.Series(COUNT, self.counts[written]),
                              pl.Series(WRITTEN, self._written[written])])  # fmt: skip
        return [added, again, pl.DataFrame([pl.Series(NUMBER, old)])]

    def load(self, frames: Sequence[pl.DataFrame]) -> None:
        """What `changes` or `saved` gave."""
        added, again, gone = frames
        if added.height:
            values = added.drop(NUMBER, COUNT, WRITTEN)
            self._put(values, *(added[name].to_numpy() for name in (NUMBER, COUNT, WRITTEN)))
        if again.height:
            places = self._places(again[NUMBER].to_numpy())
            self.counts[places], self._written[places] = again[COUNT].to_numpy(), again[WRITTEN].to_numpy()
        if gone.height:
            self.remove(self._places(gone[NUMBER].to_numpy()))
        self._added_from, self._gone = self._next, []
        self._clear_dead()

    def saved(self) -> list[pl.DataFrame]:
        """Everything, as `load` takes it."""
        nothing = pl.Series(NUMBER, _NONE)
        again = [nothing, pl.Series(COUNT, _NONE), pl.Series(WRITTEN, _NONE)]
        whole = self._saved(np.arange(self._size))
        return [whole, pl.DataFrame(again), pl.DataFrame([nothing])]

    def clear(self) -> None:
        """Forget everything."""
        self._by_key.clear()
        if self._by_row is not None:
            self._by_row.clear()
        self._empty()

    def _put(self, rows: pl.DataFrame, numbers: Ints, counts: Ints, written: Ints) -> Ints:
        if rows.height == 0:
            return _NONE
        self._reserve(self._size + rows.height)
        to = self._size + rows.height
        positions = np.arange(self._size, to)
        self._numbers[self._size : to], self.counts[self._size : to] = numbers, counts
        self._written[self._size : to], self._alive[self._size : to] = written, True
        self._next, self._size = int(numbers[-1]) + 1, to
        self._index(rows, positions)
        self._parts.append(rows)
        while len(self._parts) > 1 and self._parts[-2].height <= 2 * self._parts[-1].height:
            last, previous = self._parts.pop(), self._parts.pop()
            self._parts.append(pl.concat([previous, last], rechunk=True))
        self._frame = pl.concat(self._parts, rechunk=False)
        return positions

    def _index(self, rows: pl.DataFrame, positions: Ints) -> None:
        self._by_key.add(hashes_of(rows.select(self._keys), rows.height), positions)
        if self._by_row is not None:
            self._by_row.add(hashes_of(rows.select(self._whole), rows.height), positions)

    def _reserve(self, size: int) -> None:
        room = len(self._alive)
        if size <= room:
            return
        more = max(size, 2 * room) - room
        self._numbers, self.counts, self._written = (
            np.concatenate([each, np.zeros(more, np.int64)]) for each in (self._numbers, self.counts, self._written)
        )
        self._alive = np.concatenate([self._alive, np.zeros(more, np.bool_)])

    def _visible(self, positions: Ints, now_ms: int) -> npt.NDArray[np.bool_]:
        seen: npt.NDArray[np.bool_] = self._alive[positions]
        return seen if self._ttl is None else seen & (self._written[positions] > now_ms - self._ttl)

    def _places(self, numbers: Ints) -> Ints:
        """Positions of rows by number, of those that are there and alive."""
        if not self._size:
            return _NONE
        places = np.minimum(np.searchsorted(self._numbers[: self._size], numbers), self._size - 1)
        found: Ints = places[(self._numbers[places] == numbers) & self._alive[places]]
        return found

    def _saved(self, positions: Ints) -> pl.DataFrame:
        positions = positions[self._alive[positions]]
        if self._frame is None or not len(positions):
            return pl.DataFrame()
        beside = [pl.Series(NUMBER, self._numbers[positions]), pl.Series(COUNT, self.counts[positions]),
                  pl.Series(WRITTEN, self._written[positions])]  # fmt: skip
        return self._frame[positions].hstack(beside)

    def _expire(self, now_ms: int) -> None:
        """Mark what has outlived its time, and look again when half of the rest may have."""
        assert self._ttl is not None
        alive, written = self._alive[: self._size], self._written[: self._size]
        expired = alive & (written <= now_ms - self._ttl)
        alive[expired] = False
        self._dead += int(expired.sum())
        rest = written[alive]
        self._look_again_ms = now_ms + self._ttl // 2
        if len(rest):
            self._look_again_ms = int(np.partition(rest, len(rest) // 2)[len(rest) // 2]) + self._ttl

    def _clear_dead(self) -> None:
        """Move what lives together, if the greater part is dead."""
        if self._dead <= DEAD_MIN or 2 * self._dead <= self._size:
            return
        keep = np.flatnonzero(self._alive[: self._size])
        kept = None if self._frame is None else self._frame[keep]
        numbers, counts, written = self._numbers[keep], self.counts[keep], self._written[keep]
        look_again_ms = self._look_again_ms
        self.clear()
        if kept is not None and kept.height:
            following = self._next
            self._put(kept, numbers, counts, written)
            self._next = following
        self._look_again_ms = look_again_ms


def hashes_of(rows: pl.DataFrame, height: int) -> Hashes:
    """A hash of each row; without columns there are `height` equal ones."""
    if not rows.width:
        return np.zeros(height, np.uint64)
    return rows.hash_rows().to_numpy()


def pairs_of_equal(rows: pl.DataFrame, others: pl.DataFrame) -> tuple[Ints, Ints]:
    """(row, other row) of frames with equal columns: one for each row that has an equal one, each other row once."""
    hashes, index = hashes_of(rows, rows.height), HashIndex()
    index.add(hashes_of(others, others.height), np.arange(others.height))
    found = list(index.lookup(hashes))
    if not found:
        return _NONE, _NONE
    mine, theirs = (np.concatenate(parts) for parts in zip(*found, strict=True))
    same = _same(others[theirs], rows[mine])
    return _one_each(hashes, mine[same], theirs[same])


def _one_each(hashes: Hashes, mine: Ints, theirs: Ints) -> tuple[Ints, Ints]:
    """Of all pairs of equal rows those of the first with the first, the second with the second, and so on."""
    order = np.lexsort((theirs, mine))
    mine, theirs = mine[order], theirs[order]
    nth = _nth_of_run(mine) == _nth(hashes)[mine]
    return mine[nth], theirs[nth]


def _same(one: pl.DataFrame, other: pl.DataFrame) -> npt.NDArray[np.bool_]:
    """Which rows are equal, NULL with NULL too."""
    equal = np.ones(one.height, np.bool_)
    for name in one.columns:
        equal &= one[name].eq_missing(other[name]).to_numpy()
    return equal


def _nth_of_run(sorted_values: Ints | Hashes) -> Ints:
    """0, 1, 2, ... within each run of equal values."""
    if not len(sorted_values):
        return _NONE
    starts = np.flatnonzero(np.concatenate([[True], sorted_values[1:] != sorted_values[:-1]]))
    lengths = np.diff(np.append(starts, len(sorted_values)))
    return np.arange(len(sorted_values)) - np.repeat(starts, lengths)


def _nth(hashes: Hashes) -> Ints:
    """The how-many-th of its value each is, from 0."""
    order = np.argsort(hashes, kind="stable")
    found = np.empty(len(hashes), np.int64)
    found[order] = _nth_of_run(hashes[order])
    return found
