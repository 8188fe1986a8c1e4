"""Two replicas of the processor over one log, on a clock that the test moves: who runs what, and nothing doubled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
from processor.parallel_rig import send

from penstock.codecs.arrow import decode_frame
from penstock.errors import Fenced, PenstockError
from penstock.logs.memory import MemoryLog
from penstock.model.position import Position
from penstock.ports.log import Catalog, RejectedFilter, Transaction
from penstock.role import Ports
from penstock.testing.access import OpenAccess
from penstock.testing.clock import ManualClock
from penstock_processor.compile.build import build_engine
from penstock_processor.logical.plan_app import plan_app
from penstock_processor.logical.stages import specs_of
from penstock_processor.replays import ReplayEvent, replay_events
from penstock_processor.runtime.app_runner import AppState
from penstock_processor.service import ProcessorRole
from penstock_processor.settings import ProcessorSettings

SETTINGS = ProcessorSettings(wait_s=0.05, small_cycle_share=1.0)
SOURCE = """CREATE TABLE arrivals (market STRING, tonnes BIGINT, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '1' SECOND) WITH ('connector' = 'penstock', 'key' = 'market');
"""
TOTALS = """CREATE TABLE totals (market STRING, tonnes BIGINT, day_start TIMESTAMP(3),
  PRIMARY KEY (market, day_start) NOT ENFORCED) WITH ('connector' = 'penstock', 'emit' = 'early');
INSERT INTO totals SELECT market, SUM(tonnes), window_start
FROM TABLE(TUMBLE(TABLE arrivals, DESCRIPTOR(ts), INTERVAL '1' DAY)) GROUP BY market, window_start, window_end;
"""
COPIES = (
    "CREATE TABLE copies WITH ('connector' = 'penstock') AS SELECT market, 100 / tonnes AS share FROM arrivals;\n"
)
ONE = SOURCE + TOTALS + COPIES
TWO = ONE + "SET 'parallelism.default' = '2';\n"


class SharedLog(MemoryLog):
    """The memory log as several processes would see a log that they share; commits can be held up."""

    capabilities = replace(MemoryLog.capabilities, several_writers=True)

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock=clock)
        self.held: dict[int, asyncio.Event] = {}  # term -> until when its commits wait
        self.fenced = 0
        self.behind: Catalog | None = None  # what replicas see, while news does not reach them

    async def catalog(self) -> Catalog:
        return self.behind or await super().catalog()

    async def commit(self, transaction: Transaction) -> list[Position]:
        if transaction.term in self.held:
            await self.held[transaction.term].wait()
        try:
            return await super().commit(transaction)
        except Fenced:
            self.fenced += 1
            raise


class Cluster:
    """Replicas by name over one log."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.log = SharedLog(self.clock)
        self.roles: dict[str, ProcessorRole] = {}
        self._tasks: dict[str, tuple[asyncio.Task[None], asyncio.Event]] = {}
        self._sent = 0

    def start(self, name: str) -> ProcessorRole:
        # The store is not a port that this role uses.
        ports = Ports(log=self.log, store=None, clock=self.clock, access=OpenAccess())  # type: ignore[arg-type]  # see above
        role = self.roles[name] = ProcessorRole(SETTINGS, ports, build_engine=build_engine, member=name)
        stop = asyncio.Event()
        self._tasks[name] = asyncio.create_task(role.run(stop)), stop
        return role

    async def stop(self, name: str) -> None:
        task, stop = self._tasks.pop(name)
        del self.roles[name]
        stop.set()
        await self.until(task.done)
        await task

    async def kill(self, name: str) -> None:
        """As if the process were gone: nothing is finished, nobody says good-bye."""
        task, _ = self._tasks.pop(name)
        role = self.roles.pop(name)
        role.replica._leave = _say_nothing  # type: ignore[method-assign]  # a killed process does not leave
        for app in role.replica.apps.values():
            for running in app._running.values():
                running.task.cancel()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def until(self, condition: Callable[[], object], step_s: float = 0.05) -> None:
        for _ in range(3000):
            if condition():
                return
            await self.clock.advance(step_s)
            await asyncio.sleep(0.001)
        raise AssertionError("it did not happen")

    def running(self, app: str = "produce") -> dict[str, list[str]]:
        """Replica -> tasks that run there."""
        return {
            name: [t["task"] for t in found.tasks_json() if t["state"] == AppState.RUNNING]
            for name, role in self.roles.items()
            if (found := role.runner(app)) is not None
        }

    async def settled(self, *counts: int) -> None:
        """Until the replicas run so many tasks, in the order of their names."""
        await self.until(lambda: [len(self.running().get(name, ())) for name in sorted(self.roles)] == list(counts))

    async def send(self, count: int, *, tonnes: int = 1) -> None:
        events = [
            ("arrivals", {"market": f"m{n % 10}", "tonnes": tonnes, "ts": "2018-01-01T10:00:00.000"})
            for n in range(self._sent, self._sent + count)
        ]
        self._sent += count
        await send(self.log, events)

    async def rows(self, stream: str) -> list[dict[str, Any]]:
        spec = (await self.log.catalog()).streams[stream]
        found: list[dict[str, Any]] = []
        for partition in range(spec.partitions):
            for batch in await self.log.read(stream, partition, 0, 1 << 30, 1 << 20):
                found += decode_frame(batch.payload).to_dicts()
        return found

    async def exactly_once(self) -> None:
        """Every event is in the copies once and in the totals once."""
        counted = 0
        for _ in range(3000):
            counted = len(await self.rows("copies"))
            if counted >= self._sent:
                break
            await self.clock.advance(0.05)
            await asyncio.sleep(0.001)
        assert counted == self._sent
        last = {row["market"]: row["tonnes"] for row in await self.rows("totals")}
        assert sum(last.values()) == self._sent


