"""Operators that keep rows by key, from their plan nodes."""

from __future__ import annotations

from typing import Literal

import polars as pl

from penstock.codecs.frames import polars_type
from penstock_processor.compile.stages import Planned, filter_stage, project_stage
from penstock_processor.logical.changes import updating
from penstock_processor.logical.plan import JoinKind, Named
from penstock_processor.logical.plan_keyed import RANK, RegularJoin, TopN
from penstock_processor.operators.chain import Chain, FilterStage
from penstock_processor.operators.changing_top_n import ChangingTopNOperator
from penstock_processor.operators.pairing import key_name
from penstock_processor.operators.ranking import Ranking
from penstock_processor.operators.regular_join import JoinInput, JoinShape, RegularJoinOperator
from penstock_processor.operators.step import AT, CHANGE, Operator
from penstock_processor.operators.top_n import TopNOperator

__all__ = ["keyed_side", "regular_join", "top_n"]


def top_n(node: TopN, source: Operator, *, operator: str) -> TopNOperator | ChangingTopNOperator:
    """The first rows of each group. `operator`: id of its state."""
    ranking = Ranking(
        tuple(field.name for field in node.input.fields),
        node.partition,
        tuple((key.column, key.descending, key.nulls_last) for key in node.order),
        node.limit,
        RANK if node.ranked else None,
        node.latest,
    )
    if updating(node.input):
        return ChangingTopNOperator(source, ranking, ttl_ms=node.ttl_ms, operator=operator)
    return TopNOperator(source, ranking, ttl_ms=node.ttl_ms, operator=operator)


def keyed_side(node: RegularJoin, side: Literal["l", "r"]) -> Planned:
    """On an input of a join: its columns renamed, its keys beside them. Without keys all rows share one."""
    left = side == "l"
    below, names = (node.left, node.left_names) if left else (node.right, node.right_names)
    keys = node.left_keys if left else node.right_keys
    columns = [pl.col(field.name).alias(name) for field, name in zip(below.fields, names, strict=True)]
    if not keys:
        columns.append(pl.lit(0, pl.Int64).alias(key_name(side, 0)))
    named = [Named(key_name(side, n), key) for n, key in enumerate(keys)]
    return project_stage(named, *columns, reads=[field.name for field in below.fields])


def regular_join(node: RegularJoin, left: Operator, right: Operator, *, operator: str) -> RegularJoinOperator:
    """The join over its sides (behind `keyed_side`). `operator`: id of its state."""
    count, kind = max(1, len(node.left_keys)), node.kind
    equal = pl.all_horizontal([pl.col(key_name("l", n)) == pl.col(key_name("r", n)) for n in range(count)])
    match = [FilterStage(equal, None)]
    if node.residual is not None:
        rest = filter_stage(node.residual).stage
        assert isinstance(rest, FilterStage)
        match.append(rest)
    types = [{name: polars_type(field.type) for field, name in zip(below.fields, names, strict=True)}
             for below, names in ((node.left, node.left_names), (node.right, node.right_names))]  # fmt: skip
    keys = [tuple(key_name(side, n) for n in range(count)) for side in ("l", "r")]
    shape = JoinShape(
        Chain(match, hidden=(AT, CHANGE)),
        tuple(field.name for field in node.fields),
        pairs=not kind.left_alone,
        updating=updating(node),
    )
    given = kind.pads_left_rows or kind is JoinKind.ANTI
    return RegularJoinOperator(
        JoinInput(left, types[0], keys[0], updating(node.left), unmatched=given, matched=kind is JoinKind.SEMI),
        JoinInput(right, types[1], keys[1], updating(node.right), unmatched=kind.pads_right_rows),
        shape,
        ttl_ms=node.ttl_ms,
        operator=operator,
    )
