"""Filters and projections of the plan as stages of a chain, with the columns that they read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import polars as pl

from penstock.expressions.compile import compile_expression
from penstock.expressions.nodes import ColumnRef, Expr, walk
from penstock.model.types import DataType, Kind
from penstock_processor.logical.plan import Field, Named
from penstock_processor.logical.plan_unnest import Unnest
from penstock_processor.operators.chain import ELEMENT, PLACE, FilterStage, ProjectStage, Stage, UnnestStage

__all__ = ["Planned", "filter_stage", "project_stage", "read_columns", "references", "rename_stage", "unnest_stage"]


@dataclass(frozen=True, slots=True)
class Planned:
    """A stage and the columns of its input that it reads."""

    stage: Stage
    reads: frozenset[str]


def filter_stage(predicate: Expr) -> Planned:
    """WHERE, HAVING or what is left of a join condition."""
    made = compile_expression(predicate)
    return Planned(FilterStage(made.value, made.error), references([predicate]))


def project_stage(exprs: Sequence[Named], *more: pl.Expr, reads: Iterable[str] = ()) -> Planned:
    """A SELECT list; `more` are further columns, aliased, that read `reads`."""
    made = [(each.name, compile_expression(each.expr)) for each in exprs]
    columns = tuple(compiled.value.alias(name) for name, compiled in made)
    errors = tuple(compiled.error for _, compiled in made if compiled.error is not None)
    return Planned(ProjectStage((*columns, *more), errors), references(e.expr for e in exprs) | frozenset(reads))


def unnest_stage(node: Unnest) -> Planned:
    """A row for each element; the columns of the input stay beside it."""
    made = compile_expression(node.collection)
    held = node.collection.type
    parts = [name for name, _ in (held.parts if held.kind is Kind.MAP else held.element.parts)]
    element = pl.col(ELEMENT)
    values = [element.struct.field(part) for part in parts] if _is_struct(held) else [element]
    if node.ordinality:
        values.append(pl.col(PLACE))
    columns = tuple(value.alias(name) for value, name in zip(values, node.names, strict=True))
    stage = UnnestStage(made.value, made.error, columns, node.outer, node.ordinality)
    return Planned(stage, references([node.collection]))


def _is_struct(held: DataType) -> bool:
    return held.kind is Kind.MAP or held.element.kind is Kind.ROW


def rename_stage(fields: Sequence[Field], names: Sequence[str]) -> Planned:
    """The same columns under other names."""
    columns = tuple(pl.col(field.name).alias(name) for field, name in zip(fields, names, strict=True))
    return Planned(ProjectStage(columns, ()), frozenset(field.name for field in fields))


def references(exprs: Iterable[Expr]) -> frozenset[str]:
    """Columns that expressions read."""
    return frozenset(e.name for expr in exprs for e in walk(expr) if isinstance(e, ColumnRef))


def read_columns(stages: Sequence[Planned], fields: Sequence[Field]) -> frozenset[str]:
    """Columns of the input that stages read: without a projection all that there are."""
    read: frozenset[str] = frozenset()
    for planned in stages:
        read |= planned.reads
        if isinstance(planned.stage, ProjectStage):
            return read
    return frozenset(field.name for field in fields)
