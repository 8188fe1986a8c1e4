"""Trying a rule on stored events: what it would have hit, without writing anything."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field

import msgspec
import polars as pl

from penstock.codecs.rows import rows_to_lines
from penstock.model.batch import OP_COLUMN
from penstock.model.stream import Relation, StreamSpec
from penstock.ports.log import Log
from penstock_processor.operators.interface import SourceBlock
from penstock_processor.rules.engine import RulesEngine
from penstock_processor.rules.model import Rule, RuleSet
from penstock_processor.rules.plan import BindRule, RulesPlan, plan_rules, target_specs
from penstock_processor.runtime.decode import RowDecoder
from penstock_processor.runtime.inputs import Lines, PartitionInput, bounded, standing_rows
from penstock_processor.settings import ProcessorSettings

__all__ = ["DryRun", "dry_run"]

_SHOWN_ERRORS = 10


@dataclass(slots=True)
class DryRun:
    """`rows`: the newest of those that hit, as JSON objects; `errors`: how many rows failed, by code."""

    events: int = 0
    hits: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    rows: list[msgspec.Raw] = field(default_factory=list)

    def as_json(self) -> dict[str, object]:
        """The reply."""
        return {
            "events": self.events,
            "hits": self.hits,
            "rejected": sum(self.errors.values()),
            "errors": dict(self.errors.most_common(_SHOWN_ERRORS)),
            "rows": self.rows,
        }


async def dry_run(
    rule: Rule, *, log: Log, bind: BindRule, settings: ProcessorSettings, events: int, rows: int
) -> DryRun:
    """Run the rule, switched on or not, over the newest `events` that the log has of its source.

    Of a source with several partitions, an equal share of each. At most `rows` rows are shown, the newest ones: of
    several partitions an equal share, too, and more of those that have more where others have few.
    """
    catalog = await log.catalog()
    tried = msgspec.structs.replace(rule, enabled=True)
    plan = await asyncio.to_thread(plan_rules, RuleSet(rule.source).put([tried], now_ms=0), catalog, bind)
    trial = _Trial(plan)
    spec = plan.sources[plan.source].spec
    hits: list[pl.DataFrame] = []  # by partition, those that have any
    for partition in range(spec.partitions):
        found: list[pl.DataFrame] = []
        share = events // spec.partitions + (1 if partition < events % spec.partitions else 0)
        head = await log.head(spec.name, partition)
        at = max(head.first, head.next - share)
        while at < head.next:
            batches = await log.read(spec.name, partition, at, settings.cycle_bytes, settings.cycle_batches)
            taken = PartitionInput(spec.name, partition, None, at, bounded(batches, settings.rules.cycle_rows))
            if taken.next <= at:
                break
            found += await asyncio.to_thread(trial.run, taken)
            found = _newest(found, rows)
            at = taken.next
        hits += found
    trial.result.rows = await asyncio.to_thread(_shown, _shared(hits, rows), target_specs(plan)[0])
    return trial.result


class _Trial:
    """One rule over one piece of the log after the other."""

    def __init__(self, plan: RulesPlan) -> None:
        self.result = DryRun()
        self._spec = plan.sources[plan.source].spec
        self._engine = RulesEngine(plan, durable=False)
        self._decoder = RowDecoder(self._spec.columns)

    def run(self, taken: PartitionInput) -> list[pl.DataFrame]:
        """The rows that hit."""
        if self._spec.relation is Relation.SOURCE:
            decoded = self._decoder.decode(Lines.of(taken).text)
            frame = decoded.frame
            self.result.errors.update(bad.code for bad in decoded.bad)
            self.result.events += len(decoded.bad)
        else:
            frame = standing_rows(taken, self._spec.columns)
        self.result.events += frame.height
        step = self._engine.step([SourceBlock(taken.relation, taken.partition, frame)])
        self.result.errors.update(problem.code for problem in step.problems)
        frames = [output.frame for output in step.outputs]
        self.result.hits += sum(each.height for each in frames)
        return frames


def _newest(frames: list[pl.DataFrame], rows: int) -> list[pl.DataFrame]:
    return [pl.concat(frames).tail(rows)] if frames else []


def _shared(hits: list[pl.DataFrame], rows: int) -> list[pl.DataFrame]:
    """The newest of each: those that have the fewest first, what they leave is shared by the others."""
    shares = [0] * len(hits)
    left = rows
    for done, n in enumerate(sorted(range(len(hits)), key=lambda n: hits[n].height)):
        shares[n] = min(hits[n].height, left // (len(hits) - done))
        left -= shares[n]
    return [frame.tail(share) for frame, share in zip(hits, shares, strict=True)]


def _shown(frames: list[pl.DataFrame], target: StreamSpec) -> list[msgspec.Raw]:
    return [msgspec.Raw(line) for frame in frames for line in rows_to_lines(frame.drop(OP_COLUMN), target.columns)]
