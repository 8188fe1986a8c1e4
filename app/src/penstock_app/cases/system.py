"""An app under test: the real gateway and the app's real tasks over a log in memory, under a clock that is moved."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

import polars as pl

from penstock.codecs.arrow import decode_frame
from penstock.errors import PenstockError
from penstock.model.batch import Encoding, NewBatch, RejectedEvent
from penstock.model.stream import Relation, StreamSpec
from penstock.ports.clock import Clock
from penstock.ports.inlet import Inlet
from penstock.ports.log import Log, RejectedFilter
from penstock.testing.clock import ManualClock
from penstock_app.cases.settings import CaseSettings
from penstock_app.cases.stepped_log import SteppedLog
from penstock_ingest.body import Form
from penstock_ingest.gateway import Gateway
from penstock_ingest.settings import IngestSettings
from penstock_processor.compile.build import build_engine
from penstock_processor.evaluation.sinks import EndState
from penstock_processor.logical.plan import AppPlan
from penstock_processor.logical.stages import specs_of, task_plans
from penstock_processor.operators.step import MAX_WATERMARK
from penstock_processor.runtime.app_runner import AppRunner, AppState
from penstock_processor.settings import ProcessorSettings

__all__ = ["AppUnderTest"]

#: How often an app that does not come to rest is asked whether it has failed.
_LOOK_EVERY_S = 0.02
_READ_BYTES = 64 * 1024 * 1024
#: Nothing is spared for others here: no rest between cycles.
_PROCESSOR = ProcessorSettings(rest_max_s=0.0)


@dataclass(frozen=True, slots=True)
class _Ports:
    """What the gateway needs."""

    log: Log
    clock: Clock
    inlet: Inlet | None = None


class AppUnderTest:
    """One app from its deployment on. `start`, then steps one after the other, then `close`.

    Steps return when everything that follows from them is committed. PenstockError: the app has failed, or a limit
    was reached.
    """

    def __init__(self, plan: AppPlan, *, now_ms: int, settings: CaseSettings, log: SteppedLog | None = None) -> None:
        self._plan = plan
        self._settings = settings
        self._clock = ManualClock(now_ms)
        self._log = log or SteppedLog(clock=self._clock)
        self._gateway = self._new_gateway()
        self._runners: list[AppRunner] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._specs = {spec.name: spec for spec in specs_of(plan)}
        self._read: dict[tuple[str, int], int] = {}
        self._tables = {name: EndState(spec) for name, spec in self._specs.items() if spec.relation is Relation.TABLE}
        self._fresh: dict[str, list[pl.DataFrame]] = {}
        self._rejected_seen: set[str] = set()

    async def start(self) -> None:
        """Deploy the app and start its tasks."""
        # A topic that others fill is fed by the case: its events come in as those of any source do.
        specs = [replace(spec, topic="") for spec in self._specs.values()]
        await self._log.put_app(self._plan.name, self._plan.sql, specs, None)
        await self._start_tasks()

    async def close(self) -> None:
        """Stop everything."""
        await self._kill_tasks()
        self._gateway.close()
        await self._log.close()

    async def send(self, stream: str, lines: Sequence[bytes]) -> None:
        """Events that arrive in one request."""
        await self._gateway.accept(stream, b"\n".join(lines), Form.NDJSON)
        await self._rest()

    async def advance(self, seconds: float) -> None:
        """Time passes."""
        await self._clock.advance(seconds)
        self._log.look_again()
        await self._rest()

    async def complete(self, streams: Sequence[str], through_ms: int | None) -> None:
        """These sources (none: all that have event time) are complete up to `through_ms`, or for ever."""
        sources = [spec for spec in self._specs.values() if spec.relation is Relation.SOURCE and spec.time_column]
        for spec in sources:
            if streams and spec.name not in streams:
                continue
            if through_ms is not None:
                await self._gateway.complete(spec.name, through_ms)
                continue
            # What the gateway writes as well, without its limit: an input that has ended is complete for ever.
            await self._log.append(
                [
                    NewBatch(spec.name, partition, Encoding.NDJSON_ZSTD, b"", 0, watermark_ms=MAX_WATERMARK)
                    for partition in range(spec.partitions)
                ]
            )
        await self._rest()

    async def restart(self) -> None:
        """Lose everything in memory, in the gateway and in the tasks, and start again from the log."""
        await self._kill_tasks()
        self._gateway.close()
        self._gateway = self._new_gateway()
        await self._start_tasks()

    async def table(self, name: str) -> pl.DataFrame | None:
        """All rows of a table as they are now; None: there are none. Columns: see `take_written`."""
        await self._collect()
        return self._tables[name].rows()

    async def take_written(self, relation: str) -> pl.DataFrame | None:
        """What was written to a stream or table since this was last asked; None: nothing.

        With the columns of the log's batches: those of the relation, `$op`, and `$pending` where windows emit early.
        """
        await self._collect()
        frames = self._fresh.pop(relation, [])
        return pl.concat(frames) if frames else None

    async def take_rejected(self) -> list[RejectedEvent]:
        """Events rejected since this was last asked, oldest first."""
        most = self._settings.rejected_max
        newest_first = await self._log.rejected(RejectedFilter(limit=most + 1))
        if len(newest_first) > most:
            raise PenstockError(
                "too_large", f"more than {most} events were rejected; send less, or raise test.rejected_max"
            )
        fresh = [event for event in reversed(newest_first) if event.id not in self._rejected_seen]
        self._rejected_seen.update(event.id for event in fresh)
        return fresh

    def _new_gateway(self) -> Gateway:
        return Gateway(IngestSettings(), _Ports(self._log, self._clock))

    async def _start_tasks(self) -> None:
        self._runners = [
            AppRunner(plan, log=self._log, clock=self._clock, settings=_PROCESSOR, build_engine=build_engine)
            for plan in task_plans(self._plan)
        ]
        self._tasks = [asyncio.create_task(runner.run(), name=f"task {runner.plan.task}") for runner in self._runners]
        await self._rest()

    async def _kill_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _rest(self) -> None:
        """Until everything is processed and committed; PenstockError if the app fails or takes too long."""
        resting = asyncio.create_task(self._log.rest(len(self._runners)))
        looks_left = max(1, round(self._settings.rest_timeout_s / _LOOK_EVERY_S))
        try:
            while not (await asyncio.wait({resting, *self._tasks}, timeout=_LOOK_EVERY_S))[0]:
                self._refuse_failed()
                looks_left -= 1
                if not looks_left:
                    raise PenstockError(
                        "not_ready",
                        f"the app did not come to rest within {self._settings.rest_timeout_s:g} s; "
                        "divide the step, or raise test.rest_timeout_s",
                    )
            if not resting.done():
                self._refuse_failed()
            await resting
        finally:
            resting.cancel()

    def _refuse_failed(self) -> None:
        for runner in self._runners:
            if runner.state in (AppState.WAITING, AppState.FENCED, AppState.STOPPED):
                raise PenstockError("internal", f"task {runner.plan.task} has failed: {runner.detail}")

    async def _collect(self) -> None:
        """Read what was written to streams and tables since the last time, partition by partition."""
        for spec in self._specs.values():
            if spec.relation is Relation.SOURCE or spec.internal:
                continue
            for partition in range(spec.partitions):
                await self._collect_partition(spec, partition)

    async def _collect_partition(self, spec: StreamSpec, partition: int) -> None:
        key = spec.name, partition
        while batches := await self._log.read(spec.name, partition, self._read.get(key, 0), _READ_BYTES):
            for batch in batches:
                frame = decode_frame(batch.payload)
                self._fresh.setdefault(spec.name, []).append(frame)
                if spec.name in self._tables:
                    self._tables[spec.name].apply(frame)
            self._read[key] = batches[-1].next
