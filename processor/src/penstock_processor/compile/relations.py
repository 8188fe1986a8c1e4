"""Declared relations and repartition streams as what statements scan: computed columns, watermark, channels."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import polars as pl

from penstock.expressions.compile import compile_expression
from penstock.model.stream import StreamSpec
from penstock_processor.logical.plan import AppPlan, Part, SourcePlan
from penstock_processor.operators.relations import Computed, Relation
from penstock_processor.operators.watermarks import Watermarks

__all__ = ["digest", "relation_of"]


def relation_of(plan: AppPlan, source: SourcePlan, writers: Sequence[str]) -> Relation:
    """The relation, written by `writers` of this app (none: fed from outside)."""
    spec = source.spec
    if spec.internal:
        return _repartition_relation(spec, plan.part)
    computed = []
    for each in source.computed:
        made = compile_expression(each.expr)
        computed.append(Computed(each.name, made.value, made.error))
    clock = watermark = None
    own: list[str] = []
    if source.watermark is not None:
        made = compile_expression(source.watermark.expr)
        watermark = made.value if made.error is None else pl.when(made.error.is_null()).then(made.value)
        channels, own = (list(writers), []) if writers else _channels(spec, plan.part)
        shape = f"{spec.columns}|{source.watermark.column}"
        clock = Watermarks(f"watermark:{spec.name}:{digest(shape)}", channels)
    columns = [column.name for column in spec.columns]
    return Relation(spec.name, columns, computed=computed, watermark=watermark, clock=clock, own=own)


def _repartition_relation(spec: StreamSpec, part: Part | None) -> Relation:
    """A channel for each writer; rows come with whatever columns their writer gave them."""
    writers = range(1) if part is None else range(part.partition * part.parallelism, part.after_last_writer)
    clock = Watermarks(f"watermark:{spec.name}", [str(writer) for writer in writers])
    return Relation(spec.name, (), computed=(), watermark=None, clock=clock, moved=True)


def _channels(spec: StreamSpec, part: Part | None) -> tuple[list[str], list[str]]:
    """Channels of a source: its partitions; of a task its own ones, then the other tasks (`runtime.other_tasks`).

    The second list: its own ones, if there are others.
    """
    partitions = [str(partition) for partition in range(spec.partitions)]
    if part is None:
        return partitions, []
    own = partitions[part.partition :: part.parallelism]
    others = [spec.partitions + task for task in range(part.parallelism) if task != part.partition]
    return [*own, *(str(channel) for channel in others)], own


def digest(text: str) -> str:
    """A short name for a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
