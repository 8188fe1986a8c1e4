"""Windows as their definition says, from rows alone: what engines of window functions are compared with.

A row is (partition, key, number, time in ms), a step a list of rows. Lateness is judged row by row by the watermark
before the step: the least over partitions of the greatest time, less the lag.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

__all__ = ["Expected", "Row", "aligned", "cumulate", "hop", "sessions", "steps_of", "tumble", "watermarks"]

Row = tuple[int, str | None, int | None, int]
#: What a group ends with, sorted: (key, start, end, rows, sum of the numbers, different numbers, greatest number)
Group = tuple[str | None, int, int, int, int | None, int, int | None]
Bounds = tuple[int, int]
Expected = tuple[list[Group], int]  # groups and the number of late rows

END = 2**62


def tumble(size: int, offset: int = 0) -> Callable[[int], list[Bounds]]:
    """The window of a time."""
    return hop(size, size, offset)


def hop(slide: int, size: int, offset: int = 0) -> Callable[[int], list[Bounds]]:
    """All windows that begin at offset + k * slide and hold the time, each tried."""

    def windows(at: int) -> list[Bounds]:
        near = at // slide
        reach = size // slide + abs(offset) // slide + 2
        starts = [offset + k * slide for k in range(near - reach, near + reach + 1)]
        return [(start, start + size) for start in starts if start <= at < start + size]

    return windows


def cumulate(step: int, size: int, offset: int = 0) -> Callable[[int], list[Bounds]]:
    """From the start of the whole window, one window more for each step."""
    whole = tumble(size, offset)

    def windows(at: int) -> list[Bounds]:
        ((start, end),) = whole(at)
        return [(start, part) for part in range(start + step, end + 1, step) if at < part]

    return windows


def aligned(windows: Callable[[int], list[Bounds]], steps: Sequence[Sequence[Row]], *, lag: int, partitions: int
            ) -> Expected:  # fmt: skip
    """Groups by key of windows that do not depend on other rows."""
    groups: dict[tuple[str | None, int, int], list[int | None]] = {}
    late = 0
    for rows, watermark in zip(steps, watermarks(steps, lag=lag, partitions=partitions), strict=True):
        for _, key, number, at in rows:
            held = windows(at)
            still_open = [(start, end) for start, end in held if end - 1 > watermark]
            late += bool(held) and not still_open
            for start, end in still_open:
                groups.setdefault((key, start, end), []).append(number)
    return sorted((summary(key, start, end, each) for (key, start, end), each in groups.items()), key=repr), late


def sessions(gap: int, steps: Sequence[Sequence[Row]], *, lag: int, partitions: int, by_key: bool = True) -> Expected:
    """Groups by key of sessions of each key (or of all rows): row by row as they arrive, merged with what is open."""
    open_: list[list[Row]] = []
    ended: list[list[Row]] = []
    late = 0
    marks = watermarks(steps, lag=lag, partitions=partitions)
    for rows, watermark in [*zip(steps, marks, strict=True), ([], END)]:
        ended += [each for each in open_ if _last(each) + gap - 1 <= watermark]
        open_ = [each for each in open_ if _last(each) + gap - 1 > watermark]
        for row in sorted(rows, key=lambda each: each[0]):  # partition after partition, as an engine reads them
            near = [each for each in open_ if not by_key or each[0][1] == row[1]]
            near = [each for each in near if min(r[3] for r in each) - gap <= row[3] <= _last(each) + gap]
            if not near and row[3] + gap - 1 <= watermark:
                late += 1
                continue
            open_ = [each for each in open_ if each not in near] + [[row, *(r for each in near for r in each)]]
    found = []
    for each in ended:
        start, end = min(r[3] for r in each), _last(each) + gap
        for key in {r[1] for r in each}:
            found.append(summary(key, start, end, [r[2] for r in each if r[1] == key]))
    return sorted(found, key=repr), late


def _last(session: Sequence[Row]) -> int:
    return max(row[3] for row in session)


def watermarks(steps: Sequence[Sequence[Row]], *, lag: int, partitions: int) -> list[int]:
    """The watermark before each step."""
    greatest = dict.fromkeys(range(partitions), -END)
    found = []
    for rows in steps:
        found.append(min(greatest.values()))
        for partition, _, _, at in rows:
            greatest[partition] = max(greatest[partition], at - lag)
    return found


def summary(key: str | None, start: int, end: int, numbers: Sequence[int | None]) -> Group:
    """The group's row."""
    known = [n for n in numbers if n is not None]
    return key, start, end, len(numbers), sum(known) if known else None, len(set(known)), max(known, default=None)


def steps_of(chance: random.Random, *, partitions: int, tick: int, rows: int = 60) -> list[list[Row]]:
    """Rows whose time goes on, out of order within and across partitions, some of them late; cut at random."""
    steps: list[list[Row]] = [[]]
    clock = chance.choice([-40, 0, 1_000]) * tick
    for _ in range(rows):
        if chance.random() < 0.25:
            steps.append([])
        clock += chance.choice([0, 0, 1, 1, 2, 9]) * tick
        at = clock - chance.choice([0, 0, 0, 1, 2, 5, 12, 40]) * tick + chance.choice([0, 0, -1, 1])
        number = chance.choice([None, *range(-3, 6)])
        steps[-1].append((chance.randrange(partitions), chance.choice(["a", "b", "c", None]), number, at))
    return steps
