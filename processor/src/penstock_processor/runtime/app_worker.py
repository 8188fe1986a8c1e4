"""One app's cycle, synchronous and without I/O: batches of sources in, one transaction for the log out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from penstock.model.batch import RejectedEvent
from penstock.model.stream import Relation
from penstock.ports.log import StateDelta, Transaction
from penstock_processor.logical.plan import AppPlan
from penstock_processor.operators.interface import (
    CountsHits,
    Engine,
    Found,
    LooksUp,
    Output,
    RuleHits,
    SourceBlock,
    StepHits,
    StepResult,
    Timed,
    Wanted,
)
from penstock_processor.runtime.decode import Decoded, RowDecoder
from penstock_processor.runtime.inputs import Lines, PartitionInput, rows_of, standing_rows
from penstock_processor.runtime.outputs import OutputWriter
from penstock_processor.runtime.rejections import Rejections, ReplayItem
from penstock_processor.runtime.snapshots import SnapshotLedger
from penstock_processor.runtime.topology import read_relations, readers
from penstock_processor.settings import ProcessorSettings

__all__ = ["AppWorker", "CycleCounts", "CycleResult", "Prepared"]


@dataclass(frozen=True, slots=True)
class CycleCounts:
    """Rows of one cycle, for statistics: in by source, out by statement, rejected by (statement, code)."""

    rows_in: Mapping[str, int] = field(default_factory=dict)
    rows_out: Mapping[str, int] = field(default_factory=dict)
    rejected: Mapping[tuple[str, str], int] = field(default_factory=dict)
    hits: StepHits | None = None


@dataclass(frozen=True, slots=True)
class CycleResult:
    """What a cycle has to commit. `empty`: nothing changed, there is no need to."""

    transaction: Transaction
    counts: CycleCounts

    @property
    def empty(self) -> bool:
        """True when the log would be as it is."""
        t = self.transaction
        written = any(batch.count for batch in t.appends)
        return not (t.consumed or written or t.rejected or t.deltas or t.replayed or t.dropped_operators)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A cycle between its halves: decoded, not processed yet."""

    inputs: Sequence[PartitionInput]
    now_ms: int
    blocks: list[SourceBlock]
    sources: dict[tuple[str, int], tuple[Lines, Decoded]]
    rejected: list[RejectedEvent]
    rows_in: dict[str, int]


