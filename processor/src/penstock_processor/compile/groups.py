"""GroupAggregate nodes as the shape of their operator: what keeps a group, and what can take rows out of it again."""

from __future__ import annotations

import polars as pl

from penstock_processor.compile.aggregates import Argument, arguments_and_results, collected_feed
from penstock_processor.compile.stages import Planned, project_stage
from penstock_processor.logical.changes import updating
from penstock_processor.logical.plan import SET, Expand, GroupAggregate
from penstock_processor.operators.accumulators import Accumulator, Count, Retracting
from penstock_processor.operators.collected import CollectedFeed
from penstock_processor.operators.distinct import DistinctFeed
from penstock_processor.operators.expand import ExpandOperator
from penstock_processor.operators.group_aggregate import GroupAggregateOperator
from penstock_processor.operators.keyed_groups import ROWS, KeyedShape
from penstock_processor.operators.step import Operator
from penstock_processor.operators.value_counts import ValueCounts

__all__ = ["expand_operator", "group_operator", "keys_stage"]


def group_operator(node: GroupAggregate, source: Operator, operator: str, *, at_sink: bool) -> GroupAggregateOperator:
    """Over rows with the columns of `argument_stage`. `at_sink`: nobody behind it keeps state of its rows."""
    return GroupAggregateOperator(source, _shape(node), operator, updating=updating(node), refresh=not at_sink)


def keys_stage(node: Expand) -> Planned:
    """The projection below: the columns of the input, and the keys."""
    columns = [pl.col(field.name) for field in node.input.fields]
    return project_stage(node.keys, *columns, reads=[field.name for field in node.input.fields])


def expand_operator(node: Expand, source: Operator) -> ExpandOperator:
    """Over rows with the columns of `keys_stage`."""
    names = [key.name for key in node.keys]
    left_out = [[name for n, name in enumerate(names) if n not in each] for each in node.sets]
    return ExpandOperator(source, left_out, number=SET)


def _shape(node: GroupAggregate) -> KeyedShape:
    """Accumulators and results. The input has the columns of `argument_stage`.

    Over rows that are taken back MIN, MAX and DISTINCT keep every value, counted.
    """
    keys = tuple(f"$k{n}" for n in range(len(node.keys)))
    arguments, results = arguments_and_results(node.calls)
    plain: list[Accumulator] = [Count(ROWS, None)]
    feeds: list[DistinctFeed | CollectedFeed] = []
    values = []
    for argument in arguments:
        made = tuple(argument.accumulators.values())
        if updating(node.input):
            more, counted = _taken_back(argument, keys)
            plain += more
            values += counted
        elif argument.mode == "d":
            feeds.append(DistinctFeed(argument.column, argument.held, keys=keys, accumulators=made))
        elif argument.mode:
            feeds.append(collected_feed(argument, keys))
        else:
            plain += made
    shown = [pl.col(key).alias(field.name) for key, field in zip(keys, node.fields, strict=False)]
    return KeyedShape(
        key_names=keys,
        key_types=tuple(key.expr.type for key in node.keys),
        accumulators=tuple(plain),
        feeds=tuple(feeds),
        values=tuple(values),
        outputs=(*shown, *results),
        ttl_ms=node.ttl_ms,
    )


def _taken_back(argument: Argument, keys: tuple[str, ...]) -> tuple[list[Retracting], list[ValueCounts]]:
    """What the calls over an argument need to take values back."""
    extremes = [(kind.upper(), argument.column + kind) for kind in ("min", "max") if kind in argument.accumulators]
    plain = [each for each in argument.accumulators.values() if isinstance(each, Retracting)]
    fed, rest = (plain, []) if argument.mode == "d" else ([], plain)
    if not fed and not extremes:
        return rest, []
    counted = ValueCounts(argument.column, argument.held, keys=keys, accumulators=fed, extremes=extremes)
    return rest, [counted]
