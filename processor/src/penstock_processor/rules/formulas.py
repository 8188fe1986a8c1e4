"""Rules of one shape over rows: a table of rows by rules, in three-valued logic, made of NumPy comparisons."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import polars as pl

from penstock.model.types import Kind
from penstock_processor.rules.columns import Bools, Columns, Numbers, Subjects, Values, constants_of
from penstock_processor.rules.shapes import Both, Comparison, Either, Formula, Not, Whole, has_whole

__all__ = ["PAIRS_AT_ONCE", "PAYS_FROM", "Alike", "Bounds"]

#: Pairs of row and rule that are compared at once: a few megabytes, which stay in the cache.
PAIRS_AT_ONCE = 1 << 18

#: Rules from which on a table is cheaper than as many expressions, where parts of them are evaluated one by one.
PAYS_FROM = 4

_COMPARED: dict[str, Callable[[Values, Values], Bools]] = {
    "=": np.equal, "<>": np.not_equal, "<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal,
}  # fmt: skip


class _Node(Protocol):
    """A formula of every rule of a shape."""

    def true(self, columns: Columns, rows: slice) -> Bools:
        """Rows by rules (or one column for all of them): where it is true, not NULL."""
        ...

    def false(self, columns: Columns, rows: slice) -> Bools:
        """Likewise: where it is false."""
        ...


class Bounds:
    """One comparison of a shape with one constant of every rule; numbers and times."""

    def __init__(self, subjects: Subjects, compared: Sequence[Comparison], *, place: int = 0) -> None:
        constants = constants_of([each.constants[place] for each in compared])
        self.operator = compared[0].operator
        self.name = subjects.name_of(compared[0].subject)
        self.usable: Bools = constants.is_not_null().to_numpy()  # nothing is greater than NULL
        self._all_usable = bool(self.usable.all())
        self.values: Values = constants.fill_null(0).to_numpy()

    def holds(self, left: Values, right: Values) -> Bools:
        """Elementwise, for values that are there."""
        return _COMPARED[self.operator](left, right)

    def true(self, columns: Columns, rows: slice) -> Bools:
        """See `_Node`."""
        values, _ = columns.arrays(self.name)
        return self._known(self.holds(values[rows, None], self.values[None, :]), columns, rows)

    def false(self, columns: Columns, rows: slice) -> Bools:
        """See `_Node`."""
        values, _ = columns.arrays(self.name)
        return self._known(~self.holds(values[rows, None], self.values[None, :]), columns, rows)

    def _known(self, found: Bools, columns: Columns, rows: slice) -> Bools:
        """Where both values are there."""
        there = columns.arrays(self.name)[1][rows]
        if not there.all():
            found &= there[:, None]
        if not self._all_usable:
            found &= self.usable[None, :]
        return found


class _Texts:
    """As `Bounds`, for texts that are equal or are not: each is known by a number."""

    def __init__(self, subjects: Subjects, compared: Sequence[Comparison], *, place: int = 0) -> None:
        constants = constants_of([each.constants[place] for each in compared])
        self._name = subjects.name_of(compared[0].subject)
        self._equal = compared[0].operator == "="
        known = constants.drop_nulls().unique(maintain_order=True)
        self._numbers = pl.DataFrame({self._name: known, "$number": pl.int_range(len(known), eager=True)})
        self._usable: Bools = constants.is_not_null().to_numpy()
        self._values: Numbers = self._numbered(constants.to_frame(self._name), unknown=-1)

    def true(self, columns: Columns, rows: slice) -> Bools:
        """See `_Node`."""
        return self._told(columns, rows, same=self._equal)

    def false(self, columns: Columns, rows: slice) -> Bools:
        """See `_Node`."""
        return self._told(columns, rows, same=not self._equal)

    def _told(self, columns: Columns, rows: slice, *, same: bool) -> Bools:
        texts = columns.frame.select(self._name)[rows]
        numbers = self._numbered(texts, unknown=-2)[:, None]
        known = texts[self._name].is_not_null().to_numpy()[:, None] & self._usable[None, :]
        found: Bools = numbers == self._values[None, :] if same else numbers != self._values[None, :]
        return found & known

    def _numbered(self, texts: pl.DataFrame, *, unknown: int) -> Numbers:
        found = texts.join(self._numbers, on=self._name, how="left", maintain_order="left")
        numbers: Numbers = found["$number"].fill_null(unknown).to_numpy()
        return numbers


class _Condition:
    """A condition that all rules of the shape have in common."""

    def __init__(self, subjects: Subjects, whole: Whole) -> None:
        self._name = subjects.name_of(whole.expr)

    def true(self, columns: Columns, rows: slice) -> Bools:
        """See `_Node`; one column for all rules."""
        values, there = columns.arrays(self._name)
        return (values[rows].astype(np.bool_) & there[rows])[:, None]

    def false(self, columns: Columns, rows: slice) -> Bools:
        """See `_Node`; one column for all rules."""
        values, there = columns.arrays(self._name)
        return (~values[rows].astype(np.bool_) & there[rows])[:, None]


class _Negated:
    """NOT."""

    def __init__(self, of: _Node) -> None:
        self._of = of

    def true(self, columns: Columns, rows: slice) -> Bools:
        """See `_Node`."""
        return self._of.false(columns, rows)

    def false(self, columns: Columns, rows: slice) -> Bools:
        """See `_Node`."""
        return self._of.true(columns, rows)


class _Joined:
    """AND (`every`) or OR of others."""

    def __init__(self, parts: Sequence[_Node], *, every: bool) -> None:
        self._parts = parts
        self._every = every

    def true(self, columns: Columns, rows: slice) -> Bools:
        """See `_Node`."""
        return _reduced([part.true(columns, rows) for part in self._parts], every=self._every)

    def false(self, columns: Columns, rows: slice) -> Bools:
        """See `_Node`."""
        return _reduced([part.false(columns, rows) for part in self._parts], every=not self._every)


class Alike:
    """Rules of one shape, whatever it is."""

    def __init__(self, subjects: Subjects, rules: Numbers, formulas: Sequence[Formula]) -> None:
        self._rules = rules
        self._root = _node(subjects, formulas)

    @staticmethod
    def pays(formula: Formula, rules: int) -> bool:
        """Whether so many rules of a shape are better matched together."""
        return rules >= PAYS_FROM or not has_whole(formula)

    def match(self, columns: Columns) -> tuple[Numbers, Numbers]:
        """Row and rule of each hit."""
        size = max(1, PAIRS_AT_ONCE // len(self._rules))
        found: list[tuple[Numbers, Numbers]] = []
        for start in range(0, columns.height, size):
            rows = slice(start, min(start + size, columns.height))
            true = self._root.true(columns, rows)
            hit = np.broadcast_to(true, (rows.stop - rows.start, len(self._rules)))
            at = np.flatnonzero(hit)
            found.append((at // len(self._rules) + start, self._rules[at % len(self._rules)]))
        return np.concatenate([rows for rows, _ in found]), np.concatenate([rules for _, rules in found])


def _reduced(found: Sequence[Bools], *, every: bool) -> Bools:
    total = found[0]
    for more in found[1:]:
        total = total & more if every else total | more
    return total


def _node(subjects: Subjects, formulas: Sequence[Formula]) -> _Node:
    """The formulas, all of one shape, as one."""
    match formulas[0]:
        case Comparison():
            return _comparison(subjects, [each for each in formulas if isinstance(each, Comparison)])
        case Whole():
            return _Condition(subjects, formulas[0])
        case Not():
            return _Negated(_node(subjects, [each.of for each in formulas if isinstance(each, Not)]))
        case Both() | Either():
            parts = zip(*(each.of for each in formulas if isinstance(each, Both | Either)), strict=True)
            nodes = [_node(subjects, part) for part in parts]
            return _Joined(nodes, every=isinstance(formulas[0], Both))


def _comparison(subjects: Subjects, compared: Sequence[Comparison]) -> _Node:
    kind = _Texts if compared[0].subject.type.kind is Kind.STRING else Bounds
    leaves = [kind(subjects, compared, place=place) for place in range(len(compared[0].constants))]
    return leaves[0] if len(leaves) == 1 else _Joined(leaves, every=False)
