"""Joins of the plan as operators: sides with their keys and times beside the columns, conditions, what is padded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import polars as pl

from penstock.codecs.frames import polars_type
from penstock_processor.compile.stages import Planned, filter_stage, project_stage, rename_stage
from penstock_processor.logical.bounded_joins import BoundedJoin, TemporalJoin, WindowJoin
from penstock_processor.logical.plan import IntervalJoin, JoinKind, Named, Node
from penstock_processor.logical.plan_lookup import LookupJoin, lookups_below
from penstock_processor.operators.chain import Chain, FilterStage, ProjectStage
from penstock_processor.operators.join import IntervalJoinOperator, JoinSide
from penstock_processor.operators.lookup_join import LookupJoinOperator
from penstock_processor.operators.pairing import KeyedSide, Padding, Pairing, key_name, time_name
from penstock_processor.operators.step import AT, Operator
from penstock_processor.operators.temporal_join import TemporalJoinOperator
from penstock_processor.operators.window_join import WindowJoinOperator

__all__ = ["join_operator", "lookup_operator", "lookup_side", "side_stage"]


def side_stage(node: BoundedJoin, side: Literal["l", "r"]) -> Planned:
    """On an input: its columns renamed, its keys and its time beside them. Without keys all rows share one."""
    left = side == "l"
    source, names, keys = (
        (node.left, node.left_names, node.left_keys) if left else (node.right, node.right_names, node.right_keys)
    )
    match node:
        case IntervalJoin() | TemporalJoin():
            time = node.left_time if left else node.right_time
        case WindowJoin():
            time = node.left_end if left else node.right_end
    columns = [pl.col(field.name).alias(name) for field, name in zip(source.fields, names, strict=True)]
    columns.append(pl.col(time).dt.timestamp("ms").alias(time_name(side)))
    if not keys:
        columns.append(pl.lit(0, pl.Int64).alias(key_name(side, 0)))
    named = [Named(key_name(side, n), key) for n, key in enumerate(keys)]
    return project_stage(named, *columns, reads=[field.name for field in source.fields])


def join_operator(node: BoundedJoin, left: Operator, right: Operator, above: Sequence[Planned], *, operator: str
                  ) -> IntervalJoinOperator | TemporalJoinOperator | WindowJoinOperator:  # fmt: skip
    """The operator of a join over its sides (behind `side_stage`), with the stateless stages above it."""
    keys, kind = max(1, len(node.left_keys)), node.kind
    pairing = _pairing(node, keys, above)
    sides = KeyedSide("l", left, keys), KeyedSide("r", right, keys)
    match node:
        case IntervalJoin():
            return IntervalJoinOperator(
                JoinSide("l", left, keys, -node.lower_ms, kind.pads_left_rows),
                JoinSide("r", right, keys, node.upper_ms, kind.pads_right_rows),
                lower_ms=node.lower_ms, upper_ms=node.upper_ms, pairing=pairing, operator=operator,
            )  # fmt: skip
        case WindowJoin():
            gives: Literal["pairs", "matched", "unmatched"] = "pairs"
            if kind.left_alone:
                gives = "matched" if kind is JoinKind.SEMI else "unmatched"
            return WindowJoinOperator(*sides, pairing=pairing, gives=gives, operator=operator)
        case TemporalJoin():
            return TemporalJoinOperator(*sides, pairing=pairing, in_order=node.in_order, operator=operator)


def lookup_side(node: LookupJoin) -> Planned:
    """On the left side of a lookup join: its columns renamed, and its keys beside them."""
    columns = [pl.col(f.name).alias(name) for f, name in zip(node.left.fields, node.left_names, strict=True)]
    named = [Named(key_name("l", n), key) for n, key in enumerate(node.left_keys)]
    return project_stage(named, *columns, reads=[f.name for f in node.left.fields])


def lookup_operator(node: LookupJoin, source: Operator, above: Sequence[Planned], *, operator: str
                    ) -> LookupJoinOperator:  # fmt: skip
    """The operator of a lookup join behind `lookup_side`, with the stateless stages above it."""
    left = {name: polars_type(f.type) for f, name in zip(node.left.fields, node.left_names, strict=True)}
    right = {name: polars_type(c.type) for c, name in zip(node.table.columns, node.right_names, strict=True)}
    return LookupJoinOperator(
        source,
        table=node.table.name,
        columns=[column.name for column in node.table.columns],
        key_columns=node.key_columns,
        condition=None if node.residual is None else _chain([filter_stage(node.residual)]),
        tail=_chain(_with_output(node, above)),
        padding=Padding(node.kind.pads_left_rows, of_right=False, left=left, right=right),
        operator=operator,
        depth=lookups_below(node.left),
    )


def _with_output(node: Node, above: Sequence[Planned]) -> list[Planned]:
    """The stages above a join; its own columns where no projection chooses others."""
    if any(isinstance(planned.stage, ProjectStage) for planned in above):
        return list(above)
    return [*above, rename_stage(node.fields, [field.name for field in node.fields])]


def _pairing(node: BoundedJoin, keys: int, above: Sequence[Planned]) -> Pairing:
    equal = pl.all_horizontal([pl.col(key_name("l", n)) == pl.col(key_name("r", n)) for n in range(keys)])
    condition = [Planned(FilterStage(equal, None), frozenset())]
    if node.residual is not None:
        condition.append(filter_stage(node.residual))
    sides = [
        {name: polars_type(field.type) for field, name in zip(side.fields, names, strict=True)}
        for side, names in ((node.left, node.left_names), (node.right, node.right_names))
    ]
    kind = node.kind
    padding = Padding(kind.pads_left_rows, kind.pads_right_rows, sides[0], {} if kind.left_alone else sides[1])
    return Pairing(
        _chain(condition), _chain(_with_output(node, above)), padding, marks=padding.any or kind.left_alone
    )


def _chain(stages: Sequence[Planned]) -> Chain:
    return Chain([planned.stage for planned in stages], hidden=(AT,))
