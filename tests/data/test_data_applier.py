"""The applier: each effect of the log shows once in the store, whatever is killed or recreated in between."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from penstock.errors import Fenced, LogUnavailable, PenstockError
from penstock.logs.memory import MemoryLog
from penstock.logs.settings import LogSettings
from penstock.model.batch import Op
from penstock.model.stream import Column, Relation, StreamSpec
from penstock.model.types import BIGINT, STRING
from penstock.ports.clock import SystemClock
from penstock.ports.log import Catalog
from penstock.stores.open import open_store
from penstock.testing.clock import ManualClock
from penstock.testing.store_contract import refused
from penstock_data.applier import Applier
from penstock_data.metrics import AHEAD, KEYLESS_ROWS
from penstock_data.rebuilder import Rebuilder
from penstock_data.settings import ApplierSettings

DAY = dt.datetime(2018, 1, 1)
FAST = ApplierSettings(pause_s=0, wait_s=0.05, retry_s=0.01)
TOTALS = StreamSpec(
    "totals",
    "markets",
    Relation.TABLE,
    (Column("k", STRING, nullable=False), Column("v", BIGINT)),
    primary_key=("k",),
    store=True,
)
EVENTS = replace(TOTALS, name="events", relation=Relation.STREAM, primary_key=(), partitions=2)


async def rows(harness: Any, relation: str = "totals") -> list[tuple[Any, ...]]:
    return (await harness.store.snapshot(relation)).frame.rows()


async def next_of(harness: Any, relation: str) -> dict[int, int] | None:
    applied = await harness.store.applied(relation)
    return None if applied is None else dict(applied.next)


async def settled(role: Any) -> bool:
    return role.applier.trouble is None and bool(role.applier.caught_up)


async def state(role: Any) -> tuple[bool, bool, float]:
    """Whether the store is ready, whether it is ahead of the log, and the metric that says so."""
    return role.ready()[0].ok, role.applier.ahead, AHEAD._value.get()


@contextlib.asynccontextmanager
async def running(role: Any) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(role.run(stop))
    yield
    stop.set()
    await task


async def until(look: Callable[[], Awaitable[Any]], wanted: Any) -> None:
    """Look again and again until it is as wanted."""
    async with asyncio.timeout(10):
        while await look() != wanted:  # noqa: ASYNC110  # the store has no event to wait for
            await asyncio.sleep(0.01)


async def test_rows_of_a_table_follow_its_changelog(harness: Any) -> None:
    await harness.deploy(TOTALS)
    role = harness.role()
    await harness.derive(TOTALS, [("a", 1, Op.INSERT), ("b", 1, Op.INSERT)])
    await harness.derive(TOTALS, [("a", 2, Op.UPDATE_AFTER), ("b", 1, Op.DELETE)])
    await harness.catch_up(role)
    assert await rows(harness) == [("a", 2)]


async def test_a_new_applier_goes_on_where_the_store_is(harness: Any) -> None:
    await harness.deploy(TOTALS)
    await harness.derive(TOTALS, [("a", 1, Op.INSERT)])
    await harness.catch_up(harness.role())
    await harness.derive(TOTALS, [("a", 2, Op.UPDATE_AFTER)])
    second = harness.role()
    await harness.catch_up(second)
    assert await rows(harness) == [("a", 2)]
    assert (await harness.store.applied("totals")).next == {0: 2}


async def test_two_appliers_on_one_store_do_not_write_twice(harness: Any) -> None:
    await harness.deploy(EVENTS)
    first, second = harness.role(), harness.role()
    await harness.derive(EVENTS, [("a", 1, Op.INSERT)])
    await harness.catch_up(first)
    await harness.derive(EVENTS, [("b", 2, Op.INSERT)])
    await second.applier.round()
    with refused("fenced"):
        await first.applier.round()
    applied = await harness.store.applied("events")
    assert applied is not None
    assert dict(applied.next) == {0: 2, 1: 0}


async def test_the_running_applier_reads_its_position_again_after_being_fenced(harness: Any) -> None:
    await harness.deploy(TOTALS)
    role = harness.role()
    stop = asyncio.Event()
    running = asyncio.create_task(role.run(stop))
    await harness.derive(TOTALS, [("a", 1, Op.INSERT)])
    other = harness.role()
    for i in range(20):
        await harness.derive(TOTALS, [("a", i, Op.UPDATE_AFTER)])
        with contextlib.suppress(Fenced):
            await other.applier.round()
            continue
        other = harness.role()
    await until(lambda: rows(harness), [("a", 19)])
    stop.set()
    await running
    assert (await harness.store.applied("totals")).next == {0: 21}


async def test_a_stream_recreated_with_other_columns_starts_again(harness: Any) -> None:
    await harness.deploy(TOTALS)
    role = harness.role()
    await harness.derive(TOTALS, [("a", 1, Op.INSERT)])
    await harness.catch_up(role)
    wider = replace(TOTALS, columns=(*TOTALS.columns, Column("w", BIGINT)))
    await harness.deploy(wider)
    await harness.derive(wider, [("b", 2, 3, Op.INSERT)])
    await harness.catch_up(role)
    assert await rows(harness) == [("b", 2, 3)]


async def test_a_relation_that_leaves_the_app_leaves_the_store(harness: Any) -> None:
    await harness.deploy(TOTALS, EVENTS)
    role = harness.role()
    await harness.catch_up(role)
    await harness.deploy(EVENTS)
    await harness.catch_up(role)
    assert list(await harness.store.relations()) == ["events"]


async def test_sources_and_relations_with_store_off_are_not_stored(harness: Any) -> None:
    source = replace(TOTALS, name="source", relation=Relation.SOURCE, primary_key=())
    await harness.deploy(source, replace(EVENTS, name="off", store=False), TOTALS)
    role = harness.role()
    await harness.catch_up(role)
    assert list(await harness.store.relations()) == ["totals"]


async def test_the_watermark_follows_even_without_rows(harness: Any) -> None:
    await harness.deploy(TOTALS)
    role = harness.role()
    await harness.derive(TOTALS, [("a", 1, Op.INSERT)], watermark_ms=1000)
    await harness.catch_up(role)
    assert (await harness.store.applied("totals")).watermark_ms == 1000
    await harness.derive(TOTALS, [], watermark_ms=2000)
    await harness.catch_up(role)
    assert (await harness.store.applied("totals")).watermark_ms == 2000


async def test_an_empty_table_can_be_read_once_the_applier_has_looked(harness: Any) -> None:
    await harness.deploy(TOTALS)
    await harness.catch_up(harness.role())
    assert await rows(harness) == []


async def test_a_store_ahead_of_its_log_is_a_state_that_names_the_way_out(harness: Any) -> None:
    await harness.deploy(TOTALS)
    await harness.derive(TOTALS, [("a", 1, Op.INSERT)])
    await harness.catch_up(harness.role())
    restored = type(harness)(harness.store, harness.url)
    await restored.deploy(TOTALS)
    role = restored.role()
    with refused("store_ahead"):
        await role.applier.round()
    async with running(role):
        await until(lambda: state(role), (False, True, 1.0))
        assert "`penstock rebuild`" in role.ready()[0].detail
        await Rebuilder(restored.log, restored.store, clock=SystemClock(), settings=FAST).rebuild("totals")
        await until(lambda: state(role), (True, False, 0.0))
    assert await rows(restored) == []


class Sleeper(MemoryLog):
    """A log whose user has slept: it remembers the catalog of before until it wakes."""

    remembered: Catalog | None = None
    answers = True

    async def catalog(self) -> Catalog:
        return self.remembered or await super().catalog()

    async def probe(self) -> None:
        if not self.answers:
            raise LogUnavailable("the log does not answer")


async def test_a_replica_with_an_old_catalog_drops_nothing_and_learns_the_new_one(harness: Any) -> None:
    harness.log = log = Sleeper(clock=SystemClock())
    await harness.deploy(TOTALS)
    log.remembered = await log.catalog()
    await log.put_app("markets", "", [TOTALS, EVENTS], None)
    harness.term = (await log.acquire("markets")).term
    await harness.derive(EVENTS, [("a", 1, Op.INSERT)])
    other = type(harness)(open_store(harness.url, clock=SystemClock()), harness.url)
    try:
        await other.store.prepare([TOTALS, EVENTS], 2)
        late = harness.role()
        with refused("fenced"):
            await late.applier.round()
        assert sorted(await other.store.relations()) == ["events", "totals"]
        assert not late.applier.ahead
        log.remembered = None
        async with running(late):
            await until(lambda: next_of(harness, "events"), {0: 1, 1: 0})
    finally:
        await other.store.close()


async def test_a_log_without_any_app_drops_no_tables(harness: Any) -> None:
    await harness.deploy(TOTALS)
    await harness.derive(TOTALS, [("a", 1, Op.INSERT)])
    await harness.catch_up(harness.role())
    empty = type(harness)(harness.store, harness.url)
    for _ in range(3):
        with refused("not_ready"):
            await empty.role().applier.round()
    with refused("conflict"):
        await Rebuilder(empty.log, empty.store, clock=SystemClock(), settings=FAST).adopt()
    assert await rows(harness) == [("a", 1)]


async def test_a_log_that_stays_behind_the_stores_catalog_was_restored_and_one_that_is_away_was_not(
    harness: Any,
) -> None:
    harness.log = log = Sleeper(clock=SystemClock())
    await harness.deploy(TOTALS)
    await harness.store.prepare([TOTALS, EVENTS], 9)
    applier = Applier(log, harness.store, clock=(clock := ManualClock()), settings=ApplierSettings(old_catalog_s=5))
    log.answers = False
    for _ in range(3):
        with refused("log_unavailable"):
            await applier.round()
        await clock.advance(60)
    log.answers = True
    for _ in range(5):
        with refused("fenced"):
            await applier.round()
        await clock.advance(1)
    with refused("store_ahead"):
        await applier.round()
    assert sorted(await harness.store.relations()) == ["events", "totals"]


async def test_events_that_the_log_has_deleted_leave_a_gap_and_the_rest_is_applied(harness: Any) -> None:

    clock = ManualClock()
    harness.log = MemoryLog(clock=clock, settings=LogSettings(retention_s=10))
    await harness.deploy(EVENTS)
    role = harness.role()
    await harness.derive(EVENTS, [("a", 1, Op.INSERT)])
    await harness.catch_up(role)
    await harness.derive(EVENTS, [("b", 2, Op.INSERT)])
    await clock.advance(60)
    await harness.log.trim({})
    await harness.derive(EVENTS, [("c", 3, Op.INSERT)])
    await harness.catch_up(role)
    assert (await harness.store.applied("events")).next == {0: 3, 1: 0}


async def test_small_rounds_come_to_the_same_end(harness: Any) -> None:

    await harness.deploy(TOTALS, EVENTS)
    for i in range(30):
        await harness.derive(TOTALS, [(f"k{i % 7}", i, Op.INSERT)])
        await harness.derive(EVENTS, [("x", i, Op.INSERT)], partition=i % 2)

    settings = ApplierSettings(round_max_bytes=1024, read_max_bytes=1024, read_max_batches=2)
    applier = Applier(harness.log, harness.store, clock=SystemClock(), settings=settings)
    turns = 0
    while await applier.round():
        turns += 1
    assert turns > 5
    assert len(await rows(harness)) == 7
    assert (await harness.store.applied("events")).next == {0: 15, 1: 15}


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_round_that_fails_is_repeated_without_double_effect(
    harness: Any, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`after`: the commit took place, but the applier was told that it failed."""

    await harness.deploy(EVENTS)
    await harness.derive(EVENTS, [("a", 1, Op.INSERT)])
    real, failures = harness.store.apply, []

    async def failing(changes: Any) -> None:
        if failures:
            await real(changes)
            return
        failures.append(1)
        if moment == "after":
            await real(changes)
        raise PenstockError("store_unavailable", "database or disk is full", retry_after_s=1)

    monkeypatch.setattr(harness.store, "apply", failing)
    role, stop = harness.role(), asyncio.Event()
    running = asyncio.create_task(role.run(stop))
    await until(lambda: next_of(harness, "events"), {0: 1, 1: 0})
    await until(lambda: settled(role), True)
    stop.set()
    await running
    assert await next_of(harness, "events") == {0: 1, 1: 0}
    assert all(check.ok for check in role.ready())


async def test_rows_without_a_key_are_counted_and_left_out(harness: Any) -> None:
    await harness.deploy(TOTALS)
    before = KEYLESS_ROWS.labels("totals")._value.get()
    await harness.derive(TOTALS, [(None, 1, Op.INSERT), ("a", 2, Op.INSERT)])
    await harness.catch_up(harness.role())
    assert await rows(harness) == [("a", 2)]
    assert KEYLESS_ROWS.labels("totals")._value.get() == before + 1
