"""Which columns tell the rows of a plan apart: what early updates and reading a table as a stream depend on."""

from __future__ import annotations

from collections.abc import Set

from penstock.expressions.nodes import ColumnRef
from penstock_processor.logical.plan import Aggregate, Filter, Node, Project, WindowKind

__all__ = ["grouped_names", "grouping_of", "telling", "unique_by"]


def unique_by(node: Node, names: Set[str]) -> bool:
    """True if no two rows have equal values in `names`: the grouping keys and the window are among them."""
    match node:
        case Project():
            return unique_by(node.input, _passed(node, names))
        case Filter():
            return unique_by(node.input, names)
        case Aggregate():
            own = node.input.kind is not WindowKind.ATTACHED
            return {k.name for k in node.keys} <= names and (not own or bool(telling(node) & names))
        case _:
            return False


def grouped_names(node: Node, names: Set[str]) -> set[str]:
    """The grouping's own names of those columns of a plan that are passed on unchanged; none without a grouping."""
    match node:
        case Project():
            return grouped_names(node.input, _passed(node, names))
        case Filter():
            return grouped_names(node.input, names)
        case Aggregate():
            return set(names)
        case _:
            return set()


def telling(node: Aggregate) -> set[str]:
    """Window columns of which each alone tells the windows of a group apart; CUMULATE has many of one start."""
    growing = node.input.kind is WindowKind.CUMULATE
    return set(node.window_columns) - ({"window_start"} if growing else set())


def grouping_of(node: Node) -> Aggregate | None:
    """The windowed grouping on top of a plan, below projections alone."""
    while isinstance(node, Project):
        node = node.input
    return node if isinstance(node, Aggregate) else None


def _passed(node: Project, names: Set[str]) -> set[str]:
    """The input's names of columns that are passed on as one of `names`."""
    return {each.expr.name for each in node.exprs if each.name in names and isinstance(each.expr, ColumnRef)}
