"""An app as one task or as many over a log: what goes in by key, kills, and what comes out in the end."""

from __future__ import annotations

import asyncio
import csv
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from penstock.codecs.arrow import decode_frame
from penstock.codecs.keys import key_bytes
from penstock.codecs.ndjson import encode_lines
from penstock.model.batch import OP_COLUMN, PENDING_COLUMN, Encoding, NewBatch, Op
from penstock.model.partitioning import partition_of
from penstock.model.stream import Relation, StreamSpec
from penstock.ports.clock import Clock
from penstock.ports.log import Log, RejectedFilter
from penstock_processor.compile.build import build_engine
from penstock_processor.logical.plan import AppPlan
from penstock_processor.logical.plan_app import plan_app
from penstock_processor.logical.stages import specs_of, task_plans
from penstock_processor.runtime.app_runner import AppRunner
from penstock_processor.settings import ProcessorSettings

__all__ = ["Event", "Row", "Tasks", "produce_app", "produce_events", "same_rows", "send"]

Event = tuple[str, dict[str, Any]]  # stream, event
Row = tuple[Any, ...]
EXAMPLE = Path(__file__).parents[2] / "examples" / "produce-markets"
SETTINGS = ProcessorSettings(wait_s=0.05, small_cycle_share=1.0)


def produce_app(parallelism: int) -> str:
    """The example's text, shared by so many tasks."""
    return (EXAMPLE / "app.sql").read_text() + f"\nSET 'parallelism.default' = '{parallelism}';\n"


