"""Open sessions: per key, spans of event time that are further apart than the gap. Pure bookkeeping, no rows.

A session is [first row, last row + gap). Rows exactly the gap apart are in one session, and a session ends when the
watermark reaches its end - 1 ms (Flink: "SESSION"; its documented example has rows as far apart as the gap).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

import polars as pl

from penstock_processor.operators.step import MAX_WATERMARK, SLICE

__all__ = ["LAST", "START", "Session", "Sessions", "session_bounds", "session_time"]

START, LAST = "$start", "$last"  # times of a session's first and last row, epoch milliseconds
_SLACK = 1_000  # entries of a heap that no longer hold and are not worth looking for


@dataclass(slots=True)
class Session:
    """Times of its first and last row, in epoch milliseconds."""

    key: Hashable
    start: int
    last: int


class Sessions:
    """Sessions by number. Numbers are never used twice while one that had them may be in the log."""

    def __init__(self, gap_ms: int) -> None:
        self.gap_ms = gap_ms
        self.open: dict[int, Session] = {}
        self._by_key: dict[Hashable, list[tuple[int, int]]] = {}  # (start, number), ascending
        self._ends: list[tuple[int, int]] = []  # heap of (last, number); those that no longer hold are skipped
        self._starts: list[tuple[int, int]] = []  # heap of (start, number), likewise
        self._next = 0
        self._before: dict[int, Session] = {}

    def extend(self, key: Hashable, first: int, last: int) -> tuple[int, list[int]]:
        """Rows of `key` from `first` to `last` without a longer pause: their session, and those that went into it."""
        touched = self._touched(key, first, last)
        if not touched:
            self.put(self._next, Session(key, first, last))
            return self._next - 1, []
        for each in touched:
            self._before.setdefault(each, self.open[each])
        number, *others = touched
        spans = [self.open[n] for n in touched]
        joined = Session(key, min(first, *(s.start for s in spans)), max(last, *(s.last for s in spans)))
        for other in others:
            self.remove(other)
        if joined != self.open[number]:
            self.put(number, joined)
        return number, others

    def take_before(self) -> dict[int, Session]:
        """Sessions as they were before the `extend`s since the last call, those that were there."""
        before, self._before = self._before, {}
        return before

    def put(self, number: int, session: Session) -> None:
        """Set a session: a new one, or new bounds."""
        before = self.open.get(number)
        if before is not None:
            self.remove(number)
        self.open[number] = session
        listed = self._by_key.setdefault(session.key, [])
        listed.insert(bisect_right(listed, (session.start, number)), (session.start, number))
        if before is None or before.last != session.last:
            heappush(self._ends, (session.last, number))
        if before is None or before.start != session.start:
            heappush(self._starts, (session.start, number))
        self._clean()
        self._next = max(self._next, number + 1)

    def remove(self, number: int) -> None:
        """Forget a session."""
        session = self.open.pop(number)
        listed = self._by_key[session.key]
        listed.remove((session.start, number))
        if not listed:
            del self._by_key[session.key]

    def clear(self) -> None:
        """Forget all."""
        for number in list(self.open):
            self.remove(number)
        self._ends, self._starts = [], []

    def due(self, watermark_ms: int) -> list[int]:
        """Sessions that end now, each named once."""
        found = set()
        while self._ends and self._ends[0][0] + self.gap_ms - 1 <= watermark_ms:
            last, number = heappop(self._ends)
            if number in self.open and self.open[number].last == last:
                found.add(number)
        return sorted(found)

    def is_late(self, at_ms: int, watermark_ms: int) -> bool:
        """Whether a session of this row alone would have ended."""
        return at_ms + self.gap_ms - 1 <= watermark_ms

    def accepted(self, key: Hashable, times: Sequence[int], watermark_ms: int) -> list[bool]:
        """Of rows of one key as they arrived, which count: a late one only if an open session takes it."""
        trial = Sessions(self.gap_ms)
        for start, number in self._by_key.get(key, ()):
            trial.put(number, Session(key, start, self.open[number].last))
        found = []
        for at in times:
            counts = not self.is_late(at, watermark_ms) or bool(trial._touched(key, at, at))
            if counts:
                trial.extend(key, at, at)
            found.append(counts)
        return found

    def complete_to(self, watermark_ms: int) -> int:
        """No session that starts at or before this is open, and none comes unless a late row extends an open one."""
        if watermark_ms == MAX_WATERMARK:
            return watermark_ms
        while self._starts:
            start, number = self._starts[0]
            if number in self.open and self.open[number].start == start:
                return min(start - 1, watermark_ms - self.gap_ms + 1)
            heappop(self._starts)
        return watermark_ms - self.gap_ms + 1

    def _clean(self) -> None:
        """Entries that no longer hold go: behind a session that stays open the heaps would keep them."""
        most = 2 * len(self.open) + _SLACK
        if len(self._starts) > most:
            self._starts = [(session.start, number) for number, session in self.open.items()]
            heapify(self._starts)
        if len(self._ends) > most:
            self._ends = [(session.last, number) for number, session in self.open.items()]
            heapify(self._ends)

    def _touched(self, key: Hashable, first: int, last: int) -> list[int]:
        """Sessions that rows from `first` to `last` belong to, from the latest back."""
        listed = self._by_key.get(key, [])
        found = []
        at = bisect_right(listed, last + self.gap_ms, key=lambda each: each[0])
        while at and self.open[listed[at - 1][1]].last + self.gap_ms >= first:
            at -= 1
            found.append(listed[at][1])
        return found


def session_time(time: pl.Expr) -> pl.Expr:
    """`$slice` of each row of a TIMESTAMP expression in front of a session aggregate: the time itself."""
    return time.dt.timestamp("ms").alias(SLICE)


def session_bounds(gap_ms: int) -> tuple[pl.Expr, pl.Expr]:
    """Start and end of sessions from their saved columns."""
    return pl.col(START), pl.col(LAST) + gap_ms
