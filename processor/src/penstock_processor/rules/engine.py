"""The engine of the rules of one source: what hits is found in one pass, and only that is materialised.

Rules with equal select lists are one gather and one projection, however many they are. A row whose predicate or
columns have no value for a rule is rejected for that rule alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
import polars as pl

from penstock.codecs.rows import json_value
from penstock.errors import PenstockError
from penstock.expressions.compile import compile_expression
from penstock.model.batch import OP_COLUMN, Op
from penstock.model.stream import Relation
from penstock.ports.log import StateDelta
from penstock_processor.operators.interface import Output, RowProblem, RuleHits, SourceBlock, StepHits, StepResult
from penstock_processor.rules.bind import RULE_COLUMN, SEVERITY_COLUMN, BoundRule
from penstock_processor.rules.hits import HITS, HitCounts
from penstock_processor.rules.matching import Hits, Matcher, Numbers
from penstock_processor.rules.plan import RulesPlan

__all__ = ["RulesEngine"]

_ORDER = "$order"
_ERROR = "$error"


@dataclass(slots=True)
class _Cycle:
    """What the blocks of one step have given so far."""

    frames: dict[str, list[pl.DataFrame]] = field(default_factory=dict)  # by target
    problems: list[RowProblem] = field(default_factory=list)
    hits: Counter[str] = field(default_factory=Counter)
    at_ms: int | None = None


class RulesEngine:
    """Implements `interface.Engine`. `durable` false: no state deltas are made."""

    def __init__(self, plan: RulesPlan, *, durable: bool = True) -> None:
        self._rules = {rule.rule.name: rule for rule in plan.active}
        self._shown_by_row = plan.sources[plan.source].spec.relation is Relation.SOURCE
        self._running = _Running(plan.active)
        self._counts = HitCounts({kept.rule.name: kept.id for kept in plan.kept})
        self._durable = durable

    @property
    def operators(self) -> frozenset[str]:
        """See `Engine`."""
        return frozenset({HITS})

    def restore(self, deltas: Mapping[str, Sequence[StateDelta]]) -> None:
        """See `Engine`."""
        self._counts.restore(deltas.get(HITS, ()))

    def step(self, blocks: Sequence[SourceBlock], *, now_ms: int = 0) -> StepResult:
        """See `Engine`."""
        return self._over(self._running, blocks)

    def finish(self) -> StepResult:
        """See `Engine`. Rules keep nothing back."""
        return StepResult([], [], [])

    def compact(self, operator: str) -> StateDelta:
        """See `Engine`."""
        return self._counts.compact()

    def replay(self, statement: str, block: SourceBlock, *, now_ms: int = 0) -> StepResult:
        """See `Engine`. A statement is a rule."""
        rule = self._rules.get(statement)
        if rule is None:
            raise PenstockError("not_found", f"there is no rule '{statement}' that is switched on")
        return self._over(_Running([rule]), [block])

    def state_sizes(self) -> dict[str, int]:
        """See `Engine`."""
        return {HITS: len(self._counts)}

    def rule_hits(self) -> Mapping[str, RuleHits]:
        """See `Engine`."""
        return self._counts.all()

    def _over(self, running: _Running, blocks: Sequence[SourceBlock]) -> StepResult:
        cycle = _Cycle()
        for block in blocks:
            if block.frame.height:
                running.run(block, cycle, by_row=self._shown_by_row)
                times = [ms for ms in (cycle.at_ms, block.appended_ms) if ms is not None]
                cycle.at_ms = max(times, default=None)
        outputs = [
            Output(target, target, frames[0] if len(frames) == 1 else pl.concat(frames), None)
            for target, frames in cycle.frames.items()
        ]
        if not cycle.hits:
            return StepResult(outputs, cycle.problems, [])
        changed = self._counts.add(cycle.hits, cycle.at_ms)
        by_severity: Counter[str] = Counter()
        for name, count in cycle.hits.items():
            by_severity[self._rules[name].rule.severity.value] += count
        deltas = [self._counts.delta(changed)] if self._durable else []
        return StepResult(outputs, cycle.problems, deltas, StepHits(changed, by_severity))


class _Projection:
    """One select list of one target, and which rules have it."""

    def __init__(self, target: str, like: BoundRule, members: Sequence[int], count: int) -> None:
        self.target = target
        made = [(each.name, compile_expression(each.expr)) for each in like.outputs]
        errors = [compiled.error for _, compiled in made if compiled.error is not None]
        self.fallible = bool(errors)
        self.columns = [compiled.value.alias(name) for name, compiled in made]
        self.columns += [pl.coalesce(errors).alias(_ERROR)] if errors else []
        self.members = np.zeros(count, np.bool_)
        self.members[list(members)] = True


class _Running:
    """Rules that are evaluated together."""

    def __init__(self, rules: Sequence[BoundRule]) -> None:
        self._names = [each.rule.name for each in rules]
        self._matcher = Matcher([each.predicate for each in rules])
        self._head = pl.DataFrame(
            {
                RULE_COLUMN: pl.Series(self._names, dtype=pl.String),
                SEVERITY_COLUMN: pl.Series([each.rule.severity.value for each in rules], dtype=pl.String),
            }
        )
        alike: dict[tuple[object, ...], list[int]] = {}
        for n, each in enumerate(rules):
            alike.setdefault((each.rule.target, each.outputs), []).append(n)
        self._projections = [
            _Projection(rules[members[0]].rule.target, rules[members[0]], members, len(rules))
            for members in alike.values()
        ]

    def run(self, block: SourceBlock, cycle: _Cycle, *, by_row: bool) -> None:
        """Add to the cycle what this block gives."""
        found = self._matcher.match(block.frame)
        for failure in found.failures:
            cycle.problems.append(
                _problem(block, failure.row, self._names[failure.rule], failure.code, by_row=by_row)
            )
        by_target: dict[str, list[pl.DataFrame]] = {}
        for projection in self._projections if len(found.rows) else ():
            frame = self._materialised(projection, block, found, cycle, by_row=by_row)
            if frame is not None:
                by_target.setdefault(projection.target, []).append(frame)
        for target, frames in by_target.items():
            rows = frames[0] if len(frames) == 1 else pl.concat(frames).sort(_ORDER)
            cycle.frames.setdefault(target, []).append(rows.drop(_ORDER))

    def _materialised(
        self, projection: _Projection, block: SourceBlock, found: Hits, cycle: _Cycle, *, by_row: bool
    ) -> pl.DataFrame | None:
        mine = np.flatnonzero(projection.members[found.rules])
        if not len(mine):
            return None
        rows, rules = found.rows[mine], found.rules[mine]
        shaped = block.frame[rows].with_row_index(_ORDER).select(*projection.columns, _ORDER)
        if projection.fallible:
            codes = shaped.get_column(_ERROR)
            bad = codes.is_not_null()
            for n in bad.arg_true().to_list():
                name = self._names[int(rules[n])]
                cycle.problems.append(_problem(block, int(rows[n]), name, codes[n], by_row=by_row))
            kept = np.flatnonzero(~bad.to_numpy())
            shaped, mine, rules = shaped.drop(_ERROR)[kept], mine[kept], rules[kept]
        self._count(rules, cycle)
        return self._head[rules].with_columns(
            *shaped.drop(_ORDER).get_columns(),
            pl.Series(OP_COLUMN, np.full(len(rules), int(Op.INSERT), np.int8)),
            pl.Series(_ORDER, mine),
        )

    def _count(self, rules: Numbers, cycle: _Cycle) -> None:
        counts = np.bincount(rules, minlength=len(self._names))
        for n in np.flatnonzero(counts).tolist():
            cycle.hits[self._names[n]] += int(counts[n])


def _problem(block: SourceBlock, row: int, rule: str, code: str, *, by_row: bool) -> RowProblem:
    detail = f"an expression of rule {rule} has no value for this row"
    if by_row:
        return RowProblem(block.relation, block.partition, row, rule, code, detail)
    values = {name: json_value(value) for name, value in block.frame.row(row, named=True).items()}
    return RowProblem(block.relation, None, None, rule, code, detail, msgspec.json.encode(values).decode())