def produce_events(seed: int, lots: int) -> list[Event]:
    """Lots of the example, with reports and vehicles for them, in order of time."""
    chance = random.Random(seed)
    found: list[Event] = []
    with (EXAMPLE / "arrivals.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for n, row in enumerate(rows[:: max(1, len(rows) // lots)]):
        numbers = {name: float(row[name]) if row[name] else None for name in
                   ("arrivals_tonnes", "min_price", "max_price", "modal_price")}  # fmt: skip
        found.append(("arrivals", {**row, **numbers, "id": f"lot{n}", "date": row["date"]}))
        if chance.random() < 0.1:
            report = {"id": f"r{n}", "ts": f"{row['date']}T08:00:00.000", "farmer": f"f{n % 9}", "phone": "98765",
                      "village": "", "state": row["state"], "commodity": row["commodity"], "tonnes": 1}  # fmt: skip
            vehicle = {"id": f"v{n}", "ts": f"{row['date']}T09:00:00.000", "report_id": f"r{n}",
                       "vehicle": "K", "driver": f"d{n % 3}"}  # fmt: skip
            found += [("reports", report), ("assignments", vehicle)]
    return found


async def send(log: Log, events: Sequence[Event]) -> None:
    """Append events to the partitions of their keys, as ingest does."""
    streams = (await log.catalog()).streams
    placed: dict[tuple[str, int], list[bytes]] = {}
    for stream, event in events:
        spec = streams[stream]
        [key] = key_bytes([[event.get(name)] for name in spec.key])
        place = stream, partition_of(key, spec.partitions)
        placed.setdefault(place, []).append(msgspec.json.encode(event))
    await log.append(
        [NewBatch(*place, Encoding.NDJSON_ZSTD, encode_lines(lines), len(lines)) for place, lines in placed.items()]
    )


class Tasks:
    """All tasks of an app in this process, each a runner of its own that can be killed."""

    def __init__(self, log: Log, clock: Clock, plan: AppPlan, settings: ProcessorSettings = SETTINGS) -> None:
        self.log = log
        self.plan = plan
        self._clock = clock
        self._settings = settings
        self._plans = {task.task: task for task in task_plans(plan)}
        self._running: dict[str, tuple[AppRunner, asyncio.Task[None]]] = {}

    @classmethod
    async def deploy(cls, log: Log, clock: Clock, sql: str, **more: Any) -> Tasks:
        plan = plan_app("produce", sql)
        await log.put_app(plan.name, plan.sql, specs_of(plan), 0)
        return cls(log, clock, plan, **more)

    @property
    def names(self) -> list[str]:
        return list(self._plans)

    def start(self, *names: str) -> None:
        for name in names or self.names:
            runner = AppRunner(
                self._plans[name], log=self.log, clock=self._clock, settings=self._settings, build_engine=build_engine
            )
            self._running[name] = runner, asyncio.create_task(runner.run())

    async def kill(self, name: str) -> None:
        """The task is cut off wherever it is; nothing is finished."""
        _, task = self._running.pop(name)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def stop(self) -> None:
        for runner, _ in self._running.values():
            runner.stop()
        await asyncio.wait_for(asyncio.gather(*(task for _, task in self._running.values())), 30)
        self._running.clear()

    async def complete(self, through_ms: int) -> None:
        """Say that all sources are complete, and wait until everything has followed."""
        specs = (await self.log.catalog()).streams.values()
        ends = [
            NewBatch(spec.name, partition, Encoding.NDJSON_ZSTD, b"", 0, watermark_ms=through_ms)
            for spec in specs
            if spec.relation is Relation.SOURCE
            for partition in range(spec.partitions)
        ]
        await self.log.append(ends)
        targets = {s.target for s in self.plan.statements}
        timed = [self.plan.sources[name].spec for name in targets]
        for _ in range(3000):
            if await self._caught_up() and await self._reached(timed, through_ms - 8 * 86_400_000):
                return
            await asyncio.sleep(0.01)
        raise AssertionError("the tasks do not catch up")

    async def _caught_up(self) -> bool:
        positions: dict[tuple[str, int], int] = {}
        for name in self.names:
            positions.update(await self.log.positions(name))
        for spec in specs_of(self.plan):
            if spec.relation is Relation.SOURCE or spec.internal == "repartition":
                for partition in range(spec.partitions):
                    head = await self.log.head(spec.name, partition)
                    if positions.get((spec.name, partition)) != head.next:
                        return False
        return True

    async def _reached(self, specs: Iterable[StreamSpec], through_ms: int) -> bool:
        for spec in specs:
            for partition in range(spec.partitions):
                head = await self.log.head(spec.name, partition)
                if head.watermark_ms is None or head.watermark_ms < through_ms:
                    return False
        return True

    async def results(self) -> dict[str, list[Row]]:
        """Per target: the rows of a stream, sorted; the rows that a table ends with, sorted."""
        found = {}
        for name in sorted({s.target for s in self.plan.statements}):
            found[name] = await self._rows(self.plan.sources[name].spec)
        return found

    async def _rows(self, spec: StreamSpec) -> list[Row]:
        columns = [column.name for column in spec.columns]
        rows: list[Row] = []
        table: dict[Row, Row] = {}
        owners: dict[Row, int] = {}
        for partition in range(spec.partitions):
            for batch in await self.log.read(spec.name, partition, 0, 1 << 30, 1 << 20):
                for row in decode_frame(batch.payload).iter_rows(named=True):
                    values = tuple(row[name] for name in columns)
                    if not spec.primary_key:
                        rows.append(values)
                        continue
                    key = tuple(row[name] for name in spec.primary_key)
                    assert owners.setdefault(key, partition) == partition, f"{key} has two writers"
                    table[key] = (*values, row.get(PENDING_COLUMN))
                    if row[OP_COLUMN] == int(Op.DELETE):
                        del table[key]
        return sorted([*rows, *table.values()], key=repr)

    async def late(self) -> list[tuple[str, str | None, tuple[int, int] | None, bytes]]:
        """(stream, statement, position, raw) of the late rows."""
        events = await self.log.rejected(RejectedFilter(code="late", limit=10_000))
        return [(e.stream, e.statement, e.position, e.raw) for e in events]


def same_rows(one: Mapping[str, Sequence[Row]], other: Mapping[str, Sequence[Row]]) -> None:
    """Equal but for the last digit of a DOUBLE."""
    assert list(one) == list(other)
    for name in one:
        assert len(one[name]) == len(other[name]), f"{name}: {len(one[name])} rows and {len(other[name])}"
        for a, b in zip(sorted(one[name], key=_rough), sorted(other[name], key=_rough), strict=True):
            for x, y in zip(a, b, strict=True):
                if isinstance(x, float) and isinstance(y, float):
                    assert abs(x - y) <= 1e-12 * max(abs(x), abs(y)), f"{name}: {a} and {b}"
                else:
                    assert x == y, f"{name}: {a} and {b}"


def _rough(row: Row) -> str:
    return repr(tuple(f"{value:.9g}" if isinstance(value, float) else value for value in row))
