"""Plan nodes of joins whose state is bounded by windows, or by the versions of a table.

Beside them `plan.IntervalJoin`; all of them name their sides, columns, keys and what is left of the condition alike,
so that rules, prints and distribution treat them alike.
"""

from __future__ import annotations

from dataclasses import dataclass

from penstock.expressions.nodes import Expr
from penstock_processor.logical.plan import IntervalJoin, JoinKind, Node

__all__ = ["BOUNDED_JOINS", "BoundedJoin", "TemporalJoin", "WindowJoin", "read_beside_keys"]


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


@dataclass(frozen=True, slots=True)
class TemporalJoin(Node):
    """Rows of the left side with the version of the right one that was valid at their time: INNER or LEFT.

    Rows of `right` are versions of the rows of a table, of which `right_keys` tell each apart; each is valid from
    `right_time` until the next one. `in_order`: a version that is older than one before it does not count (what
    keeps the last row of each key has dropped it). Flink: "Event Time Temporal Join".
    """

    left: Node
    right: Node
    left_names: tuple[str, ...]
    right_names: tuple[str, ...]
    left_keys: tuple[Expr, ...]  # over left.fields names
    right_keys: tuple[Expr, ...]
    left_time: str
    right_time: str
    residual: Expr | None
    kind: JoinKind = JoinKind.INNER
    in_order: bool = False


BoundedJoin = IntervalJoin | WindowJoin | TemporalJoin
BOUNDED_JOINS = (IntervalJoin, WindowJoin, TemporalJoin)


def read_beside_keys(join: BoundedJoin) -> tuple[set[str], set[str]]:
    """Columns of the left and of the right input that the join itself goes by, beside its keys."""
    match join:
        case IntervalJoin() | TemporalJoin():
            return {join.left_time}, {join.right_time}
        case WindowJoin():
            return {join.left_end}, {join.right_end}
