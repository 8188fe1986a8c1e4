"""Which relations a task takes from the log, which partitions of them are its own, and which statements read them."""

from __future__ import annotations

from penstock.model.stream import Relation
from penstock_processor.logical.identity import scans_of
from penstock_processor.logical.plan import AppPlan
from penstock_processor.logical.stages import watermarks_name
from penstock_processor.rules.plan import followed

__all__ = ["followed_sources", "input_partitions", "read_relations", "readers"]


def input_partitions(plan: AppPlan) -> list[tuple[str, int]]:
    """Every partition of the task's inputs: of sources, read by a statement or not, and of repartition streams.

    A source that nothing reads yet is passed over from the start, so that a statement added later begins where the
    others are, and so that a source without a position is always a new one.
    """
    found = []
    read = read_relations(plan)
    for name, source in plan.sources.items():
        spec, part = source.spec, plan.part
        if spec.relation is Relation.SOURCE or name == followed(plan):
            step = 1 if part is None else part.parallelism
            found += [(name, n) for n in range(0 if part is None else part.partition, spec.partitions, step)]
        elif part is not None and name in read:
            first = part.partition * part.parallelism
            found += [(name, first + writer) for writer in range(part.parallelism)]
    return found


def read_relations(plan: AppPlan) -> frozenset[str]:
    """Inputs that at least one statement reads."""
    written = {statement.target for statement in plan.statements}
    scanned = {scan.relation for statement in plan.statements for scan in scans_of(statement.plan)}
    return frozenset(name for name in scanned - written if name in plan.sources)


def followed_sources(plan: AppPlan) -> list[tuple[str, str]]:
    """Sources with event time that other tasks share, each with the stream of the tasks' watermarks."""
    if plan.part is None:
        return []
    named = ((name, watermarks_name(plan.name, name)) for name in sorted(read_relations(plan)))
    return [(name, stream) for name, stream in named if stream in plan.sources]


def readers(plan: AppPlan, relation: str) -> list[str]:
    """Names of the statements that read `relation` directly, in text order."""
    found = [s.label for s in plan.statements if any(scan.relation == relation for scan in scans_of(s.plan))]
    return list(dict.fromkeys(found))
