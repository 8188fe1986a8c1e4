"""The plan node of MATCH_RECOGNIZE: a pattern of rows of one key in order of time, and what is told of each match."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from penstock.expressions.nodes import NOWHERE, ColumnRef, Expr, Span, walk
from penstock.model.types import DataType
from penstock_processor.logical.plan import Named, Node

__all__ = ["MATCH_INSTANT", "MATCH_TIME", "MatchAggregate", "MatchOrder", "MatchRecognize", "PatternVariable",
           "Reach", "Skip", "columns_of"]  # fmt: skip

#: In measures: the event time of the match (MATCH_ROWTIME) as TIMESTAMP, and as TIMESTAMP_LTZ if its rows have such.
MATCH_TIME = "$match_time"
MATCH_INSTANT = "$match_instant"


class Skip(StrEnum):
    """AFTER MATCH SKIP: where a match lets the next one begin."""

    PAST_LAST_ROW = "PAST LAST ROW"
    TO_NEXT_ROW = "TO NEXT ROW"
    TO_FIRST = "TO FIRST"
    TO_LAST = "TO LAST"


@dataclass(frozen=True, slots=True)
class MatchOrder:
    """A term of ORDER BY behind the event time: the order of rows of one moment."""

    column: str
    descending: bool
    nulls_last: bool


@dataclass(frozen=True, slots=True)
class PatternVariable:
    """`least` to `most` rows (None: no limit) in a row for which `condition` is true (None: any row).

    `condition` is over the columns of the input, of the row itself, and over reaches and aggregates of the node.
    `greedy`: a row that it can take is taken by it and not by what follows in the pattern.
    """

    name: str
    least: int
    most: int | None
    greedy: bool
    condition: Expr | None


@dataclass(frozen=True, slots=True)
class Reach:
    """FIRST or LAST of a column: of the rows of `variable` (None: of all), the one `offset` places from that end.

    In the condition of a variable, its own rows end with the row that the condition is asked for.
    """

    name: str
    variable: str | None
    first: bool
    offset: int
    column: str
    type: DataType


@dataclass(frozen=True, slots=True)
class MatchAggregate:
    """COUNT, SUM, AVG, MIN or MAX of `arg`, over columns of the input, of the rows of `variable` (None: of all)."""

    name: str
    variable: str | None
    function: str
    arg: Expr
    type: DataType


@dataclass(frozen=True, slots=True)
class MatchRecognize(Node):
    """One row a match: `partition` columns, then `measures`, which are over reaches, aggregates and MATCH_TIME.

    Rows of equal `partition` are taken in order of `time_column`, then `order`, as the watermark passes them.
    `skip_to`: the variable of TO FIRST and TO LAST. `within_ms`: from its first row on a match takes less time than
    that. `ttl_ms`: a key that had no row for so long of event time is forgotten. A key holds at most `matches_max`
    matches that have begun, of `rows_max` rows each.
    """

    input: Node
    partition: tuple[str, ...]
    time_column: str
    order: tuple[MatchOrder, ...]
    pattern: tuple[PatternVariable, ...]
    skip: Skip
    skip_to: str | None
    within_ms: int | None
    measures: tuple[Named, ...]
    reaches: tuple[Reach, ...]
    aggregates: tuple[MatchAggregate, ...]
    matches_max: int
    rows_max: int
    ttl_ms: int | None = None
    span: Span = field(default=NOWHERE, compare=False)


def columns_of(node: MatchRecognize) -> set[str]:
    """What the node reads of its input, and the names of its own reaches and aggregates."""
    exprs = [*(v.condition for v in node.pattern), *(each.arg for each in node.aggregates)]
    exprs += [measure.expr for measure in node.measures]
    read = {part.name for expr in exprs if expr is not None for part in walk(expr) if isinstance(part, ColumnRef)}
    read |= {*node.partition, node.time_column, *(term.column for term in node.order)}
    return read | {reach.column for reach in node.reaches}
