"""Matches of one key that have begun, and the rows that they are made of.

A match has no row left out, so it is told by its first row and by where each variable's rows begin. Rows are numbered
within their key; those before the first match that has begun are dropped.
"""

from __future__ import annotations

from typing import NamedTuple

from penstock_processor.operators.pattern.aggregates import EMPTY, Kept, added

__all__ = ["NOT_YET", "Begun", "Blocks", "KeyMatches", "Row", "block_of"]

#: (variable, number of its first row), in order; a block ends where the next one begins.
Blocks = tuple[tuple[int, int], ...]
#: Values of the columns that later rows and measures reach for; the last one is the time, epoch milliseconds.
Row = tuple[object, ...]


#: `first` of the entry that stands for matches which may begin with the next row.
NOT_YET = 2**62


class Begun(NamedTuple):
    """A match so far. `state`: of the automaton. `first`, `end`: numbers of its rows, `end` excluded."""

    state: int
    first: int
    first_ms: int
    end: int
    blocks: Blocks


class KeyMatches:
    """`open`: matches that go on, and one entry NOT_YET; `complete`: those that wait for earlier ones. Both are
    queues (`pattern.queue`).
    """

    __slots__ = ("_sums", "base", "complete", "last_ms", "open", "rows", "stored")

    def __init__(self) -> None:
        self.open: list[Begun] = []
        self.complete: list[Begun] = []
        self.rows: list[Row] = []
        self.base = 0  # number of the first of `rows`
        self.stored = 0  # rows below this number are in the log
        self.last_ms = 0
        self._sums: dict[tuple[int, int], tuple[int, Kept]] = {}

    @property
    def begun(self) -> bool:
        """Whether any match goes on."""
        return self.open[0].first != NOT_YET

    @property
    def next(self) -> int:
        """Number of the next row."""
        return self.base + len(self.rows)

    def row(self, number: int) -> Row:
        """A row that is kept."""
        return self.rows[number - self.base]

    def total(self, aggregate: int, column: int, function: str, first: int, end: int) -> Kept:
        """An aggregate over the rows from `first` to `end` (excluded); goes on from where it was asked for last."""
        known = self._sums.get((aggregate, first))
        at, kept = known if known is not None and known[0] <= end else (first, EMPTY)
        for number in range(at, end):
            kept = added(kept, self.rows[number - self.base][column], function)
        self._sums[aggregate, first] = (end, kept)
        return kept

    @property
    def first(self) -> int:
        """Number of the first row that a match needs."""
        first = min(self.open[0].first, self.next)
        return min(self.complete[0].first, first) if self.complete else first

    def trim(self) -> None:
        """Drop rows that no match needs; now and then, so that it costs little."""
        first = self.first
        gone = first - self.base
        if gone and 2 * gone >= len(self.rows):
            del self.rows[:gone]
            self.base = first
            self._sums = {key: kept for key, kept in self._sums.items() if key[1] >= first}


def block_of(first: int, end: int, blocks: Blocks, variable: int | None) -> tuple[int, int] | None:
    """Numbers of a variable's first row and of the one behind its last, in a match from `first` to `end`.

    None: the variable has none. `variable` None: all rows.
    """
    if variable is None:
        return first, end
    for owner, begin in reversed(blocks):
        if owner == variable:
            return begin, end
        end = begin
    return None
