"""Which columns tell the rows of a plan apart: what early updates and reading a table as a stream depend on."""

from __future__ import annotations

from collections.abc import Set

from penstock.expressions.nodes import ColumnRef
from penstock_processor.logical.plan import Aggregate, Filter, Node, Project, WindowKind

__all__ = ["grouping_of", "telling", "unique_by"]


def unique_by(node: Node, names: Set[str]) -> bool:
    """True if no two rows have equal values in `names`: the grouping keys and the window are among them."""
    match node:
        case Project():
            plain = {n.expr.name for n in node.exprs if n.name in names and isinstance(n.expr, ColumnRef)}
            return unique_by(node.input, plain)
        case Filter():
            return unique_by(node.input, names)
        case Aggregate():
            own = node.input.kind is not WindowKind.ATTACHED
            return {k.name for k in node.keys} <= names and (not own or bool(telling(node) & names))
        case _:
            return False


def telling(node: Aggregate) -> set[str]:
    """Window columns of which each alone tells the windows of a group apart; CUMULATE has many of one start."""
    growing = node.input.kind is WindowKind.CUMULATE
    return set(node.window_columns) - ({"window_start"} if growing else set())


def grouping_of(node: Node) -> Aggregate | None:
    """The windowed grouping on top of a plan, below projections alone."""
    while isinstance(node, Project):
        node = node.input
    return node if isinstance(node, Aggregate) else None
