"""The engine of an app: relations and statements in the order of their dependencies, one cycle at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import polars as pl

from penstock.errors import PenstockError
from penstock.expressions.cycle_clock import CycleClock
from penstock.model.batch import OP_COLUMN, PENDING_COLUMN, Op
from penstock.ports.log import StateDelta
from penstock_processor.operators.elapsed import Elapsed
from penstock_processor.operators.interface import Found, Output, SourceBlock, StepResult, Wanted
from penstock_processor.operators.lookup_join import LookupJoinOperator
from penstock_processor.operators.processing_time import ProcessingTimeOperator
from penstock_processor.operators.relations import Relation, Written
from penstock_processor.operators.repartition import RepartitionSink
from penstock_processor.operators.sink import Sink
from penstock_processor.operators.step import Flow, Stateful, Step
from penstock_processor.operators.watermarks import Watermarks

__all__ = ["AppEngine"]


class AppEngine:
    """Implements `interface.Engine`.

    `sources`: relations that ingest feeds. `schedule`: statements, and derived relations after all of their writers.
    `vouched`: statements whose watermark holds for the WATERMARK column of their target. `durable`: make deltas.
    `clock`: what CURRENT_TIMESTAMP reads, set to the time of each cycle.
    `told`: source -> the stream in which this task tells the others how far its partitions of it are.
    `elapsed`: for apps whose state has a time to live.
    """

    def __init__(self, sources: Sequence[Relation], schedule: Sequence[Sink | RepartitionSink | Relation], *,
                 stateful: Sequence[Stateful], vouched: frozenset[str], durable: bool,
                 clock: CycleClock, told: Mapping[str, str] | None = None,
                 lookups: Sequence[LookupJoinOperator] = (),
                 timers: Sequence[ProcessingTimeOperator] = (), elapsed: Elapsed | None = None) -> None:  # fmt: skip
        self._sources = {relation.name: relation for relation in sources}
        self._schedule = tuple(schedule)
        self._derived = {item.name: item for item in schedule if isinstance(item, Relation)}
        self._vouched = vouched
        self._durable = durable
        self._clock = clock
        self._told = told or {}
        self._lookups = tuple(lookups)
        self._timers = tuple(timers)
        self._elapsed = elapsed
        relations = (*self._sources.values(), *self._derived.values())
        self._clocks = [relation.clock for relation in relations if relation.clock is not None]
        self._state: dict[str, Stateful | Watermarks | Elapsed] = {each.id: each for each in stateful}
        if elapsed is not None:
            self._state[elapsed.id] = elapsed
        self._state.update({clock.id: clock for clock in self._clocks})

    @property
    def operators(self) -> frozenset[str]:
        """See `Engine`."""
        return frozenset(self._state)

    def restore(self, deltas: Mapping[str, Sequence[StateDelta]]) -> None:
        """See `Engine`."""
        for operator, state in self._state.items():
            state.restore(deltas.get(operator, ()))

    def step(self, blocks: Sequence[SourceBlock], *, now_ms: int = 0) -> StepResult:
        """See `Engine`."""
        self._clock.now_ms = now_ms
        step = Step(durable=self._durable, now_ms=self._time_to_live_by(now_ms))
        given: dict[str, list[SourceBlock]] = defaultdict(list)
        for block in blocks:
            given[block.relation].append(block)
        for name, relation in self._sources.items():
            step.flows[name] = relation.read(given[name], step)
        return self._run(step, ending=False)

    @property
    def due_ms(self) -> int | None:
        """See `Timed`."""
        return min((due for each in self._timers if (due := each.due_ms) is not None), default=None)

    @property
    def lookup_depth(self) -> int:
        """See `LooksUp`."""
        return max((operator.depth + 1 for operator in self._lookups), default=0)

    def wanted(self, blocks: Sequence[SourceBlock], *, now_ms: int = 0, depth: int = 0) -> list[Wanted]:
        """See `LooksUp`."""
        self._clock.now_ms = now_ms
        step = Step(advancing=False, durable=False)
        given: dict[str, list[SourceBlock]] = defaultdict(list)
        for block in blocks:
            given[block.relation].append(block)
        for name, relation in self._sources.items():
            step.flows[name] = relation.read(given[name], step)
        found = [operator.wanted(step) for operator in self._lookups if operator.depth == depth]
        return [each for each in found if each is not None]

    def provide(self, found: Mapping[str, Found]) -> None:
        """See `LooksUp`."""
        for operator in self._lookups:
            operator.provide(found.get(operator.id))

    def finish(self) -> StepResult:
        """See `Engine`."""
        step = Step(durable=self._durable)
        for name, relation in self._sources.items():
            step.flows[name] = relation.end((), step)
        return self._run(step, ending=True)

    def compact(self, operator: str) -> StateDelta:
        """See `Engine`."""
        return self._state[operator].compact()

    def state_sizes(self) -> dict[str, int]:
        """See `Engine`."""
        return {operator: state.size() for operator, state in self._state.items()}

    def replay(self, statement: str, block: SourceBlock, *, now_ms: int = 0) -> StepResult:
        """See `Engine`. What the statement writes goes on to the statements that read it; nothing else moves."""
        relation = self._sources.get(block.relation) or self._derived.get(block.relation)
        if relation is None or all(isinstance(s, Relation) or s.label != statement for s in self._schedule):
            detail = f"no statement '{statement}' that reads '{block.relation}' in this app; list them with explain"
            raise PenstockError("not_found", detail)
        self._clock.now_ms = now_ms
        step = Step(advancing=False, durable=self._durable, now_ms=self._time_to_live_by(now_ms))
        quiet = {name: each.chain((), step) for name, each in (self._sources | self._derived).items()}
        step.flows.update(quiet)
        rows = relation.read([block], step)
        written: dict[str, list[Written]] = defaultdict(list)
        outputs = []
        for item in self._schedule:
            if isinstance(item, Relation):
                step.flows[item.name] = item.chain(written[item.name], step)
                continue
            if item.label == statement:
                step.flows[block.relation] = rows
            output, flow = item.run(step)
            if item.label == statement:
                step.flows[block.relation] = quiet[block.relation]
            outputs += [] if output is None else [output]
            written[item.target.name].append(self._written(item, flow))
        return StepResult(outputs, step.problems, step.deltas)

    def _run(self, step: Step, *, ending: bool) -> StepResult:
        outputs: list[Output] = []
        written: dict[str, list[Written]] = defaultdict(list)
        for item in self._schedule:
            if not isinstance(item, Relation):
                output, flow = item.run(step)
                outputs += [] if output is None else [output]
                written[item.target.name].append(self._written(item, flow))
            elif ending:
                step.flows[item.name] = item.end(written[item.name], step)
            else:
                step.flows[item.name] = item.chain(written[item.name], step)
        outputs += self._news()
        if self._elapsed is not None:
            self._elapsed.moved(step.now_ms)
        if self._durable:
            clocks = [clock.delta() for clock in self._clocks]
            if self._elapsed is not None and step.deltas:
                clocks.append(self._elapsed.delta())
            step.deltas += [delta for delta in clocks if delta is not None]
        return StepResult(outputs, step.problems, step.deltas)

    def _time_to_live_by(self, now_ms: int) -> int:
        return now_ms if self._elapsed is None else self._elapsed.at(now_ms)

    def _news(self) -> list[Output]:
        """How far this task's partitions of the sources are that it shares with others."""
        found = []
        for source, stream in self._told.items():
            relation = self._sources[source]
            through = None if relation.clock is None else relation.clock.least_of(relation.own)
            if through is not None:
                found.append(Output(stream, stream, pl.DataFrame(), through))
        return found

    def _written(self, sink: Sink | RepartitionSink, flow: Flow) -> Written:
        """Rows of a statement as readers of its target see them: results that stand, not early ones."""
        frame = flow.frame
        if frame is not None and frame.height and sink.target.emit == "early":
            frame = frame.filter(~pl.col(PENDING_COLUMN) & (pl.col(OP_COLUMN) != int(Op.DELETE)))
        return Written(sink.statement, frame, flow.after if sink.statement in self._vouched else None)
