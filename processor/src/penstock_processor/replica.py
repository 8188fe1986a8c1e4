"""This process as one of the replicas of the processor: who is alive, what is assigned to it, and running just that.

Every replica follows the catalog of the log, so an app deployed, replaced or removed through any of them starts,
restarts or stops on all. Where only one process can write the log, it is the only member and runs everything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from penstock.errors import PenstockError
from penstock.model.stream import StreamSpec
from penstock.ports.log import AppRecord, Catalog
from penstock.role import Check, Ports
from penstock_processor.logical.plan import AppPlan
from penstock_processor.metrics import MEMBERS, TASKS
from penstock_processor.rules.model import is_rules_app
from penstock_processor.rules.plan import followed
from penstock_processor.runtime.app_runner import AppRunner, AppState
from penstock_processor.runtime.app_tasks import AppTasks
from penstock_processor.runtime.app_term import BuildEngine
from penstock_processor.runtime.assignment import assign
from penstock_processor.runtime.delivery import Delivery
from penstock_processor.runtime.statistics import AppStatistics
from penstock_processor.settings import ProcessorSettings

__all__ = ["Replica"]

GROUP = "processor"
_log = structlog.get_logger("penstock.processor")


class Replica:
    """`run` once; `apps` changes only under `changing`. `member` is a name that no other replica has;
    `members`: those that are alive, as far as is known here.
    """

    def __init__(self, settings: ProcessorSettings, ports: Ports, *, build_engine: BuildEngine,
                 planned: Callable[[AppRecord, Catalog], AppPlan], member: str) -> None:  # fmt: skip
        self.apps: dict[str, AppTasks] = {}
        self.changing = asyncio.Lock()
        self.working = False
        capabilities = ports.log.capabilities  # a cluster's log fences tasks, whoever else may write sources there
        self.shared = capabilities.several_writers or capabilities.scope == "cluster"
        self.member = member
        self._settings = settings
        self._ports = ports
        self._build_engine = build_engine
        self._planned = planned
        self._broken: dict[str, tuple[int, int, str]] = {}  # version that cannot be planned, with which catalog, why
        self.members: list[str] = [] if self.shared else [member]
        self._news = asyncio.Event()
        self._asked: list[asyncio.Future[None]] = []
        self._trouble = ""
        self._tick = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Run what is assigned here until `stop`; each task finishes and commits its cycle, then this one leaves."""
        loops = [asyncio.create_task(self._follow(), name="follow catalog")]
        if self.shared:
            loops.append(asyncio.create_task(self._beats(), name="beats"))
        stopping = asyncio.create_task(stop.wait())
        try:
            done, _ = await asyncio.wait({stopping, *loops}, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopping}:
                task.result()  # raises what ended it
        finally:
            stopping.cancel()
            async with self.changing:  # so that nothing is being started or stopped
                self.working = False
                loops[0].cancel()  # the beats go on while tasks finish: nobody else needs them before
                await asyncio.gather(stopping, loops[0], return_exceptions=True)
                await asyncio.gather(*(app.stop() for app in self.apps.values()))
            await self._leave(loops[1:])

    def checks(self) -> list[Check]:
        """One check per app: running, standing by, or why not."""
        if not self.working:
            return [Check("processor", False, self._trouble or "not started")]
        checks = [Check("processor", not self._trouble, self._trouble or "working")]
        for name, app in sorted(self.apps.items()):
            ok = app.state in (AppState.RUNNING, AppState.STANDBY)
            checks.append(Check(f"app {name}", ok, app.detail if ok else f"{app.state}: {app.detail}"))
            # systems of others that do not answer make this process no less ready
            checks += [Check(f"delivery {one.task}", True, one.detail) for one in app.deliveries.here]
        return checks + [Check(f"app {name}", False, why) for name, (_, _, why) in sorted(self._broken.items())]

    async def confirm(self) -> None:
        """Return when this replica has said that it is alive, and has looked again at what is assigned to it."""
        asked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asked.append(asked)
        self._news.set()
        await asked

    async def adopt(self, plan: AppPlan | None, record: AppRecord | None) -> None:
        """With `changing` held, after a change of the catalog: run the apps as it has them now.

        `plan`: of `record`, which was put there just now, so that it need not be planned again.
        """
        if plan is not None and record is not None:
            old = self.apps.get(record.name)
            if old is not None:
                await old.stop()
            self._broken.pop(record.name, None)
            self.apps[record.name] = AppTasks(plan, record.version, old.statistics if old else None)
        if self.working:
            await self._run_assigned(await self._ports.log.catalog())

    async def install(
        self,
        plan: AppPlan,
        specs: Sequence[StreamSpec],
        *,
        tasks: list[str],
        expected_version: int | None,
        readers: Sequence[str] = (),
        begin: Callable[[], Awaitable[None]] | None = None,
    ) -> AppRecord:
        """With `changing` held: the new version in force. `tasks` of the old one finish their cycles here, and are
        fenced elsewhere: before it, so that cycles under way there are begun again, and after it, so that none of the
        old plan follows. So do apps that read its streams (`readers`). `begin` is called before it runs.
        """
        for name in (plan.name, *readers):
            if (running := self.apps.get(name)) is not None:
                await running.stop()
        record = None
        try:
            await self.fence([*tasks, *readers])
            record = await self._ports.log.put_app(plan.name, plan.sql, specs, expected_version)
            await self.fence([*tasks, *readers])
            if begin is not None:
                await begin()
        finally:
            await self.adopt(plan if record else None, record)
        return record

    async def uninstall(self, name: str, expected_version: int | None) -> None:
        """With `changing` held: stop an app and remove it with its streams, positions and state."""
        if (running := self.apps.get(name)) is not None:
            await running.stop()
        try:
            await self._ports.log.delete_app(name, expected_version)
        finally:
            await self.adopt(None, None)

    async def fence(self, names: list[str]) -> None:
        """Make sure that no cycle of these tasks that began before can be committed, on whatever replica."""
        for name in names if self.shared else ():
            await self._ports.log.acquire(name)

    async def _follow(self) -> None:
        while True:
            asked, self._asked = self._asked, []
            try:
                if self.shared and (asked or not self.members):
                    await self._beat()
                async with self.changing:
                    await self._run_assigned(await self._ports.log.catalog())
                    self.working = True
                self._note_trouble(None)
                for one in asked:
                    if not one.done():
                        one.set_result(None)
                await self._wait_for_news()
            except PenstockError as error:
                self._asked = [one for one in asked if not one.done()] + self._asked
                self._note_trouble(error)
                await self._ports.clock.sleep(self._settings.retry_min_s)

    async def _wait_for_news(self) -> None:
        """Until the catalog or the members change, or a task asks."""
        changed = asyncio.create_task(self._ports.log.wait([""], self._tick, self._settings.wait_s))
        told = asyncio.create_task(self._news.wait())
        try:
            await asyncio.wait({changed, told}, return_when=asyncio.FIRST_COMPLETED)
            if changed.done():
                self._tick = changed.result()
        finally:
            for task in (changed, told):
                task.cancel()
            await asyncio.gather(changed, told, return_exceptions=True)
        self._news.clear()

    async def _beats(self) -> None:
        while True:
            try:
                await self._beat()
            except PenstockError as error:
                self._note_trouble(error)
            await self._ports.clock.sleep(self._settings.beat_s)

    async def _beat(self) -> None:
        members = await self._ports.log.beat(GROUP, self.member, self._settings.member_ttl_s)
        MEMBERS.set(len(members))
        if members != self.members:
            _log.info("processor_members", members=members)
            self.members = members
            self._news.set()

    async def _leave(self, beats: list[asyncio.Task[None]]) -> None:
        for task in beats:
            task.cancel()
        await asyncio.gather(*beats, return_exceptions=True)
        if beats:
            try:
                await self._ports.log.beat(GROUP, self.member, 0.0)
            except PenstockError as error:  # it is taken for gone after its ttl
                _log.warning("processor_left_silently", detail=error.detail)

    def _note_trouble(self, error: PenstockError | None) -> None:
        detail = "" if error is None else error.detail
        if detail and not self._trouble:
            _log.warning("processor_cannot_follow", detail=detail)
        self._trouble = detail

    async def _run_assigned(self, catalog: Catalog) -> None:
        """Plan what is new, stop what is gone, and run the tasks that are assigned here."""
        for name in [name for name in self.apps if name not in catalog.apps]:
            await self.apps.pop(name).stop()
        self._broken = {name: why for name, why in self._broken.items() if name in catalog.apps}
        for record in catalog.apps.values():
            await self._know(record, catalog)
        units = [unit for app in self.apps.values() for unit in app.units]
        owners = assign(units, self.members)
        for name, app in sorted(self.apps.items()):
            mine = [partition for partition in range(app.plan.parallelism)
                    if owners.get((name, partition)) == self.member]  # fmt: skip
            await app.run_only(mine, self._make_runner)
            await app.deliveries.run_only(mine, self._make_delivery)
        TASKS.set(sum(app.count for app in self.apps.values()))

    async def _know(self, record: AppRecord, catalog: Catalog) -> None:
        """The app in this version, planned; what cannot be planned is kept with the reason.

        What follows a stream of another app is planned anew when that is another stream than before.
        """
        old = self.apps.get(record.name)
        broken = self._broken.get(record.name)
        if old is not None and old.version == record.version:
            source = followed(old.plan)
            if source is None or old.plan.sources[source].spec == catalog.streams.get(source):
                return
        if broken and broken[0] == record.version and (not is_rules_app(record.name) or broken[1] == catalog.version):
            return
        plan: AppPlan | None = None
        try:
            plan = await asyncio.to_thread(self._planned, record, catalog)
        except PenstockError as error:
            why = f"version {record.version} cannot run: {error.detail}"
            self._broken[record.name] = record.version, catalog.version, why
            _log.error("app_broken", app=record.name, code=error.code, detail=error.detail)
        if old is not None:
            await old.stop()
            del self.apps[record.name]
        if plan is not None:
            self._broken.pop(record.name, None)
            self.apps[record.name] = AppTasks(plan, record.version, old.statistics if old else None)

    def _make_delivery(self, spec: StreamSpec, partition: int, sql: str) -> Delivery:
        return Delivery(
            spec,
            partition,
            sql=sql,
            log=self._ports.log,
            clock=self._ports.clock,
            settings=self._settings,
            confirm=self.confirm if self.shared else None,
        )

    def _make_runner(self, plan: AppPlan, statistics: AppStatistics) -> AppRunner:
        rules_rows = min(self._settings.cycle_rows, self._settings.rules.cycle_rows)
        bounded = self._settings.model_copy(update={"cycle_rows": rules_rows})
        return AppRunner(
            plan,
            log=self._ports.log,
            clock=self._ports.clock,
            settings=self._settings if followed(plan) is None else bounded,
            build_engine=self._build_engine,
            statistics=statistics,
            confirm=self.confirm if self.shared else None,
            traces=self._ports.traces,
        )
