"""Aggregate nodes as the shape of an operator: arguments, accumulators that calls share, and the results over them.

Result types are Flink's (docs: "Built-in Aggregate Functions"): SUM of integers keeps its type and wraps around, AVG
of integers truncates, DECIMAL sums have 38 digits, AVG of DECIMAL rounds half up. SUM, AVG, MIN and MAX of no value
are NULL. STDDEV and VAR are computed as DOUBLE and have their argument's type, truncated for integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from penstock.codecs.frames import polars_type
from penstock.expressions.compile import Compiled, compile_expression
from penstock.expressions.decimals import divide, exactly
from penstock.expressions.nodes import Expr
from penstock.model.types import BIGINT, DOUBLE, DataType, Kind, row_of
from penstock_processor.compile.stages import Planned, project_stage, references
from penstock_processor.logical.plan import Aggregate, AggregateCall, GroupAggregate, Named, WindowKind
from penstock_processor.operators.accumulators import (
    Accumulator,
    Count,
    DecimalSum,
    DoubleSum,
    Extreme,
    IntegerSum,
    ObjectExtreme,
    SquareSum,
)
from penstock_processor.operators.arrival import Arrival
from penstock_processor.operators.chain import Chain, ProjectStage
from penstock_processor.operators.collected import Collected, CollectedFeed, counted, percentiles
from penstock_processor.operators.distinct import DistinctFeed
from penstock_processor.operators.groups import AggregateShape
from penstock_processor.operators.sessions import session_bounds
from penstock_processor.operators.sketches import DistinctCount, HeavyHitters, Quantiles, Sketches
from penstock_processor.operators.step import SLICE
from penstock_processor.operators.window_assign import window_columns
from penstock_processor.operators.windows import Windows

__all__ = ["WINDOW_COLUMNS", "Argument", "argument_stage", "arguments_and_results", "by_window", "collected_feed",
           "shape_of"]  # fmt: skip

_POPULATION = ("STDDEV_POP", "VAR_POP")
_SPREAD = frozenset({*_POPULATION, "STDDEV", "STDDEV_SAMP", "VARIANCE", "VAR_SAMP"})
_AS_DOUBLE = frozenset({*_SPREAD, "PERCENTILE", "APPROX_QUANTILE"})
_AS_WELL_ALL = ("MIN", "MAX", "FIRST_VALUE", "LAST_VALUE")  # DISTINCT changes nothing
WINDOW_COLUMNS = ("window_start", "window_end", "window_time")


_BYTES = {Kind.TINYINT: 1, Kind.SMALLINT: 2, Kind.INT: 4, Kind.BIGINT: 8}


@dataclass(slots=True)
class Argument:
    """An argument column: its name, the type in which it is held, and accumulators over it by kind."""

    column: str
    held: DataType
    compiled: Compiled
    reads: frozenset[str]
    mode: str = ""  # "d": DISTINCT; "c": all values are collected; "cd": each once
    accumulators: dict[str, Accumulator] = field(default_factory=dict)
    collected: list[Collected] = field(default_factory=list)


def by_window(node: Aggregate) -> bool:
    """Whether state is kept by window and not by slice: slices cannot be merged, or rows see the window."""
    if node.input.kind is WindowKind.ATTACHED:
        return False
    shared = node.input.slide_ms != node.input.size_ms
    return (shared and (node.updates or any(call.distinct or call.collects for call in node.calls))) or bool(
        _all_references(node) & set(WINDOW_COLUMNS)
    )


def argument_stage(node: Aggregate | GroupAggregate, *more: pl.Expr) -> Planned:
    """The projection below the operator: keys as `$k0`, ..., arguments as `$a0`, ..., and `more`."""
    planned = project_stage([Named(f"$k{n}", key.expr) for n, key in enumerate(node.keys)])
    arguments = _arguments(node.calls)[0]
    assert isinstance(planned.stage, ProjectStage)
    columns = (*planned.stage.columns, *(a.compiled.value.alias(a.column) for a in arguments), *more)
    errors = planned.stage.errors + tuple(a.compiled.error for a in arguments if a.compiled.error is not None)
    return Planned(ProjectStage(columns, errors), _all_references(node))


def shape_of(
    node: Aggregate, windows: Windows | None, early: Chain | None, *, combined: bool = False
) -> AggregateShape:
    """Accumulators and results. The input has the columns of `argument_stage`, or is `combined` of them.

    `windows` None: sessions.
    """
    keys = tuple(f"$k{n}" for n in range(len(node.keys)))
    arguments, by_call = _arguments(node.calls)
    rows = Count("$rows", None)
    plain: list[Accumulator] = [rows]
    results = [_result(call, argument) for call, argument in zip(node.calls, by_call, strict=True)]
    distinct, collected = [], []
    for argument in arguments:
        made = tuple(argument.accumulators.values())
        if argument.mode == "d":
            distinct.append(DistinctFeed(argument.column, argument.held, keys=keys, accumulators=made))
        elif argument.mode:
            collected.append(collected_feed(argument, keys))
        else:
            plain += made
    names = [f.name for f in node.fields]
    shown = [pl.col(key).alias(name) for key, name in zip(keys, names, strict=False)]
    return AggregateShape(
        key_names=keys,
        key_types=tuple(key.expr.type for key in node.keys),
        accumulators=tuple(plain),
        distinct=tuple(distinct),
        outputs=(*shown, *_window_outputs(node, windows), *results),
        early=early,
        combined=combined,
        collected=tuple(collected),
    )


def arguments_and_results(calls: Sequence[AggregateCall]) -> tuple[list[Argument], list[pl.Expr]]:
    """Argument columns with the accumulators that results need, and the results over their saved columns."""
    arguments, by_call = _arguments(calls)
    return arguments, [_result(call, argument) for call, argument in zip(calls, by_call, strict=True)]


def collected_feed(argument: Argument, keys: tuple[str, ...]) -> CollectedFeed:
    """What keeps the values of an argument for calls that need all of them."""
    return CollectedFeed(argument.column, polars_type(argument.held), keys=keys, results=argument.collected,
                         distinct="d" in argument.mode, nulls=False)  # fmt: skip


def _all_references(node: Aggregate | GroupAggregate) -> frozenset[str]:
    exprs = [key.expr for key in node.keys]
    exprs += [e for call in node.calls for e in (call.arg, call.filter) if e is not None]
    return references(exprs)


def _window_outputs(node: Aggregate, windows: Windows | None) -> list[pl.Expr]:
    """The grouped window columns under the node's names (fields after the keys)."""
    fields = node.fields[len(node.keys) : len(node.keys) + len(node.window_columns)]
    types = {name: polars_type(f.type) for name, f in zip(node.window_columns, fields, strict=True)}
    bounds = session_bounds(node.input.size_ms) if windows is None else windows.bounds(pl.col(SLICE))
    made = window_columns(bounds, [types.get(name, pl.Datetime("ms")) for name in WINDOW_COLUMNS])
    by_name = dict(zip(WINDOW_COLUMNS, made, strict=True))
    return [by_name[name].alias(f.name) for name, f in zip(node.window_columns, fields, strict=True)]


