"""An engine that is run over steps of blocks: straight through, or stopped and resumed from its deltas on the way."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import polars as pl

from penstock.ports.log import DeltaKind, StateDelta
from penstock_processor.compile.build import build_engine
from penstock_processor.logical.plan import AppPlan
from penstock_processor.operators.interface import SourceBlock, StepResult

__all__ = ["DeltaLog", "cut", "run", "run_with_restarts"]

Step = Sequence[SourceBlock]


class DeltaLog:
    """Deltas per operator, as a log keeps them."""

    def __init__(self) -> None:
        self.deltas: dict[str, list[StateDelta]] = defaultdict(list)

    def write(self, deltas: Sequence[StateDelta]) -> None:
        for delta in deltas:
            if delta.kind is DeltaKind.REPLACE:
                self.deltas[delta.operator].clear()
            self.deltas[delta.operator].append(delta)


def cut(rows: Mapping[str, pl.DataFrame], chance: random.Random, *, most: int = 6) -> list[list[SourceBlock]]:
    """The rows of each relation in order, in 2 to `most` pieces of random length, empty ones too."""
    count = chance.randint(2, most)
    bounds = {
        name: [0, *sorted(chance.randint(0, frame.height) for _ in range(count - 1)), frame.height]
        for name, frame in rows.items()
    }
    return [
        [SourceBlock(name, 0, frame[bounds[name][n] : bounds[name][n + 1]]) for name, frame in rows.items()]
        for n in range(count)
    ]


def run(plan: AppPlan, steps: Sequence[Step]) -> Iterator[StepResult]:
    """What each step gives, and the end."""
    engine = build_engine(plan, durable=False)
    for step in steps:
        yield engine.step(step)
    yield engine.finish()


def run_with_restarts(plan: AppPlan, steps: Sequence[Step], chance: random.Random) -> Iterator[StepResult]:
    """As `run`, but before every second step or so the engine is lost, and a new one knows only the deltas.

    Sometimes they are compacted first. There is always a restart before the end.
    """
    engine, log = build_engine(plan), DeltaLog()
    for number in range(len(steps) + 1):
        if chance.random() < 0.25:
            log.write([engine.compact(operator) for operator in sorted(engine.operators)])
        if number == len(steps) or chance.random() < 0.5:
            engine = build_engine(plan)
            engine.restore(log.deltas)
        result = engine.finish() if number == len(steps) else engine.step(steps[number])
        log.write(result.deltas)
        yield result
