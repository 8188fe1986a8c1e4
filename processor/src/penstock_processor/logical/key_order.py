"""Changes of one primary key out of several tasks: who tells of them in an order that the table can follow.

A row whose join key changes moves to another task: one takes the old row back, the other brings the new one, and
either may be first. The table goes by the last change of a key, so what comes out of order is put in order before it.
Flink does the same: "table.exec.sink.upsert-materialize".
"""

from __future__ import annotations

from collections.abc import Sequence

from penstock.expressions.nodes import ColumnRef
from penstock_processor.logical.changes import unique_key, updating
from penstock_processor.logical.plan import Filter, GroupAggregate, Node, Project
from penstock_processor.logical.plan_keyed import RegularJoin, TopN
from penstock_processor.logical.rewrite import inputs_of

__all__ = ["in_order_of_key"]


def in_order_of_key(node: Node, key: Sequence[str], *, whole: Node, moved: bool) -> Node:
    """`node`, of which the tasks have made the rows of `whole`, with at most one row for each `key` at any time.

    Of rows that are there at once, the one that came last; it stays until it is taken back itself. `moved`: the rows
    come from other tasks than that of their key.
    """
    if not updating(whole) or _in_order(whole, moved=moved):
        return node
    return TopN(node.fields, node, tuple(key), (), 1, ranked=False, latest=True, ttl_ms=_ttl_ms(whole))


def _in_order(node: Node, *, moved: bool = True) -> bool:
    """Whether all changes of a unique key come from one task, which takes a row back before it brings another."""
    match node:
        case Filter() | Project():
            return _in_order(node.input, moved=moved)
        case GroupAggregate():
            return True
        case TopN():
            if node.limit == 1 or node.ranked:
                return True
            return set(node.partition) <= (unique_key(node.input) or frozenset()) and _in_order(node.input)
        case RegularJoin():
            return (not moved or _stays(node)) and _in_order(node.left) and _in_order(node.right)
        case _:
            return not updating(node)


def _stays(node: RegularJoin) -> bool:
    """Whether the unique key of a join holds what decides in which task a row is."""
    unique, kind = unique_key(node) or frozenset(), node.kind
    sides = []
    for exprs, below, names in (
        (node.left_keys, node.left, node.left_names),
        (node.right_keys, node.right, node.right_names),
    ):
        shown = dict(zip((field.name for field in below.fields), names, strict=True))
        sides.append(all(isinstance(expr, ColumnRef) and shown[expr.name] in unique for expr in exprs))
    left, right = sides
    if not kind.pads_right_rows and left:
        return True
    if not kind.pads_left_rows and not kind.left_alone and right:
        return True
    return left and right


def _ttl_ms(node: Node) -> int | None:
    """The longest time that an operator of the plan keeps a row."""
    own = getattr(node, "ttl_ms", None)
    return max((ttl for ttl in (own, *map(_ttl_ms, inputs_of(node))) if ttl is not None), default=None)