async def _say_nothing(beats: list[asyncio.Task[None]]) -> None:
    for task in beats:
        task.cancel()
    await asyncio.gather(*beats, return_exceptions=True)


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    made = Cluster()
    yield made
    for name in list(made.roles):
        await made.stop(name)


async def two_replicas(cluster: Cluster, sql: str) -> None:
    first = cluster.start("a")
    cluster.start("b")
    await cluster.until(
        lambda: all(role.replica.working and len(role.replica.members) == 2 for role in cluster.roles.values())
    )
    await first.deploy("produce", sql)


async def test_two_replicas_share_the_tasks_and_one_of_one_task_stands_by(cluster: Cluster) -> None:
    await two_replicas(cluster, TWO)
    await cluster.settled(1, 1)
    await cluster.send(50)
    await cluster.exactly_once()
    await cluster.roles["b"].deploy(
        "single", ONE.replace("arrivals", "a2").replace("totals", "t2").replace("copies", "c2")
    )
    await cluster.until(
        lambda: (
            sorted(len(tasks) for tasks in cluster.running("single").values()) == [0, 1]
            and all(check.ok for role in cluster.roles.values() for check in role.ready())
        )
    )
    details = sorted(
        check.detail for role in cluster.roles.values() for check in role.ready() if check.name == "app single"
    )
    assert details == ["running", "standby"]


async def test_what_a_silent_replica_leaves_is_taken_over_and_given_back(cluster: Cluster) -> None:
    await two_replicas(cluster, TWO)
    await cluster.settled(1, 1)
    await cluster.send(40)
    await cluster.kill("a")
    await cluster.send(40)
    started_s = cluster.clock.monotonic_s()
    await cluster.settled(2)
    assert cluster.clock.monotonic_s() - started_s < 5
    await cluster.exactly_once()
    cluster.start("c")
    await cluster.settled(1, 1)
    await cluster.send(40)
    await cluster.exactly_once()
    await cluster.stop("b")
    await cluster.settled(2)
    await cluster.send(40)
    await cluster.exactly_once()


async def test_a_replica_that_wakes_cannot_commit_what_it_had_under_way(cluster: Cluster) -> None:
    await two_replicas(cluster, ONE)
    await cluster.until(lambda: sorted(map(len, cluster.running().values())) == [0, 1])
    [active] = [name for name, tasks in cluster.running().items() if tasks]
    await cluster.send(10)
    await cluster.exactly_once()
    gate = cluster.log.held[cluster.log._terms["produce"]] = asyncio.Event()
    await cluster.send(10)
    role = cluster.roles[active]
    beat, role.replica._beat = role.replica._beat, _never_beats  # type: ignore[method-assign]  # the process stands still
    other = next(name for name in cluster.roles if name != active)
    await cluster.until(lambda: cluster.running()[other])
    await cluster.exactly_once()
    role.replica._beat = beat  # type: ignore[method-assign]  # and goes on
    gate.set()
    await cluster.until(lambda: cluster.log.fenced > 0)
    await cluster.until(lambda: sorted(map(len, cluster.running().values())) == [0, 1], step_s=0.5)
    await cluster.send(10)
    await cluster.exactly_once()


async def _never_beats() -> None:
    """Nothing reaches the log."""


async def test_two_that_both_believe_to_own_a_task_wait_longer_each_time_and_lose_nothing(cluster: Cluster) -> None:
    await two_replicas(cluster, ONE)
    await cluster.until(lambda: sorted(map(len, cluster.running().values())) == [0, 1])
    for name, role in cluster.roles.items():  # each sees itself alone
        role.replica._beat = _never_beats  # type: ignore[method-assign]  # the members below stay as they are
        role.replica.members = [name]
        role.replica._news.set()
    terms = []
    for _ in range(4):
        before = cluster.log._terms["produce"]
        for _ in range(12):
            await cluster.send(1)
            for _ in range(20):
                await cluster.clock.advance(0.05)
                await asyncio.sleep(0.001)
        terms.append(cluster.log._terms["produce"] - before)
    assert terms[-1] <= terms[0], terms
    assert sum(terms) < 20, f"terms in 12 s each: {terms}"
    await cluster.exactly_once()


