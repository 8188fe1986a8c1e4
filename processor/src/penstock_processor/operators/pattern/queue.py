"""Matches in order of their first row, as the queue that Flink keeps them in: `java.util.PriorityQueue`.

Several matches of one first row may be complete at once; the queue decides which of them is told. So its order among
equals is part of the result: it is a heap in a list, with Java's rules for putting in, taking out and removing.
"""

from __future__ import annotations

from collections.abc import Iterable

from penstock_processor.operators.pattern.begun import Begun

__all__ = ["added", "polled", "put", "removed"]


def added(heap: list[Begun], new: Iterable[Begun]) -> list[Begun]:
    """`heap` with `new` put in one after the other."""
    for each in new:
        put(heap, each)
    return heap


def put(heap: list[Begun], new: Begun) -> None:
    """Put one in."""
    at = len(heap)
    heap.append(new)
    while at:
        above = (at - 1) >> 1
        if new.first >= heap[above].first:
            return
        heap[at] = heap[above]
        heap[above] = new
        at = above


def polled(heap: list[Begun]) -> Begun:
    """Take out the first one."""
    first, last = heap[0], heap.pop()
    if heap:
        _sift_down(heap, 0, last)
    return first


def removed(heap: list[Begun], before: int) -> list[Begun]:
    """The queue without those whose first row is before this one; the same list if there is none."""
    kept = [each for each in heap if each.first >= before]
    if len(kept) == len(heap):
        return heap
    for at in range((len(kept) >> 1) - 1, -1, -1):
        _sift_down(kept, at, kept[at])
    return kept


def _sift_down(heap: list[Begun], at: int, moved: Begun) -> None:
    size = len(heap)
    while at < size >> 1:
        below = 2 * at + 1
        if below + 1 < size and heap[below].first > heap[below + 1].first:
            below += 1
        if moved.first <= heap[below].first:
            break
        heap[at] = heap[below]
        at = below
    heap[at] = moved