def _arguments(calls: Sequence[AggregateCall]) -> tuple[list[Argument], list[Argument | None]]:
    """Argument columns, each once, and the one of each call (None: COUNT(*) of all rows)."""
    made: dict[tuple[Expr | None, Expr | None, str, str | bool], Argument] = {}
    by_call: list[Argument | None] = []
    for call in calls:
        if call.arg is None and call.filter is None:
            by_call.append(None)
            continue
        mode = ("c" if call.collects else "") + ("d" if call.distinct and call.function not in _AS_WELL_ALL else "")
        key = (
            call.arg,
            call.filter,
            mode,
            call.function if call.function == "ARRAY_AGG" else call.function in _AS_DOUBLE,
        )
        if key not in made:
            made[key] = _argument(call, f"$a{len(made)}{mode}", mode)
        by_call.append(made[key])
    return list(made.values()), by_call


def _argument(call: AggregateCall, column: str, mode: str) -> Argument:
    if call.arg is None:
        held, compiled = BIGINT, Compiled(pl.lit(1, dtype=pl.Int64))
    else:
        compiled = compile_expression(call.arg)
        held, value = _held(call.arg.type, compiled.value)
        if call.function in _AS_DOUBLE and not held.is_nested:
            held, value = DOUBLE, compiled.value.cast(pl.Float64)
        if call.function == "ARRAY_AGG":  # NULL counts, but not in rows that FILTER leaves out
            held, value = row_of(("value", held)), pl.struct(value.alias("value"))
        compiled = Compiled(value, compiled.error)
    reads = references(e for e in (call.arg, call.filter) if e is not None)
    if call.filter is not None:
        condition = compile_expression(call.filter)
        error = condition.error
        if compiled.error is not None:
            reached = pl.when(condition.value).then(compiled.error)
            error = reached if error is None else pl.coalesce(error, reached)
        compiled = Compiled(pl.when(condition.value).then(compiled.value), error)
    return Argument(column, held, compiled, reads, mode)


