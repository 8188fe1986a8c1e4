"""Plan nodes of joins whose state is bounded by windows.

Beside them `plan.IntervalJoin`; all of them name their sides, columns, keys and what is left of the condition alike,
so that rules, prints and distribution treat them alike.
"""

from __future__ import annotations

from dataclasses import dataclass

from penstock.expressions.nodes import Expr
from penstock_processor.logical.plan import IntervalJoin, JoinKind, Node

__all__ = ["BOUNDED_JOINS", "BoundedJoin", "WindowJoin", "read_beside_keys"]


@dataclass(frozen=True, slots=True)
class WindowJoin(Node):
    """Rows of the same window with equal keys, when the window fires. Flink: "Window Join".

    The first two keys are start and end of the windows. `left_end`, `right_end`: the columns of the end. Output
    columns as those of an IntervalJoin; of SEMI and ANTI `left_names` alone, while `residual` reads both sides.
    """

    left: Node
    right: Node
    left_names: tuple[str, ...]
    right_names: tuple[str, ...]
    left_keys: tuple[Expr, ...]  # over left.fields names
    right_keys: tuple[Expr, ...]
    left_end: str
    right_end: str
    residual: Expr | None
    kind: JoinKind = JoinKind.INNER


BoundedJoin = IntervalJoin | WindowJoin
BOUNDED_JOINS = (IntervalJoin, WindowJoin)


def read_beside_keys(join: BoundedJoin) -> tuple[set[str], set[str]]:
    """Columns of the left and of the right input that the join itself goes by, beside its keys."""
    match join:
        case IntervalJoin():
            return {join.left_time}, {join.right_time}
        case WindowJoin():
            return {join.left_end}, {join.right_end}
