"""The automaton of a pattern: which variables may take the next row of a match that has come so far.

Its states are those that Flink makes of a pattern ("Pattern Recognition", and its library for complex events): each
variable is one state for each row that it must or may take, and one that repeats where there is no upper limit. From
a state a row is taken, or the state is passed where what is left of the variable is optional. Greedy: whatever leaves
the variable holds only for rows that it does not take itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["FINAL", "Automaton", "Move", "Quantified"]

FINAL = 0  # number of the state of complete matches


@dataclass(frozen=True, slots=True)
class Quantified:
    """A variable of a pattern: `least` to `most` rows (None: no limit)."""

    least: int
    most: int | None
    greedy: bool


class Move(NamedTuple):
    """A row is taken by `variable` (its place in the pattern) unless one of `unless` takes it too; then `target`.

    `finals`: the match is also complete if, for one of these, none of its variables takes the row.
    """

    variable: int
    unless: tuple[int, ...]
    target: int
    finals: tuple[tuple[int, ...], ...]


@dataclass(slots=True)
class _Edge:
    variable: int | None  # None: the state is passed without a row
    target: int
    unless: list[int] = field(default_factory=list)


class Automaton:
    """`moves[state]`: what may become of the next row; `start`: the state before the first row.

    `asks_twice[state]`: whether its moves may ask one variable more than once.
    """

    def __init__(self, pattern: Sequence[Quantified]) -> None:
        self._edges: list[list[_Edge]] = [[]]
        sink = FINAL
        for variable in range(len(pattern) - 1, -1, -1):
            sink = self._variable(variable, pattern[variable], sink)
        self.start = sink
        self.moves = [self._moves(state) for state in range(len(self._edges))]
        self.asks_twice = [_asks_twice(moves) for moves in self.moves]

    def _variable(self, variable: int, given: Quantified, sink: int) -> int:
        """States of a variable in front of `sink`; returns the first."""
        first = max(given.least, 1)
        if given.greedy:
            for edge in self._edges[sink]:
                edge.unless.append(variable)
        last = sink
        if given.most is None:
            last = len(self._edges)
            self._edges.append([_Edge(None, sink), _Edge(variable, last)])
        else:
            for _ in range(first, given.most):
                last = self._single(variable, last, passed_to=sink)
        for _ in range(first - 1):
            last = self._single(variable, last)
        return self._single(variable, last, passed_to=sink if given.least == 0 else None)

    def _single(self, variable: int, target: int, *, passed_to: int | None = None) -> int:
        edges = [_Edge(variable, target)]
        if passed_to is not None:
            edges.append(_Edge(None, passed_to))
        self._edges.append(edges)
        return len(self._edges) - 1

    def _moves(self, state: int) -> tuple[Move, ...]:
        found = []
        waiting: list[tuple[int, tuple[int, ...]]] = [(state, ())]
        while waiting:
            at, before = waiting.pop()
            for edge in self._edges[at]:
                unless = tuple(dict.fromkeys((*before, *edge.unless)))
                if edge.variable is None:
                    waiting.append((edge.target, unless))
                else:
                    found.append(Move(edge.variable, unless, edge.target, tuple(self._finals(edge.target, ()))))
        return tuple(found)

    def _finals(self, state: int, before: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        """What must not take the row on each way from `state` to the end without a further row."""
        for edge in self._edges[state]:
            if edge.variable is None:
                unless = tuple(dict.fromkeys((*before, *edge.unless)))
                if edge.target == FINAL:
                    yield unless
                yield from self._finals(edge.target, unless)


def _asks_twice(moves: Sequence[Move]) -> bool:
    asked = [move.variable for move in moves]
    asked += [variable for move in moves for variable in (*move.unless, *(v for path in move.finals for v in path))]
    return len(set(asked)) < len(asked)
