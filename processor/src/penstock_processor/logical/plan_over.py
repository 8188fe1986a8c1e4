"""Plan nodes of OVER that never take rows back: values of the rows before, and the best rows of each window."""

from __future__ import annotations

from dataclasses import dataclass, field

from penstock.expressions.nodes import NOWHERE, Span
from penstock_processor.logical.plan import AggregateCall, Node
from penstock_processor.logical.plan_keyed import SortKey

__all__ = ["LAG", "OverAggregate", "WindowTopN"]

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


@dataclass(frozen=True, slots=True)
class WindowTopN(Node):
    """The first `limit` rows of each partition, once the window that they are in has ended.

    Fields: the input's, and the rank. `end`: the end of the window, a column of the partition. Rows that are equal in
    `order` rank as they came; `latest`: the other way round (deduplication, keeping the last).
    """

    input: Node
    partition: tuple[str, ...]
    order: tuple[SortKey, ...]
    limit: int
    end: str
    latest: bool = False
    span: Span = field(default=NOWHERE, compare=False)
