"""Adjacent projections become one, adjacent filters become one, and a projection that changes nothing goes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from penstock.expressions.nodes import ColumnRef, Expr, walk
from penstock_processor.logical.plan import Filter, Named, Node, Project
from penstock_processor.logical.rewrite import all_of, is_plain, replace_columns

__all__ = ["merge"]


def merge(node: Node) -> Node:
    """Merges `node` with its input where both are projections or both are filters."""
    match node:
        case Project(input=Project() as inner):
            return _projects(node, inner)
        case Project(input=inner) if _changes_nothing(node, inner):
            return inner
        case Filter(input=Filter() as inner):
            both = all_of([inner.predicate, node.predicate])
            assert both is not None
            return replace(inner, predicate=both)
        case _:
            return node


def _projects(outer: Project, inner: Project) -> Node:
    """One projection, unless an expression would then be computed more than once."""
    by: dict[str, Expr] = {n.name: n.expr for n in inner.exprs}
    uses = Counter(e.name for n in outer.exprs for e in walk(n.expr) if isinstance(e, ColumnRef))
    if any(count > 1 and not is_plain(by[name]) for name, count in uses.items()):
        return outer
    merged = tuple(Named(n.name, replace_columns(n.expr, by)) for n in outer.exprs)
    return Project(outer.fields, inner.input, merged)


def _changes_nothing(node: Project, inner: Node) -> bool:
    return node.fields == inner.fields and all(
        isinstance(n.expr, ColumnRef) and n.expr.name == n.name for n in node.exprs
    )
