"""What tests of windows share: calls and definitions, blocks of rows, an engine that is killed and restored."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence

import polars as pl
from processor.window_oracle import Row, cumulate, hop, tumble

from penstock.codecs.frames import polars_schema
from penstock.ports.log import DeltaKind, StateDelta
from penstock_processor.compile.build import build_engine
from penstock_processor.logical.plan import AppPlan
from penstock_processor.operators.interface import Engine, SourceBlock, StepResult

__all__ = ["ALIGNED", "LAG", "PARTITIONS", "SECOND", "SESSIONS", "Restarting", "blocks_of"]

SECOND = 1000
LAG = 7 * SECOND
PARTITIONS = 2

#: The call and its definition.
ALIGNED = {
    "TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '10' SECOND)": tumble(10 * SECOND),
    "TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '10' SECOND, INTERVAL '3' SECOND)":
        tumble(10 * SECOND, 3 * SECOND),
    "TUMBLE(DATA => TABLE readings, TIMECOL => DESCRIPTOR(ts), SIZE => INTERVAL '10' SECOND, "
    "`OFFSET` => INTERVAL '-4' SECOND)": tumble(10 * SECOND, -4 * SECOND),
    "HOP(TABLE readings, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '20' SECOND)": hop(5 * SECOND, 20 * SECOND),
    "HOP(TABLE readings, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '20' SECOND, INTERVAL '-2' SECOND)":
        hop(5 * SECOND, 20 * SECOND, -2 * SECOND),
    "HOP(DATA => TABLE readings, TIMECOL => DESCRIPTOR(ts), SIZE => INTERVAL '20' SECOND, "
    "SLIDE => INTERVAL '5' SECOND, `OFFSET` => INTERVAL '8' SECOND)": hop(5 * SECOND, 20 * SECOND, 8 * SECOND),
    "CUMULATE(TABLE readings, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '30' SECOND)":
        cumulate(5 * SECOND, 30 * SECOND),
    "CUMULATE(TABLE readings, DESCRIPTOR(ts), INTERVAL '15' SECOND, INTERVAL '30' SECOND, INTERVAL '-8' SECOND)":
        cumulate(15 * SECOND, 30 * SECOND, -8 * SECOND),
    "CUMULATE(DATA => TABLE readings, TIMECOL => DESCRIPTOR(ts), STEP => INTERVAL '10' SECOND, "
    "SIZE => INTERVAL '40' SECOND, `OFFSET` => INTERVAL '13' SECOND)":
        cumulate(10 * SECOND, 40 * SECOND, 13 * SECOND),
}  # fmt: skip

#: The call, its gap, and whether each key has sessions of its own.
SESSIONS = {
    "SESSION(TABLE readings PARTITION BY device, DESCRIPTOR(ts), INTERVAL '5' SECOND)": (5 * SECOND, True),
    "SESSION(DATA => TABLE readings PARTITION BY (device), TIMECOL => DESCRIPTOR(ts), GAP => INTERVAL '2' SECOND)":
        (2 * SECOND, True),
    "SESSION(TABLE readings, DESCRIPTOR(ts), INTERVAL '1' SECOND)": (1 * SECOND, False),
}  # fmt: skip


def blocks_of(plan: AppPlan, rows: Sequence[Row], *, alone: bool = False) -> list[SourceBlock]:
    """`alone`: all rows are in the first partition, and the others hold nothing back."""
    schema = polars_schema(plan.sources["readings"].spec.columns)
    found = []
    for partition in range(PARTITIONS):
        own = [row[1:] for row in rows if row[0] == partition]
        frame = pl.DataFrame(own, schema={"device": pl.String, "n": pl.Int64, "ts": pl.Int64}, orient="row")
        found.append(SourceBlock("readings", partition, frame.cast(schema), idle=alone and partition > 0))
    return found


class Restarting:
    """An engine that loses its memory now and then and is restored from the deltas that were committed."""

    def __init__(self, plan: AppPlan, chance: random.Random) -> None:
        self._plan = plan
        self._chance = chance
        self._engine = build_engine(plan)
        self._log: dict[str, list[StateDelta]] = defaultdict(list)

    def step(self, blocks: Sequence[SourceBlock]) -> StepResult:
        """A cycle that is committed; before it perhaps a snapshot, a cycle that is lost, a restart."""
        if self._chance.random() < 0.2:
            self._write([self._engine.compact(operator) for operator in sorted(self._engine.operators)])
        if self._chance.random() < 0.4:
            self._engine.step(blocks)  # lost with the process
            self._engine = self.restored()
        result = self._engine.step(blocks)
        self._write(result.deltas)
        return result

    def finish(self) -> StepResult:
        return self.restored().finish()

    def restored(self) -> Engine:
        engine = build_engine(self._plan)
        engine.restore(self._log)
        return engine

    def _write(self, deltas: Sequence[StateDelta]) -> None:
        for delta in deltas:
            if delta.kind is DeltaKind.REPLACE:
                self._log[delta.operator].clear()
            self._log[delta.operator].append(delta)
