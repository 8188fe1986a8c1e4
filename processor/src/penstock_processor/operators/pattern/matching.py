"""One row after the other of one key: matches that have begun go on or end, and those that are complete are told.

What Flink's library for complex events does (NFA and AfterMatchSkipStrategy): all matches that may begin are followed
at once; a complete one is told as soon as no earlier one may still be complete, and then removes those that begin
before the row at which the next one may begin.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from penstock_processor.operators.pattern.automaton import FINAL, Automaton
from penstock_processor.operators.pattern.begun import NOT_YET, Begun, Blocks, KeyMatches
from penstock_processor.operators.pattern.queue import added, polled, put, removed

__all__ = ["Asked", "Bounds", "Found", "Matching", "Resume"]

#: Number of the first row at which the next match may begin; None: there is none behind the match's first row.
Resume = Callable[[Begun], int | None]


class Asked(Protocol):
    """Does a variable take the row numbered `number`, behind a match so far? Raises whatever refuses the row."""

    def __call__(self, variable: int, /, key: KeyMatches, first: int, number: int, blocks: Blocks) -> bool:
        """See the class."""
        ...


@dataclass(frozen=True, slots=True)
class Bounds:
    """`within_ms`: what a match takes from its first row is less. `ttl_ms`: silence after which a key is forgotten.

    At most `matches_max` matches of a key go on, with at most `rows_max` rows each.
    """

    within_ms: int | None
    ttl_ms: int | None
    matches_max: int
    rows_max: int


@dataclass(frozen=True, slots=True)
class Found:
    """A complete match, told at `at_ms` of event time. `resumes` false: there is no row to go on from."""

    match: Begun
    at_ms: int
    resumes: bool


class Matching:
    """What becomes of the matches of a key; `asked` is about the row with the number `key.next`."""

    def __init__(self, automaton: Automaton, asked: Asked, resume: Resume, bounds: Bounds) -> None:
        self._automaton = automaton
        self._asked = asked
        self._resume = resume
        self._bounds = bounds

    def take(self, key: KeyMatches, at_ms: int, *, may_start: bool) -> list[Begun]:
        """Matches that the next row makes complete; those that go on are in `key.open` then.

        Nothing has changed if the row is refused. `may_start`: the row may be the first of a match.
        """
        number = key.base + len(key.rows)
        go_on: list[Begun] = []
        ended: list[Begun] = []
        for run in key.open:
            if run.first != NOT_YET:
                self._follow(key, run, number, go_on=go_on, ended=ended)
                continue
            if may_start:
                start = Begun(run.state, number, at_ms, number, ())
                self._follow(key, start, number, go_on=go_on, ended=ended)
            put(go_on, run)
        key.open = go_on
        return ended

    def begin(self, key: KeyMatches) -> None:
        """A key of which nothing has begun."""
        key.open = [Begun(self._automaton.start, NOT_YET, 0, 0, ())]

    def tell(self, key: KeyMatches, ended: Sequence[Begun], at_ms: int, found: list[Found]) -> None:
        """Add complete matches, and move those that can be told to `found`."""
        added(key.complete, ended)
        while key.complete and key.complete[0].first <= key.open[0].first:
            match = polled(key.complete)
            resumed = self._resume(match)
            found.append(Found(match, at_ms, resumed is not None))
            first = match.first + 1 if resumed is None else resumed
            key.open, key.complete = removed(key.open, first), removed(key.complete, first)

    def may_expire(self, key: KeyMatches, at_ms: int) -> bool:
        """Whether `expire` is worth a look."""
        within, ttl = self._bounds.within_ms, self._bounds.ttl_ms
        if within is not None and at_ms - key.open[0].first_ms >= within:
            return True
        return ttl is not None and at_ms - key.last_ms >= ttl

    def expire(self, key: KeyMatches, at_ms: int, found: list[Found]) -> None:
        """Event time is `at_ms`: what takes too long ends, and what waited for it is told."""
        within, ttl = self._bounds.within_ms, self._bounds.ttl_ms
        while within is not None and key.begun and at_ms - key.open[0].first_ms >= within:
            last_ms = key.open[0].first_ms
            key.open = added([], [run for run in key.open if run.first == NOT_YET or run.first_ms > last_ms])
            self.tell(key, (), last_ms + within, found)
        if ttl is not None and key.begun and at_ms - key.last_ms >= ttl:
            self.begin(key)
            self.tell(key, (), key.last_ms + ttl, found)

    def due_ms(self, key: KeyMatches) -> int | None:
        """When `expire` has something to do next."""
        if not key.begun:
            return None
        within, ttl = self._bounds.within_ms, self._bounds.ttl_ms
        dues = [] if within is None else [key.open[0].first_ms + within]
        dues += [] if ttl is None else [key.last_ms + ttl]
        return min(dues, default=None)

    def cut(self, key: KeyMatches) -> int:
        """Give up the earliest matches beyond the bounds; how many."""
        bounds = self._bounds
        if (
            len(key.open) + len(key.complete) <= bounds.matches_max + 1
            and key.next - key.open[0].first < bounds.rows_max
        ):
            return 0
        runs = sorted((run for run in key.open if run.first != NOT_YET), key=lambda run: run.first)
        too_many = max(0, len(runs) + len(key.complete) - bounds.matches_max)
        kept = [run for run in runs[too_many:] if run.end - run.first < bounds.rows_max]
        self.begin(key)
        added(key.open, kept)
        return len(runs) - len(kept)

    def _follow(self, key: KeyMatches, run: Begun, number: int, *, go_on: list[Begun], ended: list[Begun]) -> None:
        state, first, first_ms, _, blocks = run
        holds: Callable[[int], bool] = partial(self._asked, key=key, first=first, number=number, blocks=blocks)
        if self._automaton.asks_twice[state]:
            holds = _remembering(holds)
        for variable, unless, target, finals in self._automaton.moves[state]:
            if not holds(variable) or (unless and any(map(holds, unless))):
                continue
            taken = blocks if blocks and blocks[-1][0] == variable else (*blocks, (variable, number))
            if target == FINAL:
                put(ended, Begun(FINAL, first, first_ms, number + 1, taken))
                continue
            put(go_on, Begun(target, first, first_ms, number + 1, taken))
            if finals and any(not any(map(holds, path)) for path in finals):
                put(ended, Begun(FINAL, first, first_ms, number + 1, taken))


def _remembering(holds: Callable[[int], bool]) -> Callable[[int], bool]:
    """The same, each variable asked once."""
    known: dict[int, bool] = {}

    def remembered(variable: int) -> bool:
        answer = known.get(variable)
        if answer is None:
            answer = known[variable] = holds(variable)
        return answer

    return remembered
