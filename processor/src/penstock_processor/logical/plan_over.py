"""The plan node of OVER in order of event time: rows with values of the rows before, which are never taken back."""

from __future__ import annotations

from dataclasses import dataclass

from penstock_processor.logical.plan import AggregateCall, Node

__all__ = ["LAG", "OverAggregate"]

LAG = "LAG"  # of a call: the value `options[0]` rows before the last one of the frame


@dataclass(frozen=True, slots=True)
class OverAggregate(Node):
    """Rows with values of those before them. Fields: the input's, then `calls`.

    The frame ends with the row (`rows`), or with the last row of its time. It begins `preceding` rows, or
    milliseconds, before; None: with the first row. `partition`: columns of the input.
    """

    input: Node
    partition: tuple[str, ...]
    time_column: str
    rows: bool
    preceding: int | None
    calls: tuple[AggregateCall, ...]
