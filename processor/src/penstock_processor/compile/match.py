"""MATCH_RECOGNIZE of the plan as the shape of its operator, and its measures as a stage over what it tells."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import polars as pl

from penstock.codecs.frames import polars_type
from penstock.expressions.compile import compile_expression
from penstock.expressions.nodes import ColumnRef, Expr
from penstock.model.types import DataType, Kind
from penstock_processor.compile.stages import Planned, project_stage
from penstock_processor.logical.plan import Named
from penstock_processor.logical.plan_match import MatchRecognize, PatternVariable, Skip
from penstock_processor.logical.rewrite import all_of, columns_read, conjuncts
from penstock_processor.operators.pattern.aggregates import added, result_of
from penstock_processor.operators.pattern.automaton import Quantified
from penstock_processor.operators.pattern.conditions import Leaf, condition_of
from penstock_processor.operators.pattern.matching import Bounds
from penstock_processor.operators.pattern.shape import Aggregated, Asking, Reached, Shape, Variable

__all__ = ["match_shape", "measure_stage"]


def match_shape(node: MatchRecognize) -> Shape:
    """What the operator of `node` is made for."""
    types = {field.name: field.type for field in node.input.fields}
    kept = list(dict.fromkeys(reach.column for reach in node.reaches))
    arguments = [compile_expression(each.arg) for each in node.aggregates]
    exprs = [pl.col(name) for name in kept]
    exprs += [a.value.cast(polars_type(each.arg.type)) for a, each in zip(arguments, node.aggregates, strict=True)]
    places = {variable.name: n for n, variable in enumerate(node.pattern)}
    reaches = {
        r.name: Reached(r.name, _place(places, r.variable), r.first, r.offset, kept.index(r.column), r.type)
        for r in node.reaches
    }
    aggregates = {
        a.name: Aggregated(a.name, _place(places, a.variable), a.function, len(kept) + n, a.type, n)
        for n, a in enumerate(node.aggregates)
    }
    hidden: dict[str, Reached | Aggregated] = {**reaches, **aggregates}
    asked = columns_read(*(part for v in node.pattern for part in _beside(v, hidden)))
    now = tuple(sorted(asked - set(hidden)))
    leaves: dict[str, Leaf] = {name: _now(n) for n, name in enumerate(now)}
    leaves.update({name: reached.asked for name, reached in reaches.items()})
    leaves.update({name: _added(each) for name, each in aggregates.items()})
    every = types | {each.name: each.type for each in hidden.values()}
    told = columns_read(*(measure.expr for measure in node.measures))
    return Shape(
        partition=node.partition,
        partition_types=tuple(types[name] for name in node.partition),
        time=node.time_column,
        zoned=types[node.time_column].kind is Kind.TIMESTAMP_LTZ,
        order=tuple((term.column, term.descending, term.nulls_last) for term in node.order),
        kept=tuple(exprs),
        kept_types=(*(types[name] for name in kept), *(each.arg.type for each in node.aggregates)),
        kept_errors=tuple(each.error for each in arguments if each.error is not None),
        now=now,
        variables=tuple(_variable(variable, hidden, leaves, every) for variable in node.pattern),
        reaches=tuple(reached for name, reached in reaches.items() if name in told),
        aggregates=tuple(each for name, each in aggregates.items() if name in told),
        past_last=node.skip is Skip.PAST_LAST_ROW,
        skip_to=_place(places, node.skip_to),
        to_first=node.skip is Skip.TO_FIRST,
        bounds=Bounds(node.within_ms, node.ttl_ms, node.matches_max, node.rows_max),
    )


def measure_stage(node: MatchRecognize) -> Planned:
    """Partition columns and measures."""
    types = {field.name: field.type for field in node.input.fields}
    keys = [Named(name, ColumnRef(types[name], name=name)) for name in node.partition]
    return project_stage([*keys, *node.measures])


def _place(places: Mapping[str, int], variable: str | None) -> int | None:
    return None if variable is None else places[variable]


def _beside(variable: PatternVariable, hidden: Mapping[str, object]) -> list[Expr]:
    """Terms of a condition that look at other rows."""
    return [term for term in conjuncts(variable.condition) if columns_read(term) & hidden.keys()]


def _variable(variable: PatternVariable, hidden: Mapping[str, object], leaves: Mapping[str, Leaf],
              types: Mapping[str, DataType]) -> Variable:  # fmt: skip
    times = Quantified(variable.least, variable.most, variable.greedy)
    beside = all_of(_beside(variable, hidden))
    alone = all_of(term for term in conjuncts(variable.condition) if not columns_read(term) & hidden.keys())
    made = None if alone is None else compile_expression(alone)
    holds = None if beside is None else condition_of(beside, leaves, types)
    return Variable(variable.name, times, None if made is None else made.value, None if made is None else made.error,
                    holds)  # fmt: skip


def _now(place: int) -> Callable[[Asking], object]:
    return lambda asking: asking.now[place]


def _added(each: Aggregated) -> Callable[[Asking], object]:
    """The aggregate with the row in question, where that is the variable's."""

    def value(asking: Asking) -> object:
        begin, end = asking.span(each.variable)
        with_row = end == asking.number + 1
        kept = asking.key.total(each.number, each.column, each.function, begin, asking.number if with_row else end)
        if with_row:
            kept = added(kept, asking.row[each.column], each.function)
        return result_of(kept, each.function, each.type)

    return value
