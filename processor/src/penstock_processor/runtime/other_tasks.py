"""How far the other tasks of stage 0 are with their partitions of a source: event time is one for all of them.

Each task tells the watermark of its own partitions in a stream without rows. To this one, another task is a further
channel of the source (partition number: those of the source, then the task's). It is idle when its partitions have
been silent for the idle timeout and it has processed what they hold.
"""

from __future__ import annotations

from penstock.model.task import task_name
from penstock.ports.clock import Clock
from penstock.ports.log import Log
from penstock_processor.logical.plan import AppPlan
from penstock_processor.runtime.inputs import PartitionInput

__all__ = ["OtherTasks"]


class OtherTasks:
    """The other tasks' channels of one source. Belongs to one term, as its reader does."""

    def __init__(self, log: Log, clock: Clock, *, plan: AppPlan, source: str, stream: str,
                 idle_after_s: float | None) -> None:  # fmt: skip
        assert plan.part is not None
        self.source = source
        self.stream = stream
        self._log = log
        self._clock = clock
        self._app = plan.name
        self._tasks = plan.part.parallelism
        self._others = [task for task in range(self._tasks) if task != plan.part.partition]
        self._partitions = plan.sources[source].spec.partitions
        self._idle_after_s = idle_after_s
        self._through: dict[int, int] = {}
        self._seen: dict[int, tuple[int, int | None]] = {}
        self._active_s = dict.fromkeys(self._others, clock.monotonic_s())
        self._idle: set[int] = set()

    async def next_inputs(self) -> list[PartitionInput]:
        """News of the other tasks: a higher watermark, idle now, or idle no longer."""
        found = []
        for task in self._others:
            channel = self._partitions + task
            idle = await self._is_idle(task)
            woke = not idle and task in self._idle
            through_ms = (await self._log.head(self.stream, task)).watermark_ms
            news = through_ms is not None and self._through.get(task, through_ms - 1) < through_ms
            if news and through_ms is not None:
                self._through[task] = through_ms
            if news or woke or (idle and task not in self._idle):
                told = through_ms if news else None
                found.append(PartitionInput(self.source, channel, 0, 0, (), told, idle, woken=woke))
            if idle:
                self._idle.add(task)
            else:
                self._idle.discard(task)
        return found

    def until_idle_s(self) -> float | None:
        """Seconds until the next of them may fall idle; None if none can."""
        if self._idle_after_s is None:
            return None
        now_s = self._clock.monotonic_s()
        waits = [
            max(0.05, self._idle_after_s - (now_s - self._active_s[task]))
            for task in self._others
            if task not in self._idle
        ]
        return min(waits, default=None)

    async def _is_idle(self, task: int) -> bool:
        now_s = self._clock.monotonic_s()
        heads = {}
        for partition in range(task, self._partitions, self._tasks):
            head = heads[partition] = await self._log.head(self.source, partition)
            if self._seen.get(partition) != (head.next, head.watermark_ms):
                if partition in self._seen:
                    self._active_s[task] = now_s
                self._seen[partition] = (head.next, head.watermark_ms)
        if self._idle_after_s is None or now_s - self._active_s[task] < self._idle_after_s:
            return False
        if task in self._idle:
            return True
        positions = await self._log.positions(task_name(self._app, 0, task))
        return all(positions.get((self.source, p), head.first) >= head.next for p, head in heads.items())
