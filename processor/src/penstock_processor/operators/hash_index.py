"""Which rows have a key: hash -> positions, in sorted arrays, large old ones and small recent ones.

Adding a batch costs the batch (and now and then a merge: sizes grow geometrically); looking one up costs a binary
search per row and array. Nothing costs the whole index. Equal hashes are candidates: the caller compares keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["PAIRS_MAX", "HashIndex", "Hashes", "Ints"]

#: Candidates from which on a turn of a lookup ends: bounds the memory of a key with very many rows.
PAIRS_MAX = 500_000

Hashes = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Run:
    hashes: Hashes  # ascending
    positions: Ints


class HashIndex:
    """See the module."""

    def __init__(self) -> None:
        self._runs: list[_Run] = []

    def add(self, hashes: Hashes, positions: Ints) -> None:
        """Know these; merge recent runs until each is at most half of the one before it."""
        if not len(hashes):
            return
        self._runs.append(_sorted(hashes, positions))
        while len(self._runs) > 1 and len(self._runs[-2].hashes) <= 2 * len(self._runs[-1].hashes):
            last, previous = self._runs.pop(), self._runs.pop()
            self._runs.append(_sorted(np.concatenate([previous.hashes, last.hashes]),
                                      np.concatenate([previous.positions, last.positions])))  # fmt: skip

    def lookup(self, hashes: Hashes) -> Iterator[tuple[Ints, Ints]]:
        """(number of the probe, position) of equal hashes, in bounded portions, in no order."""
        order = np.argsort(hashes, kind="stable")
        wanted = hashes[order]
        found: list[tuple[Ints, Ints]] = []
        size = 0
        for run in self._runs:
            first = np.searchsorted(run.hashes, wanted, side="left")
            hit = np.flatnonzero(run.hashes[np.minimum(first, len(run.hashes) - 1)] == wanted)
            if not len(hit):
                continue
            first = first[hit]
            counts = np.searchsorted(run.hashes, wanted[hit], side="right") - first
            for mine, there in _spread(first, counts):
                found.append((order[hit[mine]], run.positions[there]))
                size += len(mine)
                if size >= PAIRS_MAX:
                    yield _together(found)
                    found, size = [], 0
        if found:
            yield _together(found)

    def clear(self) -> None:
        """Forget everything."""
        self._runs = []


def _together(found: list[tuple[Ints, Ints]]) -> tuple[Ints, Ints]:
    if len(found) == 1:
        return found[0]
    return np.concatenate([probe for probe, _ in found]), np.concatenate([there for _, there in found])


def _sorted(hashes: Hashes, positions: Ints) -> _Run:
    # Two ascending runs one behind the other: this sort merges them in one pass.
    order = np.argsort(hashes, kind="stable")
    return _Run(hashes[order], positions[order])


def _spread(first: Ints, counts: Ints) -> Iterator[tuple[Ints, Ints]]:
    """(number of the range, place in it) for ranges that start at `first` and are `counts` long."""
    ends = np.cumsum(counts)
    at = 0
    while at < len(first):
        before = int(ends[at - 1]) if at else 0
        to = max(at + 1, int(np.searchsorted(ends, before + PAIRS_MAX, side="right")))
        size = counts[at:to]
        mine = np.repeat(np.arange(at, to), size)
        steps = np.arange(len(mine)) - np.repeat(np.cumsum(size) - size, size)
        yield mine, first[mine] + steps
        at = to
