"""Operators that keep rows by key, from their plan nodes."""

from __future__ import annotations

from penstock_processor.logical.changes import updating
from penstock_processor.logical.plan_keyed import RANK, TopN
from penstock_processor.operators.step import Operator
from penstock_processor.operators.top_n import Ranking, TopNOperator

__all__ = ["top_n"]


def top_n(node: TopN, source: Operator, *, operator: str) -> TopNOperator:
    """The first rows of each group. `operator`: id of its state."""
    ranking = Ranking(
        tuple(field.name for field in node.input.fields),
        node.partition,
        tuple((key.column, key.descending, key.nulls_last) for key in node.order),
        node.limit,
        RANK if node.ranked else None,
        node.latest,
    )
    return TopNOperator(source, ranking, updating=updating(node.input), ttl_ms=node.ttl_ms, operator=operator)
