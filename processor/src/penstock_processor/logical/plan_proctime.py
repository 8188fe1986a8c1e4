"""The node of windows that go by the time of processing."""

from __future__ import annotations

from dataclasses import dataclass, replace

from penstock.errors import SqlErrors
from penstock.expressions.nodes import ColumnRef
from penstock_processor.logical.plan import Filter, Node, Project, Scan, Statement
from penstock_processor.sql.findings import refusal

__all__ = ["ProcessingTime", "refused_in_parallel", "with_processing_time"]


@dataclass(frozen=True, slots=True)
class ProcessingTime(Node):
    """Rows with the time of their cycle as `column`, and the clock in place of a watermark.

    The clock counts as far as it has passed multiples of `grain_ms` plus `offset_ms`; windows above last `size_ms`.
    """

    input: Node
    column: str
    grain_ms: int
    offset_ms: int
    size_ms: int


def with_processing_time(node: Node, column: str, *, grain_ms: int, offset_ms: int, size_ms: int) -> Node | None:
    """`node` whose column `column` AS PROCTIME() has values; None if it is no such column of a declared table."""
    match node:
        case Scan() if column == node.proctime:
            rows = replace(node, fields=tuple(f for f in node.fields if f.name != column), proctime="")
            return ProcessingTime(node.fields, rows, column, grain_ms, offset_ms, size_ms)
        case Filter() | Project():
            below = column
            if isinstance(node, Project):
                expr = next((each.expr for each in node.exprs if each.name == column), None)
                if not isinstance(expr, ColumnRef):
                    return None
                below = expr.name
            found = with_processing_time(node.input, below, grain_ms=grain_ms, offset_ms=offset_ms, size_ms=size_ms)
            return None if found is None else replace(node, input=found)
        case _:
            return None


def refused_in_parallel(statement: Statement) -> SqlErrors:
    """Several tasks have several clocks."""
    return refusal(
        statement.span,
        "unsupported",
        message="Windows by the time of processing are not shared among tasks in this version.",
        remedy="Remove SET 'parallelism.default', or use a window over event time.",
    )
