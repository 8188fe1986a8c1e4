"""Which relations of an app come from the log, and which of those some statement reads."""

from __future__ import annotations

from penstock.model.stream import Relation
from penstock_processor.logical.identity import scans_of
from penstock_processor.logical.plan import AppPlan

__all__ = ["read_relations", "readers", "source_partitions"]


def source_partitions(plan: AppPlan) -> list[tuple[str, int]]:
    """Every partition of every source, read by a statement or not: each has a position of the app.

    A source that nothing reads yet is passed over from the start, so that a statement added later begins where the
    others are, and so that a source without a position is always a new one.
    """
    return [
        (name, partition)
        for name, source in plan.sources.items()
        if source.spec.relation is Relation.SOURCE
        for partition in range(source.spec.partitions)
    ]


def read_relations(plan: AppPlan) -> frozenset[str]:
    """Sources that at least one statement reads."""
    scanned = {scan.relation for statement in plan.statements for scan in scans_of(statement.plan)}
    return frozenset(
        name for name in scanned if name in plan.sources and plan.sources[name].spec.relation is Relation.SOURCE
    )


def readers(plan: AppPlan, relation: str) -> list[str]:
    """Names of the statements that read `relation` directly, in text order."""
    return [s.name for s in plan.statements if any(scan.relation == relation for scan in scans_of(s.plan))]
