"""What a pattern operator is made for: columns that it keeps, conditions, what measures reach for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from penstock.model.types import DataType
from penstock_processor.operators.pattern.automaton import Quantified
from penstock_processor.operators.pattern.begun import Blocks, KeyMatches, Row, block_of
from penstock_processor.operators.pattern.matching import Bounds

__all__ = ["Aggregated", "Asking", "Reached", "Shape", "Variable"]


@dataclass(slots=True)
class Asking:
    """What a condition is asked about: a row that may go to `variable`, behind the rows of a match so far.

    `row`: its kept values; `now`: its other columns that conditions read. Numbers of rows: `first` of the match,
    `number` of the row itself.
    """

    key: KeyMatches
    row: Row
    now: Row
    variable: int
    first: int
    number: int
    blocks: Blocks

    def span(self, variable: int | None) -> tuple[int, int]:
        """Rows of a variable, its own and all rows with the row in question; empty if it has none."""
        if variable is None:
            return self.first, self.number + 1
        number = self.number
        found = block_of(self.first, number, self.blocks, variable)
        if variable == self.variable:
            return (number if found is None else found[0]), number + 1
        return found or (0, 0)


@dataclass(frozen=True, slots=True)
class Reached:
    """FIRST or LAST of the kept column number `column` of a variable's rows; see `logical.plan_match.Reach`."""

    name: str
    variable: int | None
    first: bool
    offset: int
    column: int
    type: DataType

    def place(self, begin: int, end: int) -> int | None:
        """Number of the row that is reached for among those from `begin` to `end` (excluded)."""
        number = begin + self.offset if self.first else end - 1 - self.offset
        return number if begin <= number < end else None

    def asked(self, asking: Asking) -> object:
        """Its value in a condition."""
        begin, end = asking.span(self.variable)
        number = begin + self.offset if self.first else end - 1 - self.offset
        if not begin <= number < end:
            return None
        if number == asking.number:
            return asking.row[self.column]
        key = asking.key
        return key.rows[number - key.base][self.column]


@dataclass(frozen=True, slots=True)
class Aggregated:
    """An aggregate over the kept column number `column` of a variable's rows. `number`: of the aggregate."""

    name: str
    variable: int | None
    function: str
    column: int
    type: DataType
    number: int


@dataclass(frozen=True, slots=True)
class Variable:
    """`alone`: what its condition asks of the row by itself (None: nothing); `error`: code of rows without an answer.

    `beside`: what it asks of the row beside others; None: nothing.
    """

    name: str
    times: Quantified
    alone: pl.Expr | None
    error: pl.Expr | None
    beside: Callable[[Asking], bool] | None


@dataclass(frozen=True, slots=True)
class Shape:
    """A pattern operator's columns and rules.

    `kept`: columns of rows that are kept, made of the input's (the time is not among them). `now`: columns that
    conditions read of the row in question alone. `time`: the time's column; `zoned`: it is TIMESTAMP_LTZ. `order`: of
    rows of one moment: column, descending, NULLs last. `reaches`, `aggregates`: those of measures. `skip_to`: number
    of the variable to go on from.
    """

    partition: tuple[str, ...]
    partition_types: tuple[DataType, ...]
    time: str
    zoned: bool
    order: tuple[tuple[str, bool, bool], ...]
    kept: tuple[pl.Expr, ...]
    kept_types: tuple[DataType, ...]
    kept_errors: tuple[pl.Expr, ...]
    now: tuple[str, ...]
    variables: tuple[Variable, ...]
    reaches: tuple[Reached, ...]
    aggregates: tuple[Aggregated, ...]
    past_last: bool
    skip_to: int | None
    to_first: bool
    bounds: Bounds