class AppWorker:
    """Owns the engine of one app under one term. After any error, or a cycle that was not committed: drop it."""

    def __init__(
        self,
        plan: AppPlan,
        engine: Engine,
        *,
        term: int,
        restored: Mapping[str, Sequence[StateDelta]],
        settings: ProcessorSettings,
    ) -> None:
        self._plan = plan
        self._engine = engine
        self._term = term
        self._settings = settings
        engine.restore(restored)
        self._dropped = tuple(sorted(set(restored) - engine.operators))
        self._ledger = SnapshotLedger(settings.snapshots, restored)
        self._rejections = Rejections(plan, settings)
        self._outputs = OutputWriter(plan, rows_max=settings.output_rows, packed_bytes=settings.repartition_bytes)
        self._read = read_relations(plan)
        self._internal = {name for name, source in plan.sources.items() if source.spec.internal}
        specs = [plan.sources[name].spec for name in self._read if name not in self._internal]
        self._decoders = {s.name: RowDecoder(s.columns) for s in specs if s.relation is Relation.SOURCE}
        self._derived = {s.name: s.columns for s in specs if s.relation is not Relation.SOURCE}

    def cycle(self, inputs: Sequence[PartitionInput], *, now_ms: int) -> CycleResult:
        """Decode and process the inputs. Sources that no statement reads are passed over."""
        return self.finish(self.prepare(inputs, now_ms=now_ms))

    def prepare(self, inputs: Sequence[PartitionInput], *, now_ms: int) -> Prepared:
        """The first half of a cycle: decoded inputs."""
        blocks: list[SourceBlock] = []
        sources: dict[tuple[str, int], tuple[Lines, Decoded]] = {}
        rejected: list[RejectedEvent] = []
        rows_in: dict[str, int] = {}
        for taken in inputs:
            if taken.relation not in self._read:
                continue
            place = taken.relation, taken.partition
            if taken.relation in self._internal:
                blocks.append(SourceBlock(*place, rows_of(taken), taken.through_ms, taken.idle, taken.woken))
                continue
            if taken.relation in self._derived:
                rows = standing_rows(taken, self._derived[taken.relation])
                blocks.append(SourceBlock(*place, rows, appended_ms=taken.appended_ms))
                rows_in[taken.relation] = rows_in.get(taken.relation, 0) + rows.height
                continue
            lines = Lines.of(taken)
            decoded = self._decoders[taken.relation].decode(lines.text)
            sources[place] = lines, decoded
            blocks.append(
                SourceBlock(
                    *place, decoded.frame, taken.through_ms, taken.idle, taken.woken, appended_ms=taken.appended_ms
                )
            )
            rows_in[taken.relation] = rows_in.get(taken.relation, 0) + decoded.frame.height
            rejected += self._rejections.undecodable(taken, lines, bad=decoded.bad, now_ms=now_ms)
        return Prepared(inputs, now_ms, blocks, sources, rejected, rows_in)

    def finish(self, given: Prepared, found: Mapping[str, Found] | None = None) -> CycleResult:
        """The second half: the step. `found`: what was looked up for these blocks (see `wanted`)."""
        inputs, now_ms, rows_in = given.inputs, given.now_ms, given.rows_in
        if isinstance(self._engine, LooksUp):
            self._engine.provide(found or {})
        stepping = given.blocks or self.is_due(now_ms)
        step = self._engine.step(given.blocks, now_ms=now_ms) if stepping else StepResult([], [], [])
        rejected = given.rejected + self._rejections.of_rows(step.problems, given.sources, now_ms=now_ms)
        transaction = Transaction(
            app=self._plan.task,
            term=self._term,
            consumed=[consumed for taken in inputs if (consumed := taken.consumed) is not None],
            appends=self._outputs.batches(step.outputs),
            rejected=rejected,
            deltas=self._compacted(step.deltas),
            dropped_operators=self._take_dropped(),
        )
        return CycleResult(transaction, _counts(rows_in, self._shown(step.outputs), rejected, step.hits))

    @property
    def due_ms(self) -> int | None:
        """When a cycle is due without any input: a window that goes by the clock ends. None: never."""
        return self._engine.due_ms if isinstance(self._engine, Timed) else None

    def is_due(self, now_ms: int) -> bool:
        """Whether a cycle is due without any input."""
        due_ms = self.due_ms
        return due_ms is not None and due_ms <= now_ms

    @property
    def lookup_depth(self) -> int:
        """How many times `wanted` must be asked before a step; 0: nothing is looked up."""
        return self._engine.lookup_depth if isinstance(self._engine, LooksUp) else 0

    def wanted(self, blocks: Sequence[SourceBlock], found: Mapping[str, Found], *, now_ms: int, depth: int
               ) -> list[Wanted]:  # fmt: skip
        """The keys that must be looked up next; `found`: what was by now."""
        assert isinstance(self._engine, LooksUp)
        self._engine.provide(found)
        return self._engine.wanted(blocks, now_ms=now_ms, depth=depth)

    def blocks_of(self, items: Sequence[ReplayItem]) -> list[SourceBlock]:
        """Corrected events as blocks."""
        return [
            SourceBlock(item.event.stream, 0, self._decoder(item.event.stream).decode(item.raw).frame)
            for item in items
        ]

    def replay(self, items: Sequence[ReplayItem], *, now_ms: int, found: Mapping[str, Found] | None = None
               ) -> CycleResult:  # fmt: skip
        """Feed corrected events to the one statement that rejected them; all of `items` are replayed together."""
        if isinstance(self._engine, LooksUp):
            self._engine.provide(found or {})
        outputs: list[Output] = []
        deltas: list[StateDelta] = []
        rejected: list[RejectedEvent] = []
        hits: list[StepHits] = []
        for item in items:
            failed: list[tuple[str, str, str]] = []  # (statement, code, detail)
            decoded = self._decoder(item.event.stream).decode(item.raw)
            failed += [(item.event.statement or "", bad.code, bad.detail) for bad in decoded.bad]
            partition = item.event.position[0] if item.event.position else 0
            for statement in self._statements(item.event) if decoded.frame.height else ():
                block = SourceBlock(item.event.stream, partition, decoded.frame)
                step = self._engine.replay(statement, block, now_ms=now_ms)
                outputs += step.outputs
                deltas += step.deltas
                hits += [step.hits] if step.hits is not None else []
                failed += [(statement, problem.code, problem.detail) for problem in step.problems[:1]]
            rejected += self._rejections.of_replay(item, failed, now_ms=now_ms)
        transaction = Transaction(
            app=self._plan.task,
            term=self._term,
            appends=self._outputs.batches(outputs),
            rejected=rejected,
            deltas=self._compacted(deltas),
            replayed=[item.event.id for item in items],
            dropped_operators=self._take_dropped(),
        )
        return CycleResult(transaction, _counts({}, self._shown(outputs), rejected, _merged(hits)))

    def rule_hits(self) -> Mapping[str, RuleHits]:
        """How often rules have hit, as of the state that was restored and the cycles since."""
        return self._engine.rule_hits() if isinstance(self._engine, CountsHits) else {}

    def state_sizes(self) -> dict[str, int]:
        """Rows of state per operator."""
        return self._engine.state_sizes()

    def _shown(self, outputs: Sequence[Output]) -> list[Output]:
        """Outputs that people see."""
        return [output for output in outputs if output.target not in self._internal]

    def _decoder(self, relation: str) -> RowDecoder:
        found = self._decoders.get(relation)
        return found or RowDecoder(self._plan.sources[relation].spec.columns)

    def _statements(self, event: RejectedEvent) -> list[str]:
        """The statement that rejected the event; all that read its stream where it never came to any."""
        return [event.statement] if event.statement else readers(self._plan, event.stream)

    def _take_dropped(self) -> tuple[str, ...]:
        dropped, self._dropped = self._dropped, ()
        return dropped

    def _compacted(self, deltas: Sequence[StateDelta]) -> list[StateDelta]:
        """The deltas, with a snapshot in place of those of an operator that has too many."""
        self._ledger.note(deltas)
        due = self._ledger.due(sorted({delta.operator for delta in deltas}))
        if not due:
            return list(deltas)
        snapshots = [self._engine.compact(operator) for operator in due]
        self._ledger.note(snapshots)
        return [delta for delta in deltas if delta.operator not in due] + snapshots


def _merged(hits: Sequence[StepHits]) -> StepHits | None:
    """Several steps of one cycle as one."""
    if not hits:
        return None
    by_severity: Counter[str] = Counter()
    by_rule: dict[str, RuleHits] = {}
    for each in hits:
        by_rule.update(each.by_rule)
        by_severity.update(each.by_severity)
    return StepHits(by_rule, by_severity)


def _counts(rows_in: Mapping[str, int], outputs: Sequence[Output], rejected: Sequence[RejectedEvent],
            hits: StepHits | None) -> CycleCounts:  # fmt: skip
    rows_out: dict[str, int] = {}
    for output in outputs:
        rows_out[output.statement] = rows_out.get(output.statement, 0) + output.frame.height
    refused: dict[tuple[str, str], int] = {}
    for event in rejected:
        key = (event.statement or "", event.code)
        refused[key] = refused.get(key, 0) + 1
    return CycleCounts(rows_in, rows_out, refused, hits)
