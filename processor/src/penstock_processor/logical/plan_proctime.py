"""The node of what goes by the time of processing: windows, sessions, OVER."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from penstock.errors import SqlErrors
from penstock.expressions.nodes import ColumnRef
from penstock_processor.logical.plan import Field, Filter, Node, Project, Scan, Statement
from penstock_processor.sql.findings import refusal

__all__ = ["Pace", "ProcessingTime", "refused_in_parallel", "with_processing_time"]


class Pace(StrEnum):
    """How far the clock has come for the node above: border by border of windows; by the millisecond, for sessions;
    as far as the rows that have come, so that each is worked on at once (OVER).
    """

    WINDOWS = "windows"
    SESSIONS = "sessions"
    ROWS = "rows"


@dataclass(frozen=True, slots=True)
class ProcessingTime(Node):
    """Rows with the time of their cycle as `column`, and the clock in place of a watermark.

    The clock counts as far as it has passed multiples of `grain_ms` plus `offset_ms`; windows above last `size_ms`,
    and sessions at least.
    """

    input: Node
    column: str
    grain_ms: int
    offset_ms: int
    size_ms: int
    pace: Pace = Pace.WINDOWS


def with_processing_time(
    node: Node, column: str, *, grain_ms: int = 1, offset_ms: int = 0, size_ms: int = 1, pace: Pace = Pace.WINDOWS
) -> Node | None:
    """`node` whose column `column` AS PROCTIME() has values; None if it is no such column of a declared table.

    Event times are plain columns from there on: what goes on with the rows is the clock.
    """
    match node:
        case Scan() if column == node.proctime:
            rows = replace(node, fields=tuple(f for f in node.fields if f.name != column), proctime="")
            return ProcessingTime(_timeless(node), rows, column, grain_ms, offset_ms, size_ms, pace)
        case Filter() | Project():
            below = column
            if isinstance(node, Project):
                expr = next((each.expr for each in node.exprs if each.name == column), None)
                if not isinstance(expr, ColumnRef):
                    return None
                below = expr.name
            found = with_processing_time(
                node.input, below, grain_ms=grain_ms, offset_ms=offset_ms, size_ms=size_ms, pace=pace
            )
            return None if found is None else replace(node, fields=_timeless(node), input=found)
        case _:
            return None


def refused_in_parallel(statement: Statement) -> SqlErrors:
    """Several tasks have several clocks."""
    return refusal(
        statement.span,
        "unsupported",
        message="What goes by the time of processing is not shared among tasks in this version.",
        remedy="Remove SET 'parallelism.default', or go by event time.",
    )


def _timeless(node: Node) -> tuple[Field, ...]:
    return tuple(replace(field, rowtime=False) for field in node.fields)
