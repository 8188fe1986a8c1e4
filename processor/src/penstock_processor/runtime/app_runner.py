"""Keeps one task of an app running: term after term, with a growing wait after failures, until it is stopped.

A term that another instance has fenced: where no other instance can be (`confirm` None) it stops for good; else it
waits longer each time, asks who is alive and whose the task is, and begins a new term only if it is still its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum

import structlog
from polars.exceptions import PanicException

from penstock.errors import Fenced, PenstockError
from penstock.model.batch import RejectedEvent
from penstock.observe.traces import Traces, trace_fields
from penstock.ports.clock import Clock
from penstock.ports.log import Log
from penstock_processor.logical.plan import AppPlan
from penstock_processor.metrics import APP_RESTARTS
from penstock_processor.runtime.app_term import AppTerm, BuildEngine, ReplayRequest, Signals
from penstock_processor.runtime.rejections import ReplayItem
from penstock_processor.runtime.statistics import AppStatistics
from penstock_processor.settings import ProcessorSettings

__all__ = ["AppRunner", "AppState"]

_log = structlog.get_logger("penstock.processor")


class AppState(StrEnum):
    """What an app is doing here. FENCED: another instance runs it; STOPPED: somebody asked for it; STANDBY: assigned
    to other replicas.
    """

    STARTING = "starting"
    RUNNING = "running"
    WAITING = "waiting"
    FENCED = "fenced"
    STOPPED = "stopped"
    STANDBY = "standby"


class AppRunner:
    """One app, or task of an app, of this process. `run` once; the other methods from the same event loop.

    `confirm` returns when it is known anew who runs what (whoever knows calls `stop` if it is not this one).
    """

    def __init__(
        self,
        plan: AppPlan,
        *,
        log: Log,
        clock: Clock,
        settings: ProcessorSettings,
        build_engine: BuildEngine,
        statistics: AppStatistics | None = None,
        confirm: Callable[[], Awaitable[None]] | None = None,
        traces: Traces | None = None,
    ) -> None:
        self.plan = plan
        self._confirm = confirm
        self.state = AppState.STARTING
        self.detail = "restoring state"
        self.statistics = statistics or AppStatistics(plan.name)
        self._log = log
        self._clock = clock
        self._settings = settings
        self._build_engine = build_engine
        self._traces = traces or Traces()
        self._signals = Signals()
        self._retry_s = 0.0
        self._fenced_s = 0.0
        self._cycles_at_failure = 0

    async def run(self) -> None:
        """Work until `stop`. Returns when stopped or fenced; failures are retried and shown in `state`."""
        try:
            while not self._signals.stopping:
                if not await self._term():
                    return
            self._enter(AppState.STOPPED, "stopped")
        finally:
            self._refuse_replays()

    def stop(self) -> None:
        """Finish the cycle that is under way, commit it, and return from `run`."""
        self._signals.stopping = True
        self._signals.wake.set()

    async def replay(self, items: Sequence[ReplayItem]) -> list[RejectedEvent]:
        """Feed these rejected events to their statements again, all in one transaction; those that failed again.

        `not_ready` while the app does not run, `too_many_requests` if too many wait already.
        """
        if self.state is not AppState.RUNNING:
            raise PenstockError(
                "not_ready",
                f"app '{self.plan.name}' is {self.state}: {self.detail}",
                retry_after_s=self._settings.retry_min_s,
            )
        if len(self._signals.replays) >= self._settings.replay_queue:
            raise PenstockError("too_many_requests", "too many replays wait for this app", retry_after_s=1.0)
        request = ReplayRequest(tuple(items), asyncio.get_running_loop().create_future())
        self._signals.replays.append(request)
        self._signals.wake.set()
        return await request.done

    async def _term(self) -> bool:
        """One term; False when there shall be no other."""
        term = AppTerm(
            self.plan,
            log=self._log,
            clock=self._clock,
            settings=self._settings,
            build_engine=self._build_engine,
            signals=self._signals,
            statistics=self.statistics,
            traces=self._traces,
        )
        started_s = self._clock.monotonic_s()
        try:
            await term.run(self._restored)
        except Fenced as error:
            return await self._fenced(error, lasted_s=self._clock.monotonic_s() - started_s)
        except PenstockError as error:
            await self._wait(error, code=error.code, detail=error.detail, least_s=error.retry_after_s or 0.0)
        except (Exception, PanicException) as error:  # outermost loop of an app: whatever it was, it is tried again
            await self._wait(error, code="internal", detail=f"{type(error).__name__}: {error}", least_s=0.0)
        return True

    def _restored(self) -> None:
        self._enter(AppState.RUNNING, "running")
        _log.info("app_started", app=self.plan.name, task=self.plan.task)

    async def _fenced(self, error: Fenced, *, lasted_s: float) -> bool:
        """Whether there shall be another term."""
        if self._confirm is None:
            self._enter(AppState.FENCED, f"{error.detail}; this instance has stopped it")
            _log.error("app_fenced", app=self.plan.name, detail=error.detail)
            return False
        least_s, most_s = self._settings.retry_min_s, self._settings.retry_max_s
        self._fenced_s = least_s if lasted_s > most_s or not self._fenced_s else min(self._fenced_s * 2, most_s)
        self._enter(AppState.FENCED, f"{error.detail}; another replica has taken it over")
        APP_RESTARTS.labels(self.plan.name, error.code).inc()
        _log.warning("app_fenced", app=self.plan.name, task=self.plan.task, retry_s=self._fenced_s)
        await self._unless_stopped(self._clock.sleep(self._fenced_s))
        await self._unless_stopped(self._confirm())
        return True

    async def _wait(self, error: BaseException, *, code: str, detail: str, least_s: float) -> None:
        progressed = self.statistics.cycles > self._cycles_at_failure
        self._cycles_at_failure = self.statistics.cycles
        longer_s = min(self._retry_s * 2, self._settings.retry_max_s)
        self._retry_s = self._settings.retry_min_s if progressed or self._retry_s == 0.0 else longer_s
        wait_s = max(self._retry_s, least_s)
        self._enter(AppState.WAITING, f"{detail} (next try in {wait_s:g} s)")
        APP_RESTARTS.labels(self.plan.name, code).inc()
        _log.warning(
            "app_failed",
            app=self.plan.name,
            code=code,
            detail=detail,
            retry_s=wait_s,
            exc_info=error if code == "internal" else None,
            **trace_fields(error),
        )
        await self._unless_stopped(self._clock.sleep(wait_s))

    async def _unless_stopped(self, work: Awaitable[None]) -> None:
        """Wait for it, but not when somebody asks to stop."""
        done = asyncio.ensure_future(work)
        try:
            while not (done.done() or self._signals.stopping):
                self._signals.wake.clear()
                woken = asyncio.ensure_future(self._signals.wake.wait())
                await asyncio.wait({done, woken}, return_when=asyncio.FIRST_COMPLETED)
                woken.cancel()
        finally:
            done.cancel()

    def _enter(self, state: AppState, detail: str) -> None:
        self.state = state
        self.detail = detail

    def _refuse_replays(self) -> None:
        while self._signals.replays:
            request = self._signals.replays.popleft()
            if not request.done.done():
                request.done.set_exception(
                    PenstockError("not_ready", f"app '{self.plan.name}' was stopped; try again", retry_after_s=1.0)
                )
