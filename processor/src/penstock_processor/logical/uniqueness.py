"""Which columns tell the rows of a plan apart: what early updates and reading a table as a stream depend on."""

from __future__ import annotations

from collections.abc import Set

from penstock.expressions.nodes import ColumnRef
from penstock_processor.logical.plan import Aggregate, Filter, Node, Project

__all__ = ["grouping_of", "unique_by"]


def unique_by(node: Node, names: Set[str]) -> bool:
    """True if no two rows have equal values in `names`: the grouping keys and the window are among them."""
    match node:
        case Project():
            plain = {n.expr.name for n in node.exprs if n.name in names and isinstance(n.expr, ColumnRef)}
            return unique_by(node.input, plain)
        case Filter():
            return unique_by(node.input, names)
        case Aggregate():
            return {k.name for k in node.keys} <= names and bool(set(node.window_columns) & names)
        case _:
            return False


def grouping_of(node: Node) -> Aggregate | None:
    """The windowed grouping on top of a plan, below projections alone."""
    while isinstance(node, Project):
        node = node.input
    return node if isinstance(node, Aggregate) else None
