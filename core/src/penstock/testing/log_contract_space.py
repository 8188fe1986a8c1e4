"""The log contract: retention and the size limit of a log that deletes its events itself (`retention_holds`)."""

from __future__ import annotations

import asyncio

from penstock.errors import LogFull
from penstock.ports.log import Consumed, Log, Transaction
from penstock.testing.clock import ManualClock
from penstock.testing.log_fixtures import APP, PLENTY_BYTES, LogFixtures, derived, new_batch, source

__all__ = ["SpaceContract"]


class SpaceContract(LogFixtures):
    """When events go, and when no more come in."""

    async def test_above_the_size_limit_appends_are_refused_and_nothing_is_deleted(self, shop: Log) -> None:
        payload = b"x" * 1_000_000
        calls = [shop.append([new_batch("arrivals", 1, payload=payload)]) for _ in range(5)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert any(isinstance(outcome, LogFull) for outcome in outcomes)
        held = (await shop.head("arrivals", 0)).next
        assert held == sum(isinstance(outcome, list) for outcome in outcomes)
        assert 1 <= held <= 4
        assert len(await shop.read("arrivals", 0, 0, PLENTY_BYTES)) == held

    async def test_trim_deletes_what_is_old_and_tells_how_many_events_went(
        self, shop: Log, clock: ManualClock
    ) -> None:
        await shop.append([new_batch("arrivals", 10) for _ in range(5)])
        assert await shop.trim({}) == 0
        await clock.advance(61)
        await shop.append([new_batch("arrivals", 1)])
        assert await shop.trim({}) == 50
        head = await shop.head("arrivals", 0)
        assert (head.first, head.next) == (50, 51)
        assert await shop.trim({}) == 0

    async def test_a_read_before_what_is_kept_begins_with_the_earliest(self, shop: Log, clock: ManualClock) -> None:
        await shop.append([new_batch("arrivals", 10)])
        await clock.advance(61)
        await shop.append([new_batch("arrivals", 1)])
        await shop.trim({})
        assert [b.first for b in await shop.read("arrivals", 0, 3, PLENTY_BYTES)] == [10]

    async def test_trim_passes_neither_a_floor_nor_an_apps_position(self, shop: Log, clock: ManualClock) -> None:
        term = (await shop.acquire(APP)).term
        for _ in range(4):
            await shop.append([new_batch("arrivals", 10), new_batch("wide", 10)])
        await shop.commit(Transaction(APP, term, [Consumed("arrivals", 0, None, 25), Consumed("wide", 0, None, 40)]))
        await clock.advance(61)
        assert await shop.trim({("wide", 0): 10}) == 30
        assert (await shop.head("arrivals", 0)).first == 20
        assert (await shop.head("wide", 0)).first == 10

    async def test_a_removed_apps_position_does_not_hold_the_log(self, shop: Log, clock: ManualClock) -> None:
        term = (await shop.acquire(APP)).term
        await shop.append([new_batch("arrivals", 10)])
        await shop.commit(Transaction(APP, term, [Consumed("arrivals", 0, None, 0)]))
        await clock.advance(61)
        assert await shop.trim({}) == 0
        await shop.delete_app(APP, None)
        await shop.put_app(APP, "", [source()], 0)
        await shop.append([new_batch("arrivals", 5)])
        await clock.advance(61)
        assert await shop.trim({}) == 5

    async def test_a_stream_may_have_its_own_retention(self, log: Log, clock: ManualClock) -> None:
        await log.put_app(APP, "", [source(retention_s=3600), source("wide"), derived(retention_s=1)], 0)
        term = (await log.acquire(APP)).term
        await log.append([new_batch("arrivals", 1), new_batch("wide", 2)])
        await log.commit(Transaction(APP, term, appends=[new_batch("cheap", 4)]))
        await clock.advance(61)
        assert await log.trim({}) == 6
        assert (await log.head("arrivals", 0)).first == 0
