"""One term of an app: acquire, restore, then cycles until somebody asks it to stop or something fails.

Cycle n+1 is read and computed while cycle n is being committed, and is committed only after it. After any error the
term is over: its memory may be ahead of the log.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from penstock.errors import Fenced
from penstock.model.batch import RejectedEvent
from penstock.observe.traces import Span, Traces, within
from penstock.ports.clock import Clock
from penstock.ports.log import Log
from penstock.ports.lookup import LookupFailed
from penstock_processor.logical.plan import AppPlan
from penstock_processor.operators.interface import Engine, Found, SourceBlock, Wanted
from penstock_processor.runtime.app_worker import AppWorker, CycleResult
from penstock_processor.runtime.cycle_spans import begin_cycle, with_trace
from penstock_processor.runtime.lookups import Lookups
from penstock_processor.runtime.rejections import ReplayItem
from penstock_processor.runtime.source_reader import SourceReader
from penstock_processor.runtime.statistics import AppStatistics
from penstock_processor.settings import ProcessorSettings

__all__ = ["AppTerm", "BuildEngine", "ReplayRequest", "Signals"]

BuildEngine = Callable[[AppPlan], Engine]
_STOP_LOOK_S = 0.05  # how often a lookup under way looks whether the app is stopped


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """Rejected events to feed to their statements in one cycle; `done` gets those that failed again."""

    items: tuple[ReplayItem, ...]
    done: asyncio.Future[list[RejectedEvent]]


@dataclass(slots=True)
class Signals:
    """What the world outside tells a running app; `wake` is set with every change."""

    stopping: bool = False
    replays: deque[ReplayRequest] = field(default_factory=deque)
    wake: asyncio.Event = field(default_factory=asyncio.Event)


class AppTerm:
    """Runs one term. Use once."""

    def __init__(
        self,
        plan: AppPlan,
        *,
        log: Log,
        clock: Clock,
        settings: ProcessorSettings,
        build_engine: BuildEngine,
        signals: Signals,
        statistics: AppStatistics,
        traces: Traces,
    ) -> None:
        self._plan = plan
        self._log = log
        self._clock = clock
        self._settings = settings
        self._build_engine = build_engine
        self._signals = signals
        self._statistics = statistics
        self._traces = traces
        self._lookups = Lookups(plan, settings=settings.lookups, clock=clock, secrets=settings.secrets_folder)
        self._commit: asyncio.Task[None] | None = None
        self._tick = 0
        self._rest_until_s = 0.0
        self._commit_from_s = 0.0  # the log wants commits so far apart; meanwhile the next cycle grows

    async def run(self, restored: Callable[[], None]) -> None:
        """Cycles until `signals.stopping`. Calls `restored` once the state is there. Raises what ended the term."""
        worker, reader = await self._restore()
        restored()
        try:
            while not self._signals.stopping:
                await self._turn(worker, reader)
            await self._settle()
        finally:
            if self._commit is not None:
                self._commit.cancel()
                await asyncio.gather(self._commit, return_exceptions=True)
            await self._lookups.close()

    async def _restore(self) -> tuple[AppWorker, SourceReader]:
        found = await self._log.acquire(self._plan.task)
        if found.app.sql != self._plan.sql:  # deployed before the term began, unknown to who made the plan
            raise Fenced(f"version {found.app.version} of app '{self._plan.name}' is in force, with another text")

        def build() -> AppWorker:
            engine = self._build_engine(self._plan)
            return AppWorker(self._plan, engine, term=found.term, restored=found.deltas, settings=self._settings)

        worker = await asyncio.to_thread(build)
        self._statistics.note_restored(worker.rule_hits())
        reader = SourceReader(
            self._log, self._clock, plan=self._plan, positions=found.positions, settings=self._settings
        )
        return worker, reader

    async def _turn(self, worker: AppWorker, reader: SourceReader) -> None:
        """One cycle, one replay, or a wait for news."""
        if self._signals.replays:
            await self._replay(worker, self._signals.replays.popleft())
            return
        await self._rest()
        inputs = await reader.next_inputs()
        self._statistics.note_sources(self._plan.task, reader.through())
        if not inputs and not worker.is_due(self._clock.now_ms()):
            await self._settle()
            self._statistics.note_state(self._plan.task, worker.state_sizes())
            await self._news(reader, worker.due_ms)
            return
        span = begin_cycle(self._traces, self._plan, inputs)
        with within(span, end=False):
            started_s = self._clock.monotonic_s()
            given = await asyncio.to_thread(worker.prepare, inputs, now_ms=self._clock.now_ms())
            found = await self._look_up(worker, given.blocks, now_ms=given.now_ms)
            result = await asyncio.to_thread(worker.finish, given, found)
            seconds = self._clock.monotonic_s() - started_s
            self._rest_until_s = started_s + seconds + self._rest_s(sum(result.counts.rows_in.values()), seconds)
            await self._settle()
        if not result.empty:
            self._commit_from_s = self._clock.monotonic_s() + self._log.capabilities.commit_interval_s
            self._commit = asyncio.create_task(self._write(with_trace(result, span), seconds, span))

    async def _look_up(self, worker: AppWorker, blocks: Sequence[SourceBlock], *, now_ms: int) -> dict[str, Found]:
        """What the lookup joins need for these rows, one after the other where one goes by what another found."""
        found: dict[str, Found] = {}
        for depth in range(worker.lookup_depth):
            wanted = await asyncio.to_thread(worker.wanted, blocks, found, now_ms=now_ms, depth=depth)
            found |= await self._find(wanted)
        return found

    async def _find(self, wanted: Sequence[Wanted]) -> dict[str, Found]:
        """What was found. A place that does not answer keeps no app from being stopped: LookupFailed."""
        finding = asyncio.create_task(self._lookups.find(wanted))
        try:
            while not (finding.done() or self._signals.stopping):
                await asyncio.wait({finding}, timeout=_STOP_LOOK_S)
            await asyncio.wait({finding}, timeout=self._settings.lookups.stop_grace_s)
            if finding.done():
                return finding.result()
            raise LookupFailed("the app is stopped before the other side has answered; the cycle is begun anew later")
        finally:
            finding.cancel()
            await asyncio.gather(finding, return_exceptions=True)

    def _rest_s(self, rows: int, seconds: float) -> float:
        """How long to rest after a cycle of `rows` events that took `seconds`."""
        if rows >= self._settings.small_cycle_rows:
            return 0.0
        return min(self._settings.rest_max_s, seconds * (1 / self._settings.small_cycle_share - 1))

    async def _rest(self) -> None:
        left_s = max(self._rest_until_s, self._commit_from_s) - self._clock.monotonic_s()
        if left_s > 0:
            await asyncio.sleep(left_s)  # real time: what it spares is the processor's, whatever the clock says

    async def _replay(self, worker: AppWorker, request: ReplayRequest) -> None:
        try:
            await self._settle()
            started_s = self._clock.monotonic_s()
            now_ms = self._clock.now_ms()
            blocks = worker.blocks_of(request.items) if worker.lookup_depth else []
            found = await self._look_up(worker, blocks, now_ms=now_ms)
            result = await asyncio.to_thread(worker.replay, request.items, now_ms=now_ms, found=found)
            await self._write(result, self._clock.monotonic_s() - started_s)
        except BaseException as error:  # the caller waits for an answer, also when this task is cancelled
            if not request.done.done():
                request.done.set_exception(
                    error if isinstance(error, Exception) else asyncio.CancelledError("the app was stopped")
                )
            raise
        if not request.done.done():
            request.done.set_result(list(result.transaction.rejected))

    async def _settle(self) -> None:
        """The cycle before is durable when this returns."""
        if self._commit is not None:
            commit, self._commit = self._commit, None
            try:
                await asyncio.shield(commit)
            except asyncio.CancelledError:
                self._commit = commit  # let `run` put an end to it
                raise

    async def _write(self, result: CycleResult, seconds: float, span: Span | None = None) -> None:
        with within(span):
            await self._log.commit(result.transaction)
        self._statistics.note_cycle(result.counts, seconds=seconds)

    async def _news(self, reader: SourceReader, due_ms: int | None) -> None:
        """Until the log has news of a source, a partition falls idle, `due_ms` has come, or the app is woken."""
        idle_s = reader.until_idle_s()
        timeout_s = self._settings.wait_s if idle_s is None else min(self._settings.wait_s, idle_s)
        if due_ms is not None:
            timeout_s = max(0.0, min(timeout_s, (due_ms - self._clock.now_ms()) / 1000))
        log_news = asyncio.create_task(self._log.wait(reader.streams, self._tick, timeout_s))
        woken = asyncio.create_task(self._signals.wake.wait())
        try:
            await asyncio.wait({log_news, woken}, return_when=asyncio.FIRST_COMPLETED)
            if log_news.done():
                self._tick = log_news.result()
        finally:
            for task in (log_news, woken):
                task.cancel()
            await asyncio.gather(log_news, woken, return_exceptions=True)
        self._signals.wake.clear()