def _held(data_type: DataType, value: pl.Expr) -> tuple[DataType, pl.Expr]:
    """The type that accumulators hold values in: integers, times and booleans as BIGINT, FLOAT as DOUBLE."""
    if data_type.kind in (Kind.FLOAT, Kind.DOUBLE):
        return DOUBLE, value.cast(pl.Float64)
    if data_type.kind in (Kind.DATE, Kind.TIME, Kind.TIMESTAMP, Kind.TIMESTAMP_LTZ):
        return BIGINT, value.to_physical().cast(pl.Int64)
    if data_type.is_integer or data_type.kind is Kind.BOOLEAN:
        return BIGINT, value.cast(pl.Int64)
    return data_type, value


def _result(call: AggregateCall, argument: Argument | None) -> pl.Expr:
    """The call's value over saved columns, with the call's name and type; makes the accumulators that it needs."""
    dtype = polars_type(call.type)
    if argument is None:
        return pl.col("$rows").cast(dtype).alias(call.name)
    if call.collects:
        return _collect(call, argument).cast(dtype).alias(call.name)
    if call.function in ("MIN", "MAX"):
        return _extreme(call.function, argument).cast(dtype).alias(call.name)
    if call.function in ("FIRST_VALUE", "LAST_VALUE"):
        return _arrival(call, argument).cast(dtype).alias(call.name)
    if call.function.startswith("APPROX_"):
        return _sketched(call, argument).cast(dtype).alias(call.name)
    count = _need(argument, "n")
    if call.function == "COUNT":
        return count.cast(dtype).alias(call.name)
    total = _sum(argument)
    if call.function in _SPREAD:
        return _spread(call, argument, total, count).alias(call.name)
    if call.function == "SUM":
        value = total
    elif argument.held.kind is Kind.DECIMAL:
        value = exactly(divide, total, count, precision=call.type.precision or 38, scale=call.type.scale or 0)
    elif argument.held.kind is Kind.DOUBLE:
        value = total / count
    else:
        value = pl.when(total < 0).then(-(-total // count)).otherwise(total // count)
    cast = value.cast(dtype, wrap_numerical=True) if call.type.is_integer else value.cast(dtype)
    return pl.when(count > 0).then(cast).alias(call.name)


def _spread(call: AggregateCall, argument: Argument, total: pl.Expr, count: pl.Expr) -> pl.Expr:
    """Variance or standard deviation, of the values or of a sample; rounding may not make it negative."""
    among = count if call.function in _POPULATION else count - 1
    square = (_need(argument, "q") + pl.col(f"{argument.column}q~") - total * total / count) / among
    value = pl.when(square < 0).then(0.0).otherwise(square)
    if call.function.startswith("STDDEV"):
        value = value.sqrt()
    dtype = polars_type(call.type)
    if call.type.is_integer:
        value = value.clip(upper_bound=2.0 ** (8 * _BYTES[call.type.kind] - 1) - 1).cast(dtype, strict=False)
    elif call.type.kind is Kind.DECIMAL:
        value = value.round(call.type.scale or 0).cast(dtype, strict=False)
    else:
        value = value.cast(dtype)
    return pl.when(among > 0).then(value)


def _sum(argument: Argument) -> pl.Expr:
    total = _need(argument, "s")
    if argument.held.kind is Kind.DOUBLE:
        return total + pl.col(f"{argument.column}s~")
    return total


def _need(argument: Argument, kind: str) -> pl.Expr:
    """The saved column of the argument's count ("n"), sum ("s") or sum of squares ("q")."""
    name = argument.column + kind
    if kind not in argument.accumulators:
        made: Accumulator
        if kind == "q":
            made = SquareSum(name, argument.column)
        elif kind == "n":
            made = Count(name, argument.column)
        elif argument.held.kind is Kind.DOUBLE:
            made = DoubleSum(name, argument.column)
        elif argument.held.kind is Kind.DECIMAL:
            made = DecimalSum(name, argument.column, argument.held.scale or 0)
        else:
            made = IntegerSum(name, argument.column)
        argument.accumulators[kind] = made
    return pl.col(name)


def _collect(call: AggregateCall, argument: Argument) -> pl.Expr:
    """The column that the argument's feed shows for the call."""
    name = f"{argument.column}{len(argument.collected)}"
    if call.function == "LISTAGG":
        separator = str(call.options[0]) if call.options else ","
        argument.collected.append(Collected(name, pl.String(), separator.join))
    elif call.function == "ARRAY_AGG":
        dtype = pl.List(polars_type(argument.held.parts[0][1]))
        argument.collected.append(Collected(name, dtype, lambda values: [each["value"] for each in values]))
    elif call.function == "COLLECT":
        counts = pl.List(pl.Struct({"key": polars_type(argument.held), "value": pl.Int32()}))
        argument.collected.append(Collected(name, counts, counted))
        return pl.coalesce(pl.col(name), pl.lit([], dtype=counts))
    else:
        shares = [float(share) for share in call.options]
        many = call.type.kind is Kind.ARRAY

        def found(values: list[Any]) -> Any:
            each = percentiles(values, shares)
            return each if many or each is None else each[0]

        argument.collected.append(Collected(name, polars_type(call.type), found))
    return pl.col(name)


def _arrival(call: AggregateCall, argument: Argument) -> pl.Expr:
    kind = call.function[0]
    name = argument.column + kind
    if kind not in argument.accumulators:
        last, dtype = call.function == "LAST_VALUE", polars_type(argument.held)
        argument.accumulators[kind] = Arrival(name, argument.column, last=last, dtype=dtype)
    return pl.col(name)


def _sketched(call: AggregateCall, argument: Argument) -> pl.Expr:
    kinds: dict[str, DistinctCount | Quantiles | HeavyHitters] = {
        "APPROX_QUANTILE": Quantiles(), "APPROX_TOP_K": HeavyHitters(),
    }  # fmt: skip
    kind = kinds.get(call.function) or DistinctCount()
    name = argument.column + kind.suffix
    argument.accumulators.setdefault(kind.suffix, Sketches(name, argument.column, kind))
    if isinstance(kind, Quantiles):
        return kind.quantile(pl.col(name), float(call.options[0]))
    if isinstance(kind, HeavyHitters):
        return kind.top(pl.col(name), int(call.options[0]), polars_type(argument.held))
    return kind.count(pl.col(name))


def _extreme(function: str, argument: Argument) -> pl.Expr:
    kind = function.lower()
    name = argument.column + kind
    if kind not in argument.accumulators:
        made: Accumulator
        if argument.held in (BIGINT, DOUBLE):
            dtype = np.int64 if argument.held == BIGINT else np.float64
            made = Extreme(name, argument.column, function=function, dtype=dtype)
        else:
            made = ObjectExtreme(name, argument.column, function=function, dtype=polars_type(argument.held))
        argument.accumulators[kind] = made
    return pl.col(name)
