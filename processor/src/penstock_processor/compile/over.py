"""OverAggregate nodes as the shape of an operator: argument columns, calls over frames, results over those."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from penstock.codecs.frames import polars_type
from penstock.model.types import DOUBLE, Kind
from penstock_processor.compile.aggregates import Argument, arguments_and_results
from penstock_processor.compile.stages import Planned, project_stage, references
from penstock_processor.logical.plan import AggregateCall, Named
from penstock_processor.logical.plan_over import LAG, OverAggregate, WindowTopN
from penstock_processor.operators.chain import ProjectStage
from penstock_processor.operators.over import TIME, OverLag, OverShape
from penstock_processor.operators.over_calls import OverCall, OverCount, OverPick, OverSum, Pick
from penstock_processor.operators.window_top_n import WindowRanking

__all__ = ["over_shape", "over_stage", "window_ranking"]

_PICKS: dict[str, Pick] = {"min": "MIN", "max": "MAX", "F": "FIRST", "L": "LAST"}


def over_stage(node: OverAggregate) -> Planned:
    """The projection below the operator: the input's columns, TIME, arguments as `$a0`, ..., of LAG as `$l0`."""
    arguments, _ = arguments_and_results(_plain(node.calls))
    names = [field.name for field in node.input.fields]
    lags = [Named(f"$l{n}", call.arg) for n, call in enumerate(_lagging(node)) if call.arg is not None]
    made = project_stage(lags, pl.col(node.time_column).dt.timestamp("ms").alias(TIME), reads=names)
    assert isinstance(made.stage, ProjectStage)
    columns = (*(pl.col(name) for name in names), *made.stage.columns)
    columns = (*columns, *(argument.compiled.value.alias(argument.column) for argument in arguments))
    errors = made.stage.errors + tuple(a.compiled.error for a in arguments if a.compiled.error is not None)
    reads = made.reads | references(call.arg for call in node.calls if call.arg is not None)
    return Planned(ProjectStage(columns, errors), reads)


def over_shape(node: OverAggregate) -> OverShape:
    """What the operator computes. The input has the columns of `over_stage`."""
    plain = _plain(node.calls)
    arguments, results = arguments_and_results(plain)
    calls: list[OverCall] = [OverCount("$rows", None)] if any(call.arg is None for call in plain) else []
    zeros = []
    for argument in arguments:
        made = [_over_call(argument, kind) for kind in argument.accumulators]
        calls += made
        zeros += [pl.lit(0.0).alias(f"{call.name}~") for call in made if _is_double_sum(argument, call)]
    by_name = dict(zip((call.name for call in plain), results, strict=True))
    lags = [_lag(n, call) for n, call in enumerate(_lagging(node))]
    types = {field.name: field.type for field in node.input.fields}
    outputs = [by_name[call.name] if call.name in by_name else _lagged(node, call) for call in node.calls]
    return OverShape(
        columns=tuple(types),
        partition=node.partition,
        partition_types=tuple(types[name] for name in node.partition),
        rows=node.rows,
        preceding=node.preceding,
        arguments=(*(argument.column for argument in arguments), *(lag.column for lag in lags)),
        calls=tuple(calls),
        lags=tuple(lags),
        zeros=tuple(zeros),
        outputs=tuple(outputs),
    )


def window_ranking(node: WindowTopN) -> WindowRanking:
    """How the rows of windows are ranked."""
    columns = tuple(field.name for field in node.input.fields)
    order = tuple((key.column, key.descending, key.nulls_last) for key in node.order)
    return WindowRanking(columns, node.partition, order, node.limit, node.end,
                         node.fields[-1].name, node.latest)  # fmt: skip


def _plain(calls: Sequence[AggregateCall]) -> list[AggregateCall]:
    return [call for call in calls if call.function != LAG]


def _lagging(node: OverAggregate) -> list[AggregateCall]:
    return [call for call in node.calls if call.function == LAG]


def _over_call(argument: Argument, kind: str) -> OverCall:
    """The call for an accumulator of the same name."""
    column, held = argument.column, argument.held
    name, dtype = column + kind, polars_type(held)
    if kind == "n":
        return OverCount(name, column)
    if kind in _PICKS:
        return OverPick(name, column, dtype=dtype, pick=_PICKS[kind])
    if held.kind is Kind.DECIMAL:
        return OverSum(name, column, dtype=pl.Decimal(38, held.scale or 0), scale=held.scale or 0)
    return OverSum(name, column, dtype=dtype, squares=kind == "q")


def _is_double_sum(argument: Argument, call: OverCall) -> bool:
    return argument.held == DOUBLE and isinstance(call, OverSum)


def _lag(number: int, call: AggregateCall) -> OverLag:
    assert call.arg is not None
    dtype, offset = polars_type(call.arg.type), call.options[0]
    assert isinstance(offset, int)
    return OverLag(f"$v{number}", f"$l{number}", dtype, offset)


def _lagged(node: OverAggregate, call: AggregateCall) -> pl.Expr:
    """The value under the call's name."""
    return pl.col(f"$v{_lagging(node).index(call)}").alias(call.name)
