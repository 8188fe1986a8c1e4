"""What goes by the time of processing, as operators."""

from __future__ import annotations

from penstock_processor.logical.plan_proctime import Pace, ProcessingTime
from penstock_processor.operators.processing_time import ProcessingTimeOperator
from penstock_processor.operators.step import Operator

__all__ = ["clocked"]


def clocked(node: ProcessingTime, source: Operator, operator: str) -> ProcessingTimeOperator:
    """The node over its input. `operator`: id of its state."""
    return ProcessingTimeOperator(
        source, column=node.column, grain_ms=node.grain_ms, offset_ms=node.offset_ms, size_ms=node.size_ms,
        operator=operator, sessions=node.pace is Pace.SESSIONS, at_once=node.pace is Pace.ROWS,
    )  # fmt: skip
