"""GROUPING SETS, ROLLUP and CUBE: several groupings in one. Each row is there once for each of them.

Flink: "Group Aggregation: GROUPING SETS". A key that a grouping does not have is NULL in its groups; GROUPING and
GROUPING_ID tell such a NULL from one of a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, combinations, product

from sqlglot import exp

from penstock.expressions.dialect import span_of
from penstock.expressions.nodes import Call, Case, ColumnRef, Expr, Literal, Span
from penstock.model.types import BIGINT, BOOLEAN
from penstock_processor.logical.plan import SET, Expand, Field, Named, Node
from penstock_processor.sql.findings import refusal

__all__ = ["expanded", "grouping_value", "is_grouping", "sets_of"]


def sets_of(elements: Sequence[exp.Expr], *, most: int, at: Span) -> list[list[exp.Expr]]:
    """The groupings of a GROUP BY, each as its keys. Raises SqlErrors: too_large."""
    found: list[list[exp.Expr]] = [[]]
    for element in elements:
        found = [[*one, *more] for one, more in product(found, _sets(element, most=most))]
        if len(found) > most:
            raise refusal(
                at,
                "too_large",
                message=f"GROUP BY has more than {most:,} grouping sets.",
                remedy="Write those that you need as GROUPING SETS, or several statements.",
            )
    return found


def is_grouping(node: exp.Expr) -> bool:
    """A call of GROUPING or GROUPING_ID."""
    return isinstance(node, exp.Anonymous) and node.name.upper() in ("GROUPING", "GROUPING_ID")


def expanded(rows: Node, keys: Sequence[Named], sets: Sequence[frozenset[int]]) -> tuple[Expand, tuple[Named, ...]]:
    """`rows` once for each grouping, and the keys over that."""
    shown = tuple(Named(f"grouped${n}", key.expr) for n, key in enumerate(keys))
    fields = (*rows.fields, *(Field(each.name, each.expr.type) for each in shown), Field(SET, BIGINT))
    node = Expand(fields, rows, shown, tuple(tuple(sorted(each)) for each in sets))
    above = [Named(key.name, ColumnRef(key.expr.type, name=each.name)) for key, each in zip(keys, shown, strict=True)]
    return node, (*above, Named(SET, ColumnRef(BIGINT, name=SET)))


def grouping_value(arguments: Sequence[int], sets: Sequence[frozenset[int]], *, at: Span) -> Expr:
    """GROUPING_ID of keys, given by number: a bit for each, the first is the highest; 1 if it is not grouped by."""
    numbers = [sum(1 << place for place, key in enumerate(reversed(arguments)) if key not in each) for each in sets]
    if len(sets) == 1:
        return Literal(BIGINT, value=numbers[0], span=at)
    chosen = ColumnRef(BIGINT, name=SET, span=at)
    branches = tuple(
        (Call(BOOLEAN, function="=", args=(chosen, Literal(BIGINT, value=n))), Literal(BIGINT, value=number))
        for n, number in enumerate(numbers)
    )
    return Case(BIGINT, branches=branches, span=at)


def _sets(node: exp.Expr, *, most: int) -> list[list[exp.Expr]]:
    """What one element of GROUP BY stands for."""
    name = node.name.upper() if isinstance(node, exp.Anonymous) else ""
    if isinstance(node, exp.GroupingSets):
        return list(chain.from_iterable(_sets(each, most=most) for each in node.expressions))
    if name not in ("ROLLUP", "CUBE"):
        return [_keys(node)]
    units = [_keys(each) for each in node.expressions]
    if name == "ROLLUP":
        chosen = [units[:count] for count in range(len(units), -1, -1)]
    elif 2 ** len(units) > most:
        raise refusal(
            span_of(node),
            "too_large",
            message=f"CUBE of {len(units)} has {2 ** len(units):,} grouping sets, more than {most:,}.",
            remedy="Write those that you need as GROUPING SETS.",
        )
    else:
        chosen = [list(some) for count in range(len(units), -1, -1) for some in combinations(units, count)]
    return [list(chain.from_iterable(each)) for each in chosen]


def _keys(node: exp.Expr) -> list[exp.Expr]:
    if isinstance(node, exp.Tuple):
        return list(node.expressions)
    return [node.this] if isinstance(node, exp.Paren) else [node]
