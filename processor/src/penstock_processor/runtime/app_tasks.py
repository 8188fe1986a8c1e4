"""One app on this replica: the tasks of it that run here, and what can be said of all of them together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from penstock.errors import PenstockError
from penstock.model.batch import RejectedEvent
from penstock.model.task import task_name
from penstock_processor.logical.plan import AppPlan
from penstock_processor.logical.stages import task_plans
from penstock_processor.runtime.app_runner import AppRunner, AppState
from penstock_processor.runtime.assignment import Unit
from penstock_processor.runtime.deliveries import Deliveries
from penstock_processor.runtime.rejections import ReplayItem
from penstock_processor.runtime.statistics import AppStatistics

__all__ = ["AppTasks", "MakeRunner"]

#: A runner for a task's plan that counts into these statistics.
MakeRunner = Callable[[AppPlan, AppStatistics], AppRunner]


@dataclass(slots=True)
class _Running:
    """A task's runner and what drives it."""

    runner: AppRunner
    task: asyncio.Task[None]


class AppTasks:
    """Version `version` of an app. Not for two callers of `run_only` at once."""

    def __init__(self, plan: AppPlan, version: int, statistics: AppStatistics | None = None) -> None:
        self.plan = plan
        self.version = version
        self.statistics = statistics or AppStatistics(plan.name)
        self.plans = {task.task: task for task in task_plans(plan)}
        self.deliveries = Deliveries(plan)
        self._running: dict[str, _Running] = {}

    @property
    def units(self) -> list[Unit]:
        """What is assigned to replicas."""
        return [(self.plan.name, partition) for partition in range(self.plan.parallelism)]

    @property
    def source_tasks(self) -> list[str]:
        """Names of the tasks that read sources."""
        return [name for name, plan in self.plans.items() if plan.part is None or plan.part.stage == 0]

    @property
    def state(self) -> AppState:
        """RUNNING if all of its tasks here are, STANDBY if none is here, else that of the first that is not."""
        states = [running.runner.state for running in self._running.values()]
        if not states:
            return AppState.STANDBY
        return next((state for state in states if state is not AppState.RUNNING), AppState.RUNNING)

    @property
    def detail(self) -> str:
        """Why, for people."""
        if not self._running:
            return "standby"
        waiting = [(name, r.runner) for name, r in self._running.items() if r.runner.state is not AppState.RUNNING]
        if not waiting:
            here, all_ = len(self._running), len(self.plans)
            return "running" if here == all_ else f"running, {here} of {all_} tasks here"
        name, runner = waiting[0]
        return runner.detail if name == self.plan.name else f"{name}: {runner.detail}"

    @property
    def count(self) -> int:
        """Tasks that run here."""
        return len(self._running)

    def tasks_json(self) -> list[dict[str, str]]:
        """Each task and its state here."""
        return [
            {"task": name, "state": (self._running[name].runner.state if name in self._running else AppState.STANDBY)}
            for name in self.plans
        ]

    async def run_only(self, partitions: Collection[int], make: MakeRunner) -> None:
        """Run the tasks of these partitions and no others; those that leave finish and commit their cycle."""
        wanted = {
            name for name, plan in self.plans.items() if (plan.part.partition if plan.part else 0) in partitions
        }
        await self._stop([name for name in self._running if name not in wanted])
        for name in self.plans:
            if name in wanted and name not in self._running:
                runner = make(self.plans[name], self.statistics)
                self._running[name] = _Running(runner, asyncio.create_task(runner.run(), name=f"task {name}"))

    async def stop(self) -> None:
        """Let every task finish and commit its cycle, and every delivery the batch that is on its way."""
        await asyncio.gather(self._stop(list(self._running)), self.deliveries.stop())

    async def replay(self, items: Sequence[ReplayItem]) -> list[RejectedEvent]:
        """Feed rejected events to their statements, in the tasks that own their partitions; those that failed again.

        One transaction a task. `not_ready`, and nothing is replayed, if one of the tasks does not run here.
        """
        by_task: dict[str, list[ReplayItem]] = {}
        for item in items:
            by_task.setdefault(self._owner(item), []).append(item)
        for name in by_task:
            if name not in self._running or self._running[name].runner.state is not AppState.RUNNING:
                raise self._not_here(name)
        failed: list[RejectedEvent] = []
        for name, own in by_task.items():
            failed += await self._running[name].runner.replay(own)
        return failed

    def _owner(self, item: ReplayItem) -> str:
        partition = item.event.position[0] if item.event.position else 0
        if self.plan.parallelism == 1:
            return self.plan.name
        return task_name(self.plan.name, 0, partition % self.plan.parallelism)

    def _not_here(self, name: str) -> PenstockError:
        """Why rejected events of a task cannot be replayed on this replica now."""
        if name in self._running:
            runner = self._running[name].runner
            why = f"is {runner.state}: {runner.detail}"
        else:
            why = "runs on another replica; repeat the request until it reaches that one"
        return PenstockError("not_ready", f"task {name} of app '{self.plan.name}' {why}", retry_after_s=0.5)

    async def _stop(self, names: Sequence[str]) -> None:
        leaving = [self._running.pop(name) for name in names]
        for running in leaving:
            running.runner.stop()
        if leaving:  # waited for, not gathered: who waits may be cut off, but a cycle under way is finished
            await asyncio.wait([running.task for running in leaving])
