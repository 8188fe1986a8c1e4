"""The role `processor`: apps are deployed, removed and asked about here; `replica` runs what is assigned to it."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import socket
from collections.abc import Awaitable, Callable, Sequence

import structlog
from aiohttp import web

from penstock.errors import PenstockError
from penstock.model.batch import RejectedEvent
from penstock.model.stream import Relation
from penstock.ports.log import AppRecord, Catalog
from penstock.role import Check, Ports
from penstock_processor import http
from penstock_processor.function_files import FunctionFiles
from penstock_processor.logical.kafka_options import check_brokers
from penstock_processor.logical.outlet_options import check_topics
from penstock_processor.logical.plan import AppPlan
from penstock_processor.logical.plan_app import plan_app
from penstock_processor.logical.stages import specs_of, task_plans
from penstock_processor.replica import Replica
from penstock_processor.rules.book import RuleBook
from penstock_processor.rules.http import routes as rules_routes
from penstock_processor.rules.model import is_rules_app
from penstock_processor.runtime.app_tasks import AppTasks
from penstock_processor.runtime.app_term import BuildEngine
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
    from penstock_processor.compile.engines import engine_of  # imports operators: only who runs apps needs them

    return ProcessorRole(settings, ports, build_engine=engine_of, replay_admission=replay_admission)


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
        member: str = "",
    ) -> None:
        self.settings = settings
        self.ports = ports
        self.replay_admission = replay_admission
        self.replaying: set[str] = set()  # rejected events that some request is replaying now
        self._build_engine = build_engine
        self._functions = FunctionFiles(settings.functions_folders)
        member = member or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self.replica = Replica(settings, ports, build_engine=build_engine, planned=self._plan_of, member=member)
        self.rules = RuleBook(settings.rules, ports, self.replica)

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """Apps, rules and rejected events."""
        return [*http.routes(self), *rules_routes(self)]

    def ready(self) -> Sequence[Check]:
        """One check per app: running, standing by, or why not."""
        return self.replica.checks()

    async def run(self, stop: asyncio.Event) -> None:
        """Run what is assigned to this process until `stop`; each task finishes and commits its cycle under way."""
        _log.info("processor_started", member=self.replica.member)
        try:
            await self.replica.run(stop)
        finally:
            _log.info("processor_stopped")

    async def apps(self) -> list[AppRecord]:
        """The deployed apps by name, without those that hold rules."""
        catalog = await self.ports.log.catalog()
        return [catalog.apps[name] for name in sorted(catalog.apps) if not is_rules_app(name)]

    async def app(self, name: str) -> AppRecord:
        """The deployed app; `unknown_app` if there is none."""
        catalog = await self.ports.log.catalog()
        record = catalog.apps.get(name)
        if record is None or is_rules_app(name):
            raise PenstockError("unknown_app", f"there is no app '{name}'; PUT /v1/apps/{name} deploys one")
        return record

    async def lag_events(self, name: str) -> dict[str, int]:
        """Events per source of an app that are in the log and whose effects are not yet committed."""
        catalog = await self.ports.log.catalog()
        positions = await self.source_positions(name)
        lags: dict[str, int] = {}
        for spec in catalog.streams.values():
            if spec.app == name and spec.relation is Relation.SOURCE:
                heads = [(n, await self.ports.log.head(spec.name, n)) for n in range(spec.partitions)]
                lags[spec.name] = sum(head.next - positions.get((spec.name, n), head.first) for n, head in heads)
        return lags

    async def source_positions(self, name: str) -> dict[tuple[str, int], int]:
        """How far an app has read its sources: committed positions by stream and partition."""
        positions: dict[tuple[str, int], int] = {}
        running = self.runner(name)
        for task in [name] if running is None else running.source_tasks:
            positions.update(await self.ports.log.positions(task))
        return positions

    def runner(self, name: str) -> AppTasks | None:
        """The app as this process knows it, running or standing by; None if it is not deployed or cannot run."""
        return self.replica.apps.get(name)

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
        not exist; None: not checked), `name_taken`, `conflict` (more than `apps_max`; rules that would not fit its
        streams any more).
        """
        plan = await self.plan(name, sql)
        async with self.replica.changing:
            catalog = await self.ports.log.catalog()
            apps = [app for app in catalog.apps if not is_rules_app(app)]
            if name not in catalog.apps and len(apps) >= self.settings.apps_max:
                raise PenstockError(
                    "conflict", f"this processor runs {self.settings.apps_max} apps already; remove one"
                )
            old = catalog.apps.get(name)
            tasks = [] if old is None else await self._tasks_before(old, plan)
            specs = specs_of(plan)
            readers = await self.rules.readers_after(name, specs, catalog)
            record = await self.replica.install(
                plan, specs, tasks=tasks, expected_version=expected_version, readers=readers
            )
        _log.info("app_deployed", app=name, version=record.version)
        return record

    async def remove(self, name: str, expected_version: int | None = None) -> None:
        """Stop an app and remove it with its streams, positions and state; its rejected events stay.

        `conflict` while rules read one of its streams.
        """
        async with self.replica.changing:
            await self.app(name)
            await self.rules.readers_after(name, (), await self.ports.log.catalog())
            await self.replica.uninstall(name, expected_version)
        _log.info("app_removed", app=name)

    async def _tasks_before(self, old: AppRecord, plan: AppPlan) -> list[str]:
        """Tasks of the version in force; `conflict` if the new one would divide its state otherwise."""
        running = self.runner(old.name)
        try:
            before = running.plan if running else await asyncio.to_thread(self._planned, old.name, old.sql)
        except PenstockError:
            return []  # the version in force cannot run, so nothing of it does
        if before.parallelism != plan.parallelism:
            raise PenstockError(
                "conflict",
                f"app '{old.name}' runs with 'parallelism.default' = '{before.parallelism}', and its positions and "
                f"state cannot be divided anew into {plan.parallelism}: keep the number, deploy the text under "
                "another name (with other table names), or remove the app with its streams and deploy it again",
            )
        return [task.task for task in task_plans(before)]

    def _plan_of(self, record: AppRecord, catalog: Catalog) -> AppPlan:
        if is_rules_app(record.name):
            return self.rules.plan_of(record, catalog)
        return self._planned(record.name, record.sql)

    def _planned(self, name: str, sql: str) -> AppPlan:
        plan = plan_app(name, sql, functions=self._functions)
        brokers = self.ports.log.capabilities.brokers
        check_brokers(sql, specs_of(plan), brokers)
        check_topics(sql, specs_of(plan), brokers)
        self._build_engine(plan)  # what cannot be compiled is refused here, while the old app runs on
        return plan