async def test_deploying_and_removing_through_one_replica_reaches_the_other(cluster: Cluster) -> None:
    await two_replicas(cluster, TWO)
    await cluster.settled(1, 1)
    await cluster.send(30)
    for n in range(3):
        through = cluster.roles["ab"[n % 2]]
        more = f"CREATE TABLE more{n} WITH ('connector' = 'penstock') AS SELECT market FROM arrivals;\n"
        await through.deploy("produce", TWO + more)
        await cluster.send(30)
        await cluster.until(lambda n=n: all(r.runner("produce").version == n + 2 for r in cluster.roles.values()))  # type: ignore[misc, union-attr]
    await cluster.settled(1, 1)
    await cluster.exactly_once()
    await cluster.roles["a"].remove("produce")
    await cluster.until(lambda: all(role.runner("produce") is None for role in cluster.roles.values()))


async def test_a_plan_that_is_older_than_its_term_commits_nothing(cluster: Cluster) -> None:
    await two_replicas(cluster, ONE)
    await cluster.until(lambda: sorted(map(len, cluster.running().values())) == [0, 1])
    [active] = [name for name, tasks in cluster.running().items() if tasks]
    through = next(name for name in cluster.roles if name != active)
    old = await cluster.log.catalog()
    cluster.log.behind = old  # the replica that runs it has not heard of what the other one deploys now
    await cluster.kill(through)
    plan = plan_app("produce", ONE.replace("100 / tonnes", "200 / tonnes"))
    terms = cluster.log._terms["produce"]
    await cluster.log.acquire("produce")
    await cluster.log.put_app(plan.name, plan.sql, specs_of(plan), None)
    await cluster.log.acquire("produce")
    await cluster.send(10)
    await cluster.until(lambda: cluster.log._terms["produce"] > terms + 3)  # it takes the task over, and gives it up
    assert await cluster.rows("copies") == []
    cluster.log.behind = None
    await cluster.exactly_once()
    assert {row["share"] for row in await cluster.rows("copies")} == {200}


async def test_the_number_of_tasks_of_a_deployed_app_stays(cluster: Cluster) -> None:
    await two_replicas(cluster, TWO)
    with pytest.raises(PenstockError, match="cannot be divided anew into 1"):
        await cluster.roles["b"].deploy("produce", ONE)
    await cluster.settled(1, 1)
    await cluster.send(10)
    await cluster.exactly_once()


async def test_rejected_events_are_replayed_where_their_partition_is(cluster: Cluster) -> None:
    await two_replicas(cluster, TWO)
    await cluster.settled(1, 1)
    await cluster.send(10, tonnes=0)
    for _ in range(500):
        events = await cluster.log.rejected(RejectedFilter(app="produce", code="division_by_zero"))
        if len(events) == 10:
            break
        await cluster.clock.advance(0.05)
        await asyncio.sleep(0.002)
    assert len(events) == 10
    assert {event.position[0] for event in events if event.position} == {0, 1}
    elsewhere: list[str] = []
    for event in events:
        wanted = [ReplayEvent(event.id, '{"market":"m1","tonnes":4,"ts":"2018-01-01T10:00:00.000"}')]
        owner = f"produce#0.{event.position[0]}" if event.position else ""
        for name, role in cluster.roles.items():
            if owner in cluster.running()[name]:
                [result] = await replay_events(role, wanted, authorization="")
                assert result.replayed
                break
            with pytest.raises(PenstockError, match="runs on another replica"):
                await replay_events(role, wanted, authorization="")
            elsewhere.append(event.id)
    assert elsewhere
    assert [row["share"] for row in await cluster.rows("copies")] == [25] * 10


async def test_statistics_add_up_over_the_tasks_of_a_replica(cluster: Cluster) -> None:
    role = cluster.start("a")
    await cluster.until(lambda: role.replica.working)
    await role.deploy("produce", TWO)
    await cluster.settled(2)
    await cluster.send(50)
    await cluster.exactly_once()
    app = role.runner("produce")
    assert app is not None
    lags = await role.lag_events("produce")
    found = app.statistics.as_json(lags)
    assert lags == {"arrivals": 0}
    assert found["sources"]["arrivals"]["rows"] == 50  # type: ignore[index]
    assert found["statements"]["copies"]["rows_out"] == 50  # type: ignore[index]
