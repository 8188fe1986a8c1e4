"""MATCH_RECOGNIZE read plainly: from each row on, every way to share out the rows that follow, by trial and error."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

__all__ = ["Item", "Row", "matches"]


@dataclass(frozen=True)
class Row:
    """`number` tells rows apart; `value` may be NULL."""

    number: int
    value: int | None
    at_ms: int


@dataclass(frozen=True)
class Item:
    """A variable: `least` to `most` rows, for which `condition(row, rows so far of the match)` is true.

    `greedy`: a row that it could take is not the first one of what follows.
    """

    least: int
    most: int | None
    greedy: bool
    condition: Callable[[Row, Sequence[Row]], bool]


def matches(
    rows: Sequence[Row], pattern: Sequence[Item], *, within_ms: int, past_last: bool
) -> list[tuple[int, int]]:
    """(first, last) row numbers of the matches of one key, whose rows are in order."""
    found = []
    start = 0
    while start < len(rows):
        ends = [end for end in _ends(rows, start, pattern) if rows[end - 1].at_ms - rows[start].at_ms < within_ms]
        if ends:
            found.append((rows[start].number, rows[min(ends) - 1].number))
        start = min(ends) if ends and past_last else start + 1
    return found


def _ends(rows: Sequence[Row], start: int, pattern: Sequence[Item]) -> Iterator[int]:
    """Where matches that begin at `start` may end: the place behind the last row."""

    def go(at: int, item: int, taken: int) -> Iterator[int]:
        if item == len(pattern):
            if at > start:
                yield at
            return
        here = pattern[item]
        if taken >= here.least:
            yield from go(at, item + 1, 0)
        if at == len(rows) or (here.most is not None and taken >= here.most):
            return
        row, before = rows[at], rows[start:at]
        if not here.condition(row, before):
            return
        if taken == 0 and item and pattern[item - 1].greedy and pattern[item - 1].condition(row, before):
            return
        yield from go(at + 1, item, taken + 1)

    return go(start, 0, 0)
