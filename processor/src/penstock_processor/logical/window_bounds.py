"""Columns that are the start or the end of a window, followed through a plan: what is grouped by both is windowed.

Flink: "Window Aggregation", cascading: a query over a windowed result may group by its window_start and window_end
again, under whatever names, and has one result when those windows end. "Window Join": so may a join of such queries.
"""

from __future__ import annotations

from collections.abc import Sequence

from penstock.expressions.nodes import Call, ColumnRef, Literal
from penstock.model.types import DataType, Kind
from penstock_processor.logical.bounded_joins import WindowJoin
from penstock_processor.logical.plan import (
    Aggregate,
    Field,
    Filter,
    Named,
    Node,
    Project,
    WindowAssign,
    WindowKind,
)
from penstock_processor.logical.plan_over import OverAggregate, WindowTopN

__all__ = ["attached", "bound_of", "end_among", "is_time"]

_TIME = "window_time$"
_BOUNDS = ("window_start", "window_end")


def bound_of(node: Node, name: str) -> tuple[str, WindowAssign] | None:
    """`window_start` or `window_end` and the windows that it comes from, if the column of `node` is that."""
    match node:
        case Project():
            expr = next((each.expr for each in node.exprs if each.name == name), None)
            return bound_of(node.input, expr.name) if isinstance(expr, ColumnRef) else None
        case Filter() | OverAggregate() | WindowTopN():
            return bound_of(node.input, name)
        case WindowAssign(kind=WindowKind.ATTACHED):
            return bound_of(node.input, name)
        case WindowAssign():
            return (name, node) if name in _BOUNDS else None
        case WindowJoin():
            return _of_join(node, name)
        case Aggregate():
            if name in node.window_columns:
                return (name, node.input) if name in _BOUNDS else None
            expr = next((each.expr for each in node.keys if each.name == name), None)
            passed = node.input.kind is WindowKind.ATTACHED and isinstance(expr, ColumnRef)
            return bound_of(node.input, expr.name) if passed and isinstance(expr, ColumnRef) else None
        case _:
            return None


def end_among(node: Node, names: Sequence[str]) -> str | None:
    """The column that is the end of a window whose start is among `names` as well, if there is one."""
    found = [(name, bound) for name in names if (bound := bound_of(node, name)) is not None]
    for name, (column, windows) in found:
        if column == "window_end" and any(other == "window_start" and of is windows for _, (other, of) in found):
            return name
    return None


def is_time(node: Node, name: str) -> bool:
    """Whether a column is the event time, or was it in front of a window."""
    match node:
        case Project():
            expr = next((each.expr for each in node.exprs if each.name == name), None)
            return isinstance(expr, ColumnRef) and is_time(node.input, expr.name)
        case Filter():
            return is_time(node.input, name)
        case WindowAssign() if name == node.time_column:
            return True
        case _:
            return any(field.name == name and field.rowtime for field in node.fields)


def attached(node: Node, names: Sequence[str]) -> WindowAssign | None:
    """The windows that rows of `node` have already, if a start and an end of the same are among `names`.

    Each row is in one of them, that which ended when the row came: a window of the last millisecond before its end.
    """
    name = end_among(node, names)
    if name is None:
        return None
    end = next(field for field in node.fields if field.name == name)
    fields = tuple(Field(field.name, field.type) for field in node.fields)
    shown = [Named(field.name, ColumnRef(field.type, name=field.name)) for field in fields]
    before = Literal(DataType(Kind.INTERVAL), 1)
    last = Call(end.type, function="-", args=(ColumnRef(end.type, name=name), before))
    timed = (*fields, Field(_TIME, end.type, rowtime=True))
    below = Project(timed, node, (*shown, Named(_TIME, last)))
    return WindowAssign(timed, below, WindowKind.ATTACHED, _TIME, 1, 1, 0)


def _of_join(node: WindowJoin, name: str) -> tuple[str, WindowAssign] | None:
    """Of a side whose rows are not padded; both sides have the same windows, the left one's stand for them."""
    sides = (
        (node.left, node.left_names, node.kind.pads_right_rows),
        (node.right, node.right_names, node.kind.pads_left_rows or node.kind.left_alone),
    )
    for side, names, padded in sides:
        if name not in names or padded:
            continue
        found = bound_of(side, side.fields[names.index(name)].name)
        if found is None or side is node.left:
            return found
        of_left = bound_of(node.left, node.left_end)
        return found if of_left is None or node.kind.pads_right_rows else (found[0], of_left[1])
    return None
