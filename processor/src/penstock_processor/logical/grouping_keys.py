"""What a CASE over the number of a grouping is in each of the groupings: the value of a key, or a constant. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from penstock.expressions.compile import compile_expression
from penstock.expressions.nodes import Case, ColumnRef, Expr, Literal
from penstock_processor.logical.plan import (
    SET,
    Aggregate,
    Expand,
    Filter,
    GroupAggregate,
    Node,
    Project,
    WindowAssign,
)
from penstock_processor.logical.rewrite import columns_read

__all__ = ["Groupings", "groupings_of", "key_of_case"]


@dataclass(frozen=True, slots=True)
class Groupings:
    """`count` groupings; `having`: key -> numbers of those that group by it, in which alone it has a value."""

    count: int
    having: Mapping[str, frozenset[int]]


def groupings_of(node: Node) -> Groupings | None:
    """The GROUPING SETS that rows of `node` are of; None without any."""
    while isinstance(node, Filter):
        node = node.input
    if not isinstance(node, Aggregate | GroupAggregate):
        return None
    below: Node = node.input
    while isinstance(below, Filter | Project | WindowAssign):
        below = below.input
    if not isinstance(below, Expand):
        return None
    numbers = {key.name: n for n, key in enumerate(below.keys)}
    having = {}
    for key in node.keys:
        if isinstance(key.expr, ColumnRef) and key.expr.name in numbers:
            n = numbers[key.expr.name]
            having[key.name] = frozenset(i for i, grouping in enumerate(below.sets) if n in grouping)
    return Groupings(len(below.sets), having)


def key_of_case(expr: Case, groupings: Groupings) -> str | None:
    """The key that tells groups apart as well as `expr` does; None if there is none.

    `SET` where the CASE is another constant in each grouping, as GROUPING_ID; a key where it is the key in every
    grouping that has it, as `CASE WHEN GROUPING(k) = 1 THEN 'all' ELSE k END`.
    """
    if any(columns_read(when) != {SET} for when, _ in expr.branches):
        return None
    values = _in_each(expr, groupings.count)
    constants = [
        each.value if isinstance(each, Literal) else None for each in values if not isinstance(each, ColumnRef)
    ]
    if any(not isinstance(each, Literal | ColumnRef | None) for each in values):
        return None
    if len(constants) == len(values):
        return SET if len(set(constants)) == len(constants) else None
    columns = {each.name for each in values if isinstance(each, ColumnRef)}
    column = columns.pop()
    if columns or column not in groupings.having:
        return None
    kept = all(isinstance(values[n], ColumnRef) for n in groupings.having[column])
    return column if kept else None


def _in_each(expr: Case, count: int) -> list[Expr | None]:
    """The value of the branch that each grouping takes; None: NULL."""
    numbers = pl.DataFrame({SET: pl.Series(range(count), dtype=pl.Int64)})
    taken = numbers.with_columns(
        compile_expression(when).value.fill_null(False).alias(str(n)) for n, (when, _) in enumerate(expr.branches)
    )
    branches = [then for _, then in expr.branches]
    return [
        next((then for n, then in enumerate(branches) if row[str(n)]), expr.otherwise)
        for row in taken.iter_rows(named=True)
    ]
