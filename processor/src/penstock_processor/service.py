"""The role `processor`: every app of the catalog runs here, each by itself; deployed and removed while running."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog
from aiohttp import web

from penstock.errors import PenstockError
from penstock.model.batch import RejectedEvent
from penstock.model.stream import Relation
from penstock.ports.log import AppRecord
from penstock.role import Check, Ports
from penstock_processor import http
from penstock_processor.logical.plan import AppPlan
from penstock_processor.logical.plan_app import plan_app
from penstock_processor.runtime.app_runner import AppRunner, AppState
from penstock_processor.runtime.app_term import BuildEngine
from penstock_processor.runtime.statistics import AppStatistics
from penstock_processor.settings import ProcessorSettings

__all__ = ["ProcessorRole", "ReplayAdmission", "build"]

#: Sends the (corrected) bytes of an event that admission rejected through ingest again, on behalf of the caller whose
#: `Authorization` header is the last argument; its reply as JSON values.
ReplayAdmission = Callable[[RejectedEvent, bytes, str], Awaitable[dict[str, object]]]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_log = structlog.get_logger("penstock.processor")


def build(
    settings: ProcessorSettings, ports: Ports, *, replay_admission: ReplayAdmission | None = None
) -> ProcessorRole:
    """The processor on these ports. Without `replay_admission`, events that admission rejected cannot be replayed."""
    from penstock_processor.compile.build import build_engine  # imports operators: only who runs apps needs them

    return ProcessorRole(settings, ports, build_engine=build_engine, replay_admission=replay_admission)


@dataclass(slots=True)
class _Running:
    """An app's runner and its task."""

    runner: AppRunner
    task: asyncio.Task[None]


