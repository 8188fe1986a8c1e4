"""Event time of an app that several tasks share is one: what is late, when windows close, who holds them open."""

from __future__ import annotations

import asyncio

import msgspec
from processor.parallel_rig import Tasks, send

from penstock.logs.memory import MemoryLog
from penstock.model.partitioning import partition_of
from penstock.ports.log import RejectedFilter
from penstock.testing.clock import ManualClock
from penstock_processor.settings import ProcessorSettings

SETTINGS = ProcessorSettings(wait_s=0.02, small_cycle_share=1.0, idle_timeout_s=30.0)
APP = """CREATE TABLE trades (symbol STRING, region STRING, n BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts)
WITH ('connector' = 'penstock', 'key' = 'symbol');
CREATE TABLE by_symbol WITH ('connector' = 'penstock') AS SELECT symbol, window_start, SUM(n) AS n
FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY symbol, window_start, window_end;
CREATE TABLE by_region WITH ('connector' = 'penstock') AS SELECT region, window_start, SUM(n) AS n
FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY region, window_start, window_end;
SET 'parallelism.default' = '2';
"""
#: A symbol for each of the two tasks.
OF_TASK = [next(s for s in (f"s{n}" for n in range(99)) if partition_of(s.encode(), 2) == task) for task in (0, 1)]


class Rig:
    """The app as two tasks per stage on a clock that stands still."""

    def __init__(self, tasks: Tasks, clock: ManualClock) -> None:
        self.tasks = tasks
        self.clock = clock

    @classmethod
    async def started(cls) -> Rig:
        clock = ManualClock()
        tasks = await Tasks.deploy(MemoryLog(clock=clock), clock, APP, settings=SETTINGS)
        tasks.start()
        return cls(tasks, clock)

    async def send(self, task: int, minute: int, n: int = 1, *, region: str = "north") -> None:
        at = f"2018-01-01T00:{minute:02}:30.000"
        await send(self.tasks.log, [("trades", {"symbol": OF_TASK[task], "region": region, "n": n, "ts": at})])

    async def rows(self, stream: str) -> list[tuple[str, int, int]]:
        """(group, minute, sum), sorted."""
        return [(group, start.minute, n) for group, start, n in (await self.tasks.results())[stream]]

    async def until(self, stream: str, rows: list[tuple[str, int, int]]) -> None:
        found: list[tuple[str, int, int]] = []
        for _ in range(1500):
            found = await self.rows(stream)
            if found == sorted(rows, key=repr):
                return
            await asyncio.sleep(0.005)
        raise AssertionError(f"{stream} has {found}, not {rows}")

    async def quiet(self) -> None:
        """A while in which everything has had its turn."""
        for _ in range(30):
            await asyncio.sleep(0.005)


async def test_windows_close_in_every_task_when_all_tasks_have_passed_them() -> None:
    rig = await Rig.started()
    await rig.send(0, 1)
    await rig.send(1, 1, 10)
    await rig.send(0, 5)
    await rig.quiet()
    assert await rig.rows("by_symbol") == [], "the other task is still at 00:01"
    assert await rig.rows("by_region") == []
    await rig.send(1, 3, 20)
    await rig.until("by_region", [("north", 1, 11)])
    await rig.until("by_symbol", [(OF_TASK[0], 1, 1), (OF_TASK[1], 1, 10)])
    await rig.tasks.stop()


async def test_what_is_late_for_its_own_task_alone_is_not_late() -> None:
    rig = await Rig.started()
    await rig.send(0, 1)
    await rig.send(1, 1)
    await rig.send(0, 5)
    await rig.quiet()
    await rig.send(0, 1, 100)
    await rig.quiet()
    assert await rig.tasks.late() == [], "the source as a whole is at 00:01"
    await rig.send(1, 5)
    await rig.until("by_region", [("north", 1, 102)])
    await rig.tasks.stop()


async def test_late_rows_are_rejected_with_the_event_that_they_came_in() -> None:
    rig = await Rig.started()
    for task in (0, 1):
        await rig.send(task, 1)
        await rig.send(task, 5)
    await rig.until("by_region", [("north", 1, 2)])
    await rig.send(1, 1, 7)
    for _ in range(500):
        if len(late := await rig.tasks.late()) == 2:
            break
        await asyncio.sleep(0.005)
    assert {(stream, statement, position) for stream, statement, position, _ in late} == {
        ("trades", "by_symbol", (1, 2)), ("trades", "by_region", (1, 2)),
    }  # fmt: skip
    assert {msgspec.json.decode(raw)["n"] for *_, raw in late} == {7}
    assert await rig.tasks.log.rejected(RejectedFilter()) != []
    await rig.until("by_region", [("north", 1, 2)])
    await rig.tasks.stop()


async def test_a_task_without_events_holds_windows_open_until_it_is_idle() -> None:
    rig = await Rig.started()
    await rig.send(0, 1)
    await rig.send(0, 5)
    await rig.quiet()
    assert await rig.rows("by_region") == []
    await rig.clock.advance(SETTINGS.idle_timeout_s + 1)
    await rig.send(0, 6)
    await rig.until("by_region", [("north", 1, 1), ("north", 5, 1)])
    await rig.until("by_symbol", [(OF_TASK[0], 1, 1), (OF_TASK[0], 5, 1)])
    await rig.send(1, 3, 50)
    for _ in range(500):
        if len(await rig.tasks.late()) == 2:
            break
        await asyncio.sleep(0.005)
    assert len(await rig.tasks.late()) == 2, "who wakes is judged by what the others have reached"
    await rig.tasks.stop()


async def test_event_time_and_lateness_survive_kills_of_every_task() -> None:
    rig = await Rig.started()
    for task in (0, 1):
        await rig.send(task, 1)
        await rig.send(task, 5)
    await rig.until("by_region", [("north", 1, 2)])
    for name in rig.tasks.names:
        await rig.tasks.kill(name)
    await rig.send(0, 1, 7)
    await rig.send(0, 6)
    await rig.send(1, 6)
    rig.tasks.start()
    await rig.until("by_region", [("north", 1, 2), ("north", 5, 2)])
    assert len(await rig.tasks.late()) == 2
    await rig.tasks.stop()
