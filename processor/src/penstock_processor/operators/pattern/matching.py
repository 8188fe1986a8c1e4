"""One row after the other of one key: matches that have begun go on or end, and those that are complete are told.

What Flink's library for complex events does (NFA and AfterMatchSkipStrategy): all matches that may begin are followed
at once; a complete one is told as soon as no earlier one may still be complete, and then removes those that begin
before the row at which the next one may begin.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from penstock_processor.operators.pattern.automaton import FINAL, Automaton
from penstock_processor.operators.pattern.begun import Begun, Blocks, KeyMatches

__all__ = ["Asked", "Bounds", "Found", "Matching", "Resume"]

#: Asked for a variable: does it take the row? Raises whatever refuses the row.
Asked = Callable[[int, KeyMatches, int, int, Blocks], bool]
#: Number of the first row at which the next match may begin; None: there is none behind the match's first row.
Resume = Callable[[Begun], int | None]


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
    """`asked(variable, key, first, number, blocks)` is about the row with the number `key.next`."""

    def __init__(self, automaton: Automaton, asked: Asked, resume: Resume, bounds: Bounds) -> None:
        self._automaton = automaton
        self._asked = asked
        self._resume = resume
        self._bounds = bounds

    def take(self, key: KeyMatches, at_ms: int, *, may_start: bool) -> list[Begun]:
        """Matches that the next row makes complete; those that go on are in `key.open` then.

        Nothing has changed if the row is refused. `may_start`: the row may be the first of a match.
        """
        number = key.next
        go_on: list[Begun] = []
        ended: list[Begun] = []
        for run in key.open:
            self._follow(key, run, number, go_on=go_on, ended=ended)
        if may_start:
            start = Begun(self._automaton.start, number, at_ms, number, ())
            self._follow(key, start, number, go_on=go_on, ended=ended)
        key.open = go_on
        return ended

    def tell(self, key: KeyMatches, ended: Sequence[Begun], at_ms: int, found: list[Found]) -> None:
        """Add complete matches, and move those that can be told to `found`."""
        for match in ended:
            if all(match.first != other.first for other in key.complete):
                key.complete.append(match)
        if ended:
            key.complete.sort(key=lambda each: each.first)
            firsts = {match.first for match in key.complete}
            key.open = [run for run in key.open if run.first not in firsts]  # they would go with that match
        while key.complete and (not key.open or key.complete[0].first <= key.open[0].first):
            match = key.complete.pop(0)
            resumed = self._resume(match)
            found.append(Found(match, at_ms, resumed is not None))
            first = match.first + 1 if resumed is None else resumed
            key.open = [run for run in key.open if run.first >= first]
            key.complete = [other for other in key.complete if other.first >= first]

    def expire(self, key: KeyMatches, at_ms: int, found: list[Found]) -> None:
        """Event time is `at_ms`: what takes too long ends, and what waited for it is told."""
        within, ttl = self._bounds.within_ms, self._bounds.ttl_ms
        while within is not None and key.open and at_ms - key.open[0].first_ms >= within:
            ends_ms = key.open[0].first_ms + within
            key.open = [run for run in key.open if run.first_ms + within > ends_ms]
            self.tell(key, (), ends_ms, found)
        if ttl is not None and key.open and at_ms - key.last_ms >= ttl:
            key.open = []
            self.tell(key, (), key.last_ms + ttl, found)

    def due_ms(self, key: KeyMatches) -> int | None:
        """When `expire` has something to do next."""
        if not key.open:
            return None
        within, ttl = self._bounds.within_ms, self._bounds.ttl_ms
        dues = [] if within is None else [key.open[0].first_ms + within]
        dues += [] if ttl is None else [key.last_ms + ttl]
        return min(dues, default=None)

    def cut(self, key: KeyMatches) -> int:
        """Give up the earliest matches beyond the bounds; how many."""
        if not key.open:
            return 0
        too_many = max(0, len(key.open) - self._bounds.matches_max)
        kept = [run for run in key.open[too_many:] if run.end - run.first < self._bounds.rows_max]
        given_up = len(key.open) - len(kept)
        key.open = kept
        return given_up

    def _follow(self, key: KeyMatches, run: Begun, number: int, *, go_on: list[Begun], ended: list[Begun]) -> None:
        known: dict[int, bool] = {}

        def holds(variable: int) -> bool:
            answer = known.get(variable)
            if answer is None:
                answer = known[variable] = self._asked(variable, key, run.first, number, run.blocks)
            return answer

        for move in self._automaton.moves[run.state]:
            variable = move.variable
            if not holds(variable) or (move.unless and any(map(holds, move.unless))):
                continue
            blocks = run.blocks
            if not blocks or blocks[-1][0] != variable:
                blocks = (*blocks, (variable, number))
            if move.target == FINAL:
                ended.append(Begun(FINAL, run.first, run.first_ms, number + 1, blocks))
                continue
            go_on.append(Begun(move.target, run.first, run.first_ms, number + 1, blocks))
            if any(not any(map(holds, unless)) for unless in move.finals):
                ended.append(Begun(FINAL, run.first, run.first_ms, number + 1, blocks))