class ProcessorRole:
    """Implements `role.Role`. `deploy` and `remove` work before, during and after `run`."""

    name = "processor"

    def __init__(
        self,
        settings: ProcessorSettings,
        ports: Ports,
        *,
        build_engine: BuildEngine,
        replay_admission: ReplayAdmission | None = None,
    ) -> None:
        self.settings = settings
        self.ports = ports
        self.replay_admission = replay_admission
        self.replaying: set[str] = set()  # rejected events that some request is replaying now
        self._build_engine = build_engine
        self._apps: dict[str, _Running] = {}
        self._broken: dict[str, str] = {}  # apps of the catalog that cannot be planned, and why
        self._changing = asyncio.Lock()
        self._working = False

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """Apps and rejected events."""
        return http.routes(self)

    def ready(self) -> Sequence[Check]:
        """One check per app: running or not, and why."""
        checks = [Check("processor", self._working, "working" if self._working else "not started")]
        for name, running in sorted(self._apps.items()):
            runner = running.runner
            runs = runner.state is AppState.RUNNING
            checks.append(Check(f"app {name}", runs, "running" if runs else f"{runner.state}: {runner.detail}"))
        checks += [Check(f"app {name}", False, why) for name, why in sorted(self._broken.items())]
        return checks

    async def run(self, stop: asyncio.Event) -> None:
        """Run every app of the catalog until `stop`; each finishes and commits the cycle that is under way."""
        async with self._changing:
            self._working = True
            for record in await self.apps():
                await self._start_stored(record)
        _log.info("processor_started", apps=sorted(self._apps))
        try:
            await stop.wait()
        finally:
            async with self._changing:
                self._working = False
                await self._stop(list(self._apps))
            _log.info("processor_stopped")

    async def apps(self) -> list[AppRecord]:
        """The deployed apps by name."""
        catalog = await self.ports.log.catalog()
        return [catalog.apps[name] for name in sorted(catalog.apps)]

    async def app(self, name: str) -> AppRecord:
        """The deployed app; `unknown_app` if there is none."""
        catalog = await self.ports.log.catalog()
        record = catalog.apps.get(name)
        if record is None:
            raise PenstockError("unknown_app", f"there is no app '{name}'; PUT /v1/apps/{name} deploys one")
        return record

    async def lag_events(self, name: str) -> dict[str, int]:
        """Events per source of an app that are in the log and whose effects are not yet committed."""
        catalog = await self.ports.log.catalog()
        positions = await self.ports.log.positions(name)
        lags: dict[str, int] = {}
        for spec in catalog.streams.values():
            if spec.app == name and spec.relation is Relation.SOURCE:
                heads = [(n, await self.ports.log.head(spec.name, n)) for n in range(spec.partitions)]
                lags[spec.name] = sum(head.next - positions.get((spec.name, n), head.first) for n, head in heads)
        return lags

    def runner(self, name: str) -> AppRunner | None:
        """The runner of an app of this process; None if it does not run here."""
        running = self._apps.get(name)
        return None if running is None else running.runner

    async def plan(self, name: str, sql: str) -> AppPlan:
        """Check a text without deploying it: SqlErrors with every finding, `too_large`, `bad_request` (name)."""
        if not _NAME.fullmatch(name):
            raise PenstockError(
                "bad_request", f"'{name}' cannot name an app: a letter, then up to 63 letters, digits, '_' or '-'"
            )
        size_bytes = len(sql.encode())
        if size_bytes > self.settings.app_max_bytes:
            raise PenstockError("too_large", f"an app may have {self.settings.app_max_bytes} bytes, not {size_bytes}")
        return await asyncio.to_thread(self._planned, name, sql)

    async def deploy(self, name: str, sql: str, expected_version: int | None = None) -> AppRecord:
        """Deploy or replace an app; statements that compute the same keep their state.

        The old app runs on if the new text is refused: SqlErrors, `precondition_failed` (`expected_version` 0: must
        not exist; None: not checked), `name_taken`, `too_many_requests` (more than `apps_max`).
        """
        plan = await self.plan(name, sql)
        async with self._changing:
            catalog = await self.ports.log.catalog()
            if name not in catalog.apps and len(catalog.apps) >= self.settings.apps_max:
                raise PenstockError(
                    "conflict", f"this processor runs {self.settings.apps_max} apps already; remove one"
                )
            old = self._apps.get(name)
            await self._stop([name])
            try:
                record = await self.ports.log.put_app(
                    name, sql, [source.spec for source in plan.sources.values()], expected_version
                )
            except BaseException:
                if old is not None and self._working:
                    self._start(old.runner.plan, old.runner.statistics)
                raise
            self._broken.pop(name, None)
            if self._working:
                self._start(plan, old.runner.statistics if old else None)
        _log.info("app_deployed", app=name, version=record.version)
        return record

    async def remove(self, name: str, expected_version: int | None = None) -> None:
        """Stop an app and remove it with its streams, positions and state; its rejected events stay."""
        async with self._changing:
            await self.app(name)
            old = self._apps.get(name)
            await self._stop([name])
            try:
                await self.ports.log.delete_app(name, expected_version)
            except BaseException:
                if old is not None and self._working:
                    self._start(old.runner.plan, old.runner.statistics)
                raise
            self._broken.pop(name, None)
        _log.info("app_removed", app=name)

    def _planned(self, name: str, sql: str) -> AppPlan:
        plan = plan_app(name, sql)
        self._build_engine(plan)  # what cannot be compiled is refused here, while the old app runs on
        return plan

    async def _start_stored(self, record: AppRecord) -> None:
        try:
            plan = await asyncio.to_thread(self._planned, record.name, record.sql)
        except PenstockError as error:
            self._broken[record.name] = f"version {record.version} cannot run: {error.detail}"
            _log.error("app_broken", app=record.name, code=error.code, detail=error.detail)
        else:
            self._start(plan, None)

    def _start(self, plan: AppPlan, statistics: AppStatistics | None) -> None:
        runner = AppRunner(
            plan,
            log=self.ports.log,
            clock=self.ports.clock,
            settings=self.settings,
            build_engine=self._build_engine,
            statistics=statistics,
        )
        self._apps[plan.name] = _Running(runner, asyncio.create_task(runner.run(), name=f"app {plan.name}"))

    async def _stop(self, names: Sequence[str]) -> None:
        stopped = [running for name in names if (running := self._apps.pop(name, None)) is not None]
        for running in stopped:
            running.runner.stop()
        await asyncio.gather(*(running.task for running in stopped))
