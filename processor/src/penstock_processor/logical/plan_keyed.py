"""Plan nodes that keep rows by key and take results back: rankings, the best N of each group, joins without time."""

from __future__ import annotations

from dataclasses import dataclass, field

from penstock.expressions.nodes import NOWHERE, Expr, Span
from penstock_processor.logical.plan import JoinKind, Node

__all__ = ["RANK", "Ranked", "RegularJoin", "SortKey", "TopN"]

RANK = "$rank"  # name of the rank's column until a SELECT list gives it another


@dataclass(frozen=True, slots=True)
class SortKey:
    """One term of ORDER BY, a column. Without NULLS FIRST or LAST, NULL is the least value, as in Flink."""

    column: str
    descending: bool = False
    nulls_last: bool = False


@dataclass(frozen=True, slots=True)
class Ranked(Node):
    """ROW_NUMBER() OVER (PARTITION BY ... ORDER BY ...) as a column behind those of the input, without a limit yet.

    `partition` and `order` are columns of the input. It never runs: WHERE makes a `TopN` of it (`bind_rank.limited`).
    """

    input: Node
    partition: tuple[str, ...]
    order: tuple[SortKey, ...]
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class TopN(Node):
    """The first `limit` rows of each partition, updated as rows come; fields: the input's, and the rank if `ranked`.

    Rows that are equal in `order` rank as they came; `latest`: the other way round (deduplication, keeping the last).
    `ttl_ms`: a row that was not written for so long is forgotten; None: nothing asks for that.
    """

    input: Node
    partition: tuple[str, ...]
    order: tuple[SortKey, ...]
    limit: int
    ranked: bool = True
    latest: bool = False
    ttl_ms: int | None = None
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class RegularJoin(Node):
    """A join without bounds in time: both inputs are kept, and what a row gave is taken back when it goes.

    Matches when keys are equal (NULL never is) and `residual`, over both sides' renamed columns, is true. Fields:
    those of `left` as `left_names`, then those of `right` as `right_names`; of SEMI and ANTI the left ones alone.
    """

    left: Node
    right: Node
    left_names: tuple[str, ...]
    right_names: tuple[str, ...]
    left_keys: tuple[Expr, ...]  # over left.fields names
    right_keys: tuple[Expr, ...]
    residual: Expr | None
    kind: JoinKind
    ttl_ms: int | None = None
    span: Span = field(default=NOWHERE, compare=False)
