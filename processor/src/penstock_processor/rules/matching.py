"""Which rows hit which rules, for all rules of a source in one pass. Pure: a frame in, pairs of numbers out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from penstock.expressions.compile import compile_expression
from penstock.expressions.nodes import Expr
from penstock.model.types import Kind
from penstock_processor.rules.shapes import Comparison, Shape, comparisons, shape_of

__all__ = ["Failure", "Hits", "Matcher"]

#: Pairs of row and rule that are compared at once: a few megabytes, which stay in the cache.
PAIRS_AT_ONCE = 1 << 20

Numbers = npt.NDArray[np.int64]
Values = npt.NDArray[np.generic]
_FLOATS = (Kind.FLOAT, Kind.DOUBLE)
_NO_NUMBERS: Numbers = np.empty(0, np.int64)


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
        groups: dict[Shape, list[tuple[int, list[Comparison]]]] = {}
        others: list[int] = []
        for rule, predicate in enumerate(predicates):
            found = comparisons(predicate)
            if found is None:
                others.append(rule)
            else:
                groups.setdefault(shape_of(found), []).append((rule, found))
        subjects = list(dict.fromkeys(subject for shape in groups for subject, _ in shape))
        self._subjects = [_prepared(subject).alias(_name(n)) for n, subject in enumerate(subjects)]
        places = {subject: n for n, subject in enumerate(subjects)}
        self._parts: list[_Part] = [
            _part([(places[subject], operator) for subject, operator in shape], members)
            for shape, members in groups.items()
        ]
        self._rest = _Evaluated(others, [predicates[rule] for rule in others]) if others else None

    def match(self, frame: pl.DataFrame) -> Hits:
        """The hits in these rows."""
        if frame.height == 0:
            return Hits(_NO_NUMBERS, _NO_NUMBERS)
        found: list[tuple[Numbers, Numbers]] = []
        if self._parts:
            subjects = frame.select(self._subjects)
            found += [part.match(subjects) for part in self._parts]
        failures: list[Failure] = []
        if self._rest is not None:
            found += self._rest.match(frame, failures)
        rows = np.concatenate([rows for rows, _ in found]) if found else _NO_NUMBERS
        rules = np.concatenate([rules for _, rules in found]) if found else _NO_NUMBERS
        placed = np.sort(rows * self._count + rules)
        return Hits(placed // self._count, placed % self._count, failures)


class _Part(Protocol):
    """Rules of one shape."""

    def match(self, subjects: pl.DataFrame) -> tuple[Numbers, Numbers]:
        """Row and rule of each hit."""
        ...


def _part(compared: list[tuple[int, str]], members: list[tuple[int, list[Comparison]]]) -> _Part:
    rules = np.array([rule for rule, _ in members], np.int64)
    equal = [n for n, (_, operator) in enumerate(compared) if operator == "="]
    ordered = [n for n, (_, operator) in enumerate(compared) if operator != "="]
    bounds = [
        _Bounds(_name(compared[n][0]), compared[n][1], _constants([found[n].constants[0] for _, found in members]))
        for n in ordered
    ]
    if equal:
        keys = [[found[n].constants for _, found in members] for n in equal]
        return _Indexed([_name(compared[n][0]) for n in equal], keys, rules, bounds)
    return _Sorted(rules, bounds[0]) if len(bounds) == 1 else _Compared(rules, bounds)


class _Bounds:
    """One comparison < <= > >= of a shape, with the constant of every rule."""

    def __init__(self, column: str, operator: str, constants: pl.Series) -> None:
        self.operator = operator
        self.usable = constants.is_not_null().to_numpy()  # nothing is greater than NULL
        self.values: Values = constants.fill_null(0).to_numpy()
        self._column = column

    def subject(self, subjects: pl.DataFrame) -> tuple[Values, npt.NDArray[np.bool_]]:
        """The compared values, and where there is one."""
        column = subjects.get_column(self._column)
        if not column.null_count():
            return column.to_numpy(), np.ones(len(column), np.bool_)
        return column.fill_null(0).to_numpy(), column.is_not_null().to_numpy()

    def holds(self, left: Values, right: Values) -> npt.NDArray[np.bool_]:
        """Elementwise."""
        match self.operator:
            case "<":
                found = np.less(left, right)
            case "<=":
                found = np.less_equal(left, right)
            case ">":
                found = np.greater(left, right)
            case _:
                found = np.greater_equal(left, right)
        return np.asarray(found, np.bool_)


class _Indexed:
    """Rules that ask for values: looked up, then the other comparisons of those that were found."""

    def __init__(
        self, columns: list[str], keys: list[list[tuple[Expr, ...]]], rules: Numbers, bounds: list[_Bounds]
    ) -> None:
        self._columns = columns
        self._rules = rules
        self._bounds = bounds
        places: list[int] = []
        entries: list[tuple[Expr, ...]] = []
        for place, constants in enumerate(zip(*keys, strict=True)):
            for entry in product(*constants):
                places.append(place)
                entries.append(entry)
        series = [_constants([entry[n] for entry in entries]).alias(name) for n, name in enumerate(columns)]
        index = pl.DataFrame([*series, pl.Series(_PLACE, places, dtype=pl.Int64)])
        self._index = index.drop_nulls().unique(maintain_order=True)  # IN may say a value twice

    def match(self, subjects: pl.DataFrame) -> tuple[Numbers, Numbers]:
        """See `_Part`."""
        rows = subjects.select(self._columns).with_row_index(_ROW)
        pairs = rows.join(self._index, on=self._columns, how="inner")
        at, places = pairs[_ROW].cast(pl.Int64).to_numpy(), pairs[_PLACE].to_numpy()
        if self._bounds and len(at):
            holds = np.ones(len(at), np.bool_)
            for bound in self._bounds:
                values, there = bound.subject(subjects)
                holds &= bound.holds(values[at], bound.values[places]) & there[at] & bound.usable[places]
            at, places = at[holds], places[holds]
        return at, self._rules[places]


class _Sorted:
    """Rules that compare one value with a bound each: the bounds are sorted, and a value hits a run of them."""

    def __init__(self, rules: Numbers, bound: _Bounds) -> None:
        kept = bound.usable & ~_nan(bound.values)
        order = np.argsort(bound.values[kept], kind="stable")
        self._bound = bound
        self._rules = rules[kept][order]
        self._sorted = bound.values[kept][order]

    def match(self, subjects: pl.DataFrame) -> tuple[Numbers, Numbers]:
        """See `_Part`."""
        values, there = self._bound.subject(subjects)
        there = there & ~_nan(values)
        side = "left" if self._bound.operator in (">", "<=") else "right"
        cut = np.searchsorted(self._sorted, values, side=side)  # type: ignore[call-overload]  # side is one of two
        below = self._bound.operator in (">", ">=")  # what is less than the value is hit
        first = np.zeros(len(values), np.int64) if below else cut
        count = np.where(there, cut if below else len(self._sorted) - cut, 0)
        rows = np.repeat(np.arange(len(values), dtype=np.int64), count)
        starts = np.repeat(first - (np.cumsum(count) - count), count)
        return rows, self._rules[np.arange(len(rows), dtype=np.int64) + starts]


class _Compared:
    """Rules with several bounds: every row with every rule, a piece at a time."""

    def __init__(self, rules: Numbers, bounds: list[_Bounds]) -> None:
        self._rules = rules
        self._bounds = bounds
        self._usable = np.logical_and.reduce([bound.usable for bound in bounds])

    def match(self, subjects: pl.DataFrame) -> tuple[Numbers, Numbers]:
        """See `_Part`."""
        columns = [bound.subject(subjects) for bound in self._bounds]
        size = max(1, PAIRS_AT_ONCE // len(self._rules))
        found: list[tuple[Numbers, Numbers]] = []
        for start in range(0, subjects.height, size):
            holds = np.broadcast_to(self._usable, (min(size, subjects.height - start), len(self._rules))).copy()
            for bound, (values, there) in zip(self._bounds, columns, strict=True):
                part = slice(start, start + size)
                holds &= bound.holds(values[part, None], bound.values[None, :])
                if not there.all():
                    holds &= there[part, None]
            rows, places = np.nonzero(holds)
            found.append((rows.astype(np.int64) + start, self._rules[places]))
        return np.concatenate([rows for rows, _ in found]), np.concatenate([rules for _, rules in found])


class _Evaluated:
    """Rules of any other form: one query evaluates all of them, and only those with hits are looked at."""

    def __init__(self, rules: Sequence[int], predicates: Sequence[Expr]) -> None:
        self._rules = list(rules)
        self._exprs: list[pl.Expr] = [pl.int_range(pl.len()).alias(_ROW)]  # so that constants are as long as the rest
        self._fallible: list[int] = []
        for n, predicate in enumerate(predicates):
            made = compile_expression(predicate)
            if made.error is None:
                self._exprs.append(made.value.alias(_name(n)))
                continue
            self._fallible.append(n)
            self._exprs += [(made.value & made.error.is_null()).alias(_name(n)), made.error.alias(_error(n))]

    def match(self, frame: pl.DataFrame, failures: list[Failure]) -> Iterable[tuple[Numbers, Numbers]]:
        """Row and rule of each hit, rule by rule; adds to `failures`."""
        few = frame.height < _FEW_ROWS  # handing a few rows to other threads costs more than the work
        made = frame.select_seq(self._exprs) if few else frame.select(self._exprs)
        for n in self._fallible:
            codes = made.get_column(_error(n))
            if codes.null_count() < len(codes):
                for row in codes.is_not_null().arg_true().to_list():
                    failures.append(Failure(row, self._rules[n], codes[row]))
        found = []
        for n, rule in enumerate(self._rules):
            column = made.get_column(_name(n))
            if column.dtype == pl.Boolean and column.any():
                rows = column.fill_null(False).arg_true().cast(pl.Int64).to_numpy()
                found.append((rows, np.full(len(rows), rule, np.int64)))
        return found


_ROW = "$row"
_PLACE = "$place"
_FEW_ROWS = 1_000


def _name(n: int) -> str:
    return f"${n}"


def _error(n: int) -> str:
    return f"$error{n}"


def _prepared(subject: Expr) -> pl.Expr:
    """A compared expression as values that NumPy and joins compare as SQL does: NaN equals nothing."""
    value = compile_expression(subject).value
    if subject.type.kind in _FLOATS:
        return value.fill_nan(None)
    return value if subject.type.kind is Kind.STRING else value.to_physical()


def _constants(exprs: Sequence[Expr]) -> pl.Series:
    """The values of constant expressions of one type, as `_prepared` has them."""
    made = pl.select(_prepared(expr).alias(_name(n)) for n, expr in enumerate(exprs))
    return pl.concat([made.get_column(_name(n)).alias("") for n in range(len(exprs))])


def _nan(values: Values) -> npt.NDArray[np.bool_]:
    return np.isnan(values) if values.dtype.kind == "f" else np.zeros(len(values), np.bool_)
