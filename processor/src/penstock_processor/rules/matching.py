"""Which rows hit which rules, for all rules of a source in one pass. Pure: a frame in, pairs of numbers out.

Rules are grouped by shape. Shapes that ask for values are looked up in an index, those with one bound are found among
sorted bounds, others are compared as a table of rows by rules. What is alike with nothing is evaluated as written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product
from operator import and_
from typing import Protocol

import numpy as np
import polars as pl

from penstock.expressions.compile import compile_expression
from penstock.expressions.nodes import Expr
from penstock_processor.rules.columns import Columns, Numbers, Subjects, constants_of, is_nan
from penstock_processor.rules.formulas import Alike, Bounds
from penstock_processor.rules.shapes import Comparison, Formula, Whole, conjunction, divided, formula_of, shape_of

__all__ = ["Failure", "Hits", "Matcher", "Numbers"]

_NO_NUMBERS: Numbers = np.empty(0, np.int64)
_ROW = "$row"
_PLACE = "$place"
_FEW_ROWS = 1_000
LOOKED_UP_ROWS = 32  # up to here a look-up row by row is cheaper than a join


@dataclass(frozen=True, slots=True)
class Failure:
    """A row whose predicate has no value for a rule."""

    row: int
    rule: int
    code: str


@dataclass(frozen=True, slots=True)
class Hits:
    """Row and rule of each hit, by rows and then rules, and what failed."""

    rows: Numbers
    rules: Numbers
    failures: Sequence[Failure] = ()


class Matcher:
    """All predicates of a source. Rules are named by their place in `predicates`."""

    def __init__(self, predicates: Sequence[Expr]) -> None:
        self._count = max(1, len(predicates))
        formulas = {rule: formula_of(predicate) for rule, predicate in enumerate(predicates)}
        others = [rule for rule, formula in formulas.items() if formula is None or isinstance(formula, Whole)]
        as_written = frozenset(others)
        self._subjects = Subjects()
        self._parts: list[_Part] = []
        conditions: dict[int, tuple[Expr, ...]] = {}
        beside: list[tuple[int, Formula]] = []  # what rules with a condition of their own have beside it
        for members in _grouped([(n, f) for n, f in formulas.items() if f is not None and n not in as_written]):
            part = _part(self._subjects, members)
            if part is not None:
                self._parts.append(part)
                continue
            for rule, formula in members:
                two = divided(formula)
                if two is None:
                    others.append(rule)
                else:
                    beside.append((rule, two[0]))
                    conditions[rule] = two[1]
        for members in _grouped(beside):
            part = _part(self._subjects, members)
            assert part is not None, "there is nothing in it that is as it is written"
            self._parts.append(_Conditional(part, {rule: conditions[rule] for rule, _ in members}))
        self._rest = _Evaluated(others, [predicates[rule] for rule in others]) if others else None

    def match(self, frame: pl.DataFrame) -> Hits:
        """The hits in these rows."""
        if frame.height == 0:
            return Hits(_NO_NUMBERS, _NO_NUMBERS)
        found: list[tuple[Numbers, Numbers]] = []
        if self._parts:
            columns = self._subjects.evaluated(frame)
            found += [part.match(columns) for part in self._parts]
        failures: list[Failure] = []
        if self._rest is not None:
            found += self._rest.match(frame, failures)
        rows = np.concatenate([rows for rows, _ in found]) if found else _NO_NUMBERS
        rules = np.concatenate([rules for _, rules in found]) if found else _NO_NUMBERS
        placed = np.sort(rows * self._count + rules)
        return Hits(placed // self._count, placed % self._count, failures)


class _Part(Protocol):
    """Rules of one shape."""

    def match(self, columns: Columns) -> tuple[Numbers, Numbers]:
        """Row and rule of each hit."""
        ...


def _grouped(members: Sequence[tuple[int, Formula]]) -> list[list[tuple[int, Formula]]]:
    """Rules by shape."""
    groups: dict[object, list[tuple[int, Formula]]] = {}
    for rule, formula in members:
        groups.setdefault(shape_of(formula), []).append((rule, formula))
    return list(groups.values())


def _part(subjects: Subjects, members: list[tuple[int, Formula]]) -> _Part | None:
    """How rules of one shape are matched; None: better one by one."""
    rules = np.array([rule for rule, _ in members], np.int64)
    found = [conjunction(formula) for _, formula in members]
    together = [each for each in found if each is not None]
    if len(together) == len(members):
        compared = together[0]
        equal = [n for n, each in enumerate(compared) if each.operator == "="]
        asked = {compared[n].subject for n in equal}
        if (equal or len(compared) == 1) and len(asked) == len(equal):  # an index asks for one value of a subject
            bounds = [
                Bounds(subjects, [each[n] for each in together]) for n in range(len(compared)) if n not in equal
            ]
            if not equal:
                return _Sorted(rules, bounds[0])
            names = [subjects.name_of(compared[n].subject) for n in equal]
            return _Indexed(names, [[each[n] for n in equal] for each in together], rules, bounds)
    formulas = [formula for _, formula in members]
    return Alike(subjects, rules, formulas) if Alike.pays(formulas[0], len(rules)) else None


class _Indexed:
    """Rules that ask for values: looked up, then the other comparisons of those that were found."""

    def __init__(self, names: list[str], keys: list[list[Comparison]], rules: Numbers, bounds: list[Bounds]) -> None:
        self._names = names
        self._rules = rules
        self._bounds = bounds
        places: list[int] = []
        entries: list[tuple[Expr, ...]] = []
        for place, comparisons in enumerate(keys):
            for entry in product(*(comparison.constants for comparison in comparisons)):
                places.append(place)
                entries.append(entry)
        series = [constants_of([entry[n] for entry in entries]).alias(name) for n, name in enumerate(names)]
        index = pl.DataFrame([*series, pl.Series(_PLACE, places, dtype=pl.Int64)])
        self._nan_is_nothing = [
            pl.col(name).fill_nan(None) for name in names if index.schema[name].is_float()
        ]  # for SQL; a join takes NaN for equal to itself
        index = index.with_columns(self._nan_is_nothing)
        self._index = index.drop_nulls().unique(maintain_order=True)  # IN may say a value twice
        self._by_key: dict[tuple[object, ...], list[int]] = {}

    def match(self, columns: Columns) -> tuple[Numbers, Numbers]:
        """See `_Part`."""
        rows = columns.frame.select(_ROW, *self._names).with_columns(self._nan_is_nothing)
        at, places = self._few(rows) if rows.height <= LOOKED_UP_ROWS else self._many(rows)
        if self._bounds and len(at):
            holds = np.ones(len(at), np.bool_)
            for bound in self._bounds:
                values, there = columns.arrays(bound.name)
                holds &= bound.holds(values[at], bound.values[places]) & there[at] & bound.usable[places]
            at, places = at[holds], places[holds]
        return at, self._rules[places]

    def _many(self, rows: pl.DataFrame) -> tuple[Numbers, Numbers]:
        pairs = rows.join(self._index, on=self._names, how="inner")
        return pairs[_ROW].to_numpy(), pairs[_PLACE].to_numpy()

    def _few(self, rows: pl.DataFrame) -> tuple[Numbers, Numbers]:
        """As `_many`, without the fixed cost of a join."""
        if not self._by_key:
            for *key, place in self._index.iter_rows():
                self._by_key.setdefault(tuple(key), []).append(place)
        found = [(row, place) for row, *key in rows.iter_rows() for place in self._by_key.get(tuple(key), ())]
        made = np.array(found, np.int64).reshape(-1, 2)
        return made[:, 0], made[:, 1]


class _Sorted:
    """Rules that compare one value with a bound each: the bounds are sorted, and a value hits a run of them."""

    def __init__(self, rules: Numbers, bound: Bounds) -> None:
        kept = bound.usable & ~is_nan(bound.values)
        order = np.argsort(bound.values[kept], kind="stable")
        self._bound = bound
        self._rules = rules[kept][order]
        self._sorted = bound.values[kept][order]

    def match(self, columns: Columns) -> tuple[Numbers, Numbers]:
        """See `_Part`."""
        values, there = columns.arrays(self._bound.name)
        there = there & ~is_nan(values)
        below = self._bound.operator in (">", ">=")  # what is less than the value is hit
        if self._bound.operator in (">", "<="):
            cut = np.searchsorted(self._sorted, values, side="left")
        else:
            cut = np.searchsorted(self._sorted, values, side="right")
        first = np.zeros(len(values), np.int64) if below else cut
        count = np.where(there, cut if below else len(self._sorted) - cut, 0)
        rows = np.repeat(np.arange(len(values), dtype=np.int64), count)
        starts = np.repeat(first - (np.cumsum(count) - count), count)
        return rows, self._rules[np.arange(len(rows), dtype=np.int64) + starts]


class _Conditional:
    """Rules with conditions of their own, evaluated only for rows and rules that the rest of them lets through."""

    def __init__(self, first: _Part, conditions: Mapping[int, Sequence[Expr]]) -> None:
        self._first = first
        self._conditions = {
            rule: reduce(and_, [compile_expression(each).value for each in exprs])
            .fill_null(value=False)
            .alias(f"${rule}")
            for rule, exprs in conditions.items()
        }

    def match(self, columns: Columns) -> tuple[Numbers, Numbers]:
        """See `_Part`."""
        rows, rules = self._first.match(columns)
        if not len(rows):
            return rows, rules
        some_rows, at = _numbered(rows, columns.height)
        some_rules, which = _numbered(rules, int(rules.max()) + 1)
        frame = columns.source if len(some_rows) == columns.height else columns.source[some_rows]
        exprs = [pl.int_range(pl.len()).alias(_ROW), *(self._conditions[rule] for rule in some_rules.tolist())]
        made = frame.select_seq(exprs) if frame.height < _FEW_ROWS else frame.select(exprs)
        small = which.astype(np.uint16) if len(some_rules) <= np.iinfo(np.uint16).max else which
        order = np.argsort(small, kind="stable")  # a radix sort, if the numbers are small ones
        holds = np.zeros(len(rows), np.bool_)
        ends = np.cumsum(np.bincount(which)).tolist()
        for start, end, rule in zip([0, *ends], ends, some_rules.tolist(), strict=False):
            pairs = order[start:end]
            holds[pairs] = made.get_column(f"${rule}").to_numpy()[at[pairs]]
        return rows[holds], rules[holds]


def _numbered(found: Numbers, count: int) -> tuple[Numbers, Numbers]:
    """Which of the numbers below `count` there are, and the place of each in that."""
    there = np.zeros(count, np.bool_)
    there[found] = True
    return np.flatnonzero(there), (np.cumsum(there) - 1)[found]


class _Evaluated:
    """Rules of any other form: one query evaluates all of them, and only those with hits are looked at."""

    def __init__(self, rules: Sequence[int], predicates: Sequence[Expr]) -> None:
        self._rules = list(rules)
        self._exprs: list[pl.Expr] = [pl.int_range(pl.len()).alias(_ROW)]  # so that constants are as long as the rest
        self._fallible: list[int] = []
        for n, predicate in enumerate(predicates):
            made = compile_expression(predicate)
            if made.error is None:
                self._exprs.append(made.value.fill_null(value=False).alias(f"${n}"))
                continue
            self._fallible.append(n)
            self._exprs += [
                (made.value & made.error.is_null()).fill_null(value=False).alias(f"${n}"),
                made.error.alias(f"$error{n}"),
            ]

    def match(self, frame: pl.DataFrame, failures: list[Failure]) -> Iterable[tuple[Numbers, Numbers]]:
        """Row and rule of each hit, rule by rule; adds to `failures`."""
        few = frame.height < _FEW_ROWS  # handing a few rows to other threads costs more than the work
        made = frame.select_seq(self._exprs) if few else frame.select(self._exprs)
        for n in self._fallible:
            codes = made.get_column(f"$error{n}")
            if codes.null_count() < len(codes):
                for row in codes.is_not_null().arg_true().to_list():
                    failures.append(Failure(row, self._rules[n], codes[row]))
        found = []
        for n, rule in enumerate(self._rules):
            column = made.get_column(f"${n}")
            if column.any():
                rows = np.flatnonzero(column.to_numpy())
                found.append((rows, np.full(len(rows), rule, np.int64)))
        return found
