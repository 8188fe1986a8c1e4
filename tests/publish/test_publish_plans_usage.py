"""Usage in the database: days outlive the process, replicas count together, and changes of one reach the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from penstock.errors import PenstockError
from penstock.http.access import Principal
from penstock.testing.clock import ManualClock
from penstock_publish.applications.application import Application
from penstock_publish.applications.registry import Applications
from penstock_publish.applications.settings import ApplicationSettings
from penstock_publish.authority import Authority, open_authority
from penstock_publish.plans.meter import DAY_S
from penstock_publish.plans.metering import Metering
from penstock_publish.plans.recorder import Recorder
from penstock_publish.plans.settings import Plan, PlanSettings
from penstock_publish.plans.usage import USAGE, usage_between
from penstock_publish.settings import AuthSettings

DAY = Plan(messages_per_day=100)
RATE = Plan(messages_per_s=100, burst_s=1, connections=3)
PLANS = PlanSettings(own={"day": DAY, "rate": RATE}, self_service=("day", "gold"), usage_days=30)
APP = Application("app-1", "Board", "", "day", "orders:read", (), "ada", 0)
CALLER = Principal("app-1", "app-1", frozenset({"orders:read"}), 4e9, "t")


class Replica:
    """What one process has of plans, without its edges."""

    def __init__(self, authority: Authority, clock: ManualClock) -> None:
        self.authority = authority
        self.metering = Metering(PLANS, clock)
        self.recorder = Recorder(authority.database, self.metering, clock)
        self.registry = Applications(authority, self.metering, clock=clock, settings=ApplicationSettings())

    def deliver(self, events: int) -> float:
        meter = self.metering.of(CALLER)
        return meter.delivered(events, events * 100, self.metering.now_s())

    def used(self) -> int:
        return self.metering.of(CALLER).used("messages")


Start = Callable[[str], Awaitable[Replica]]


@pytest.fixture(params=["file", "postgres"])
async def start(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> AsyncIterator[Start]:
    """`await start(folder)`: a replica that is closed at the end; in one folder they follow each other."""
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else None
    async with AsyncExitStack() as stack:

        async def open_replica(folder: str) -> Replica:
            (tmp_path / folder).mkdir(exist_ok=True)
            authority = await open_authority(
                tmp_path / folder, AuthSettings(), clock=clock, public_url="http://127.0.0.1:1", database_url=url
            )
            stack.push_async_callback(authority.close)
            replica = Replica(authority, clock)
            await replica.registry.load()
            await replica.recorder.load()
            return replica

        yield open_replica


async def test_a_restart_keeps_what_was_used_today(start, clock):
    first = await start("a")
    await first.registry.add(APP)
    first.deliver(60)
    await first.recorder.record()
    first.deliver(30)  # not recorded any more: the process is killed
    again = await start("a")
    assert again.used() == 60
    assert again.deliver(39) == 0
    assert again.deliver(1) == pytest.approx(DAY_S - clock.now_ms() / 1000 % DAY_S)
    await again.recorder.record()
    await clock.advance(DAY_S)
    assert again.used() == 100  # until it is asked for anything, nothing has begun
    assert again.deliver(1) == 0
    await again.recorder.record()
    found = await again.recorder.usage("app-1", 3)
    assert [counts.messages for counts in found.values()] == [0, 100, 1]
    assert (await start("a")).used() == 1


@pytest.mark.parametrize("start", ["file"], indirect=True)
async def test_usage_that_cannot_be_recorded_is_recorded_later(start):
    replica = await start("a")
    database = replica.authority.database
    await replica.registry.add(APP)
    replica.deliver(10)
    await database.run("breaking", USAGE.drop)
    await replica.recorder.tried()
    assert replica.recorder.trouble.startswith("recording usage: ")
    replica.deliver(5)
    assert replica.used() == 15
    await database.run("mending", USAGE.create)
    await replica.recorder.tried()
    assert (replica.recorder.trouble, replica.used()) == (None, 15)
    assert [counts.messages for counts in (await replica.recorder.usage("app-1", 1)).values()] == [15]


async def test_old_days_are_forgotten(start, clock):
    replica = await start("a")
    await replica.registry.add(APP)
    first_day = int(clock.now_ms() // 1000 // DAY_S)
    for _ in range(32):
        replica.deliver(1)
        await replica.recorder.record()
        await clock.advance(DAY_S)

    def read(connection):
        return usage_between(connection, "app-1", first_day, first_day + 40)

    assert sorted(await replica.authority.database.run("reading", read)) == list(range(first_day + 2, first_day + 32))


@pytest.mark.parametrize("start", ["postgres"], indirect=True)
async def test_replicas_share_a_days_count_and_overshoot_by_one_interval_at_most(start):
    first, second = await start("a"), await start("b")
    await first.registry.add(APP)
    await second.registry.load()
    taken = 0
    for _ in range(10):
        for replica in (first, second):
            if replica.metering.of(CALLER).hold(replica.metering.now_s()) is None:
                replica.deliver(15)
                taken += 15
        await asyncio.gather(first.recorder.record(), second.recorder.record())
        await asyncio.gather(first.recorder.record(), second.recorder.record())
        assert first.used() == second.used() == taken
    assert 100 <= taken <= 100 + 2 * 15


@pytest.mark.parametrize("start", ["postgres"], indirect=True)
async def test_changes_at_one_replica_reach_what_is_open_at_the_other(start, clock):
    first, second = await start("a"), await start("b")
    await first.registry.add(APP)
    flow = second.metering.open(CALLER)  # before it has heard of the application: metered all the same
    assert flow.meter.plan_name == "bronze"
    await second.registry.load()
    assert flow.meter.plan_name == "day"
    await first.registry.replace(replace(APP, plan="gold"), before=APP)
    await second.registry.load()
    assert flow.meter.plan_name == "gold"
    token = first.authority.embedded.issuer.issue("app-1", "orders:read")
    principal = await second.authority.access.verified(token)
    await first.registry.remove("app-1")
    async with asyncio.timeout(5):
        while True:
            await clock.advance(1)
            try:
                second.authority.check_current(principal)
            except PenstockError:
                break
            await asyncio.sleep(0.01)
    with pytest.raises(PenstockError, match="revoked"):
        await second.authority.access.verified(token)
    await second.registry.load()
    assert await second.registry.find("app-1") is None


async def test_a_removed_application_stays_refused_after_a_restart(start):
    first = await start("a")
    await first.registry.add(APP)
    token = first.authority.embedded.issuer.issue("app-1", "orders:read")
    await first.registry.remove("app-1")
    again = await start("a")
    with pytest.raises(PenstockError, match="revoked"):
        await again.authority.access.verified(token)
    await again.registry.add(replace(APP, client_id="app-2"))  # its name is free again


@pytest.mark.parametrize("start", ["postgres"], indirect=True)
async def test_replicas_share_rates_and_connections_while_they_are_alive(start, clock):
    first, second = await start("a"), await start("b")
    await first.registry.add(replace(APP, plan="rate"))
    await second.registry.load()

    def left(replica: Replica) -> int:
        meter = replica.metering.of(CALLER)
        return next(one.remaining for one in meter.standing(replica.metering.now_s()))

    async def exchange(*replicas: Replica) -> None:
        for _ in range(2):
            for replica in replicas:
                await replica.recorder.record()

    first.deliver(1)
    assert left(second) == 100
    await exchange(first, second)
    await clock.advance(2)
    assert (left(first), left(second)) == (100, 50), "the one that is idle takes nothing from the other"
    first.deliver(1)
    second.deliver(1)
    await exchange(first, second)
    await clock.advance(2)
    assert (left(first), left(second)) == (50, 50)

    flows = [first.metering.open(CALLER), second.metering.open(CALLER), first.metering.open(CALLER)]
    await exchange(first, second)
    for replica in (first, second):
        with pytest.raises(PenstockError, match="connections"):
            replica.metering.check_connection(CALLER)
    flows[0].close()
    await exchange(first, second)
    second.metering.check_connection(CALLER)

    await clock.advance(PLANS.presence_s + 1)  # the first one has ended without a word
    await exchange(second)
    await clock.advance(2)
    assert left(second) == 100
    for _ in range(2):
        second.metering.check_connection(CALLER)
        second.metering.open(CALLER)
    await exchange(first, second)  # it was only slow
    assert first.metering.of(CALLER).room(first.metering.now_s()).limit == "connections"
    stopped = asyncio.create_task(second.recorder.run())
    await asyncio.sleep(0)
    await second.recorder.finish(stopped)
    await exchange(first)
    first.metering.check_connection(CALLER)
