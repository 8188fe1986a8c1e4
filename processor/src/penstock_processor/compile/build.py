"""From the logical plan of an app to its engine: what is read, what is written, and in what order."""

from __future__ import annotations

from collections import Counter, defaultdict
from graphlib import TopologicalSorter

from penstock.expressions.cycle_clock import CycleClock, compiled_with
from penstock_processor.compile.relations import digest, relation_of
from penstock_processor.compile.statement import StatementBuilder
from penstock_processor.compile.targets import keeps_event_time
from penstock_processor.logical.identity import scans_of
from penstock_processor.logical.plan import AppPlan
from penstock_processor.logical.settings import state_ttl_ms
from penstock_processor.logical.stages import watermarks_name
from penstock_processor.operators.elapsed import Elapsed
from penstock_processor.operators.engine import AppEngine
from penstock_processor.operators.interface import Engine
from penstock_processor.operators.lookup_join import LookupJoinOperator
from penstock_processor.operators.processing_time import ProcessingTimeOperator
from penstock_processor.operators.relations import Relation
from penstock_processor.operators.repartition import RepartitionSink
from penstock_processor.operators.sink import Sink
from penstock_processor.operators.step import Stateful

__all__ = ["build_engine"]


def build_engine(plan: AppPlan, *, durable: bool = True) -> Engine:
    """The engine of an app, empty. `durable` false: no state deltas are made (finite runs that never restore).

    State ids come from `Statement.identity`, target and the node's place, so an unchanged statement keeps its state.
    """
    clock = CycleClock()
    with compiled_with(clock):
        return _engine(plan, clock, durable=durable)


def _engine(plan: AppPlan, clock: CycleClock, *, durable: bool) -> Engine:
    statements = {statement.name: statement for statement in plan.statements}
    writers: dict[str, list[str]] = defaultdict(list)
    for statement in plan.statements:
        writers[statement.target].append(statement.name)
    scanned = {
        name: sorted({scan.relation for scan in scans_of(statement.plan)}) for name, statement in statements.items()
    }
    read = {relation for names in scanned.values() for relation in names}
    relations = {name: relation_of(plan, plan.sources[name], writers.get(name, [])) for name in sorted(read)}
    order = TopologicalSorter({f"statement {name}": [f"relation {r}" for r in scanned[name]] for name in statements})
    for name in read:
        order.add(f"relation {name}", *(f"statement {writer}" for writer in writers.get(name, [])))
    seen: Counter[str] = Counter()
    sinks: dict[str, Sink | RepartitionSink] = {}
    stateful: list[Stateful] = []
    lookups: list[LookupJoinOperator] = []
    clocks: list[ProcessingTimeOperator] = []
    for name, statement in statements.items():
        identity = digest(f"{statement.identity}|{statement.target}|{plan.sources[statement.target].spec.emit}")
        seen[identity] += 1
        place = identity if seen[identity] == 1 else f"{identity}-{seen[identity]}"
        builder = StatementBuilder(plan, place)
        sinks[name] = builder.sink(statement, writers=len(writers[statement.target]))
        stateful += [*builder.stateful, *builder.clocks]
        lookups += builder.lookups
        clocks += builder.clocks
    schedule: list[Sink | RepartitionSink | Relation] = []
    for step in order.static_order():
        kind, _, name = step.partition(" ")
        if kind == "statement":
            schedule.append(sinks[name])
        elif writers.get(name):
            schedule.append(relations[name])
    return AppEngine(
        [relation for name, relation in relations.items() if not writers.get(name)],
        schedule,
        stateful=stateful,
        vouched=frozenset(n for n, s in statements.items() if keeps_event_time(s, plan.sources[s.target])),
        durable=durable,
        clock=clock,
        told={name: watermarks_name(plan.name, name) for name, relation in relations.items() if relation.own},
        lookups=lookups,
        timers=clocks,
        elapsed=None if state_ttl_ms(plan.settings) is None else Elapsed(),
    )
