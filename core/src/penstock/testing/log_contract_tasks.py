"""The log contract: tasks of one app side by side, and who is alive in a group."""

from __future__ import annotations

import asyncio

import pytest

from penstock.errors import Fenced, PenstockError
from penstock.model.task import task_name
from penstock.ports.log import Consumed, DeltaKind, Log, StateDelta, Transaction
from penstock.testing.clock import ManualClock
from penstock.testing.log_fixtures import APP, PLENTY_BYTES, LogFixtures, new_batch

__all__ = ["TaskContract"]

FIRST, SECOND = task_name(APP, 0, 0), task_name(APP, 0, 1)


class TaskContract(LogFixtures):
    """What an app's tasks share and what each has for itself."""

    async def test_tasks_have_terms_positions_and_state_of_their_own(self, shop: Log) -> None:
        for task, partition in ((FIRST, 0), (SECOND, 1)):
            term = (await shop.acquire(task)).term
            state = StateDelta("window", DeltaKind.UPSERT, task.encode())
            moved = Consumed("wide", partition, None, 3)
            (position,) = await shop.commit(Transaction(task, term, [moved], [new_batch("cheap", 1)], deltas=[state]))
        assert (await shop.head("cheap", 0)).next == position.next
        assert sum(batch.count for batch in await shop.read("cheap", 0, 0, PLENTY_BYTES)) == 2
        restored = await shop.acquire(SECOND)
        assert dict(restored.positions) == {("wide", 1): 3}
        assert restored.deltas["window"] == [StateDelta("window", DeltaKind.UPSERT, SECOND.encode())]
        assert dict(await shop.positions(FIRST)) == {("wide", 0): 3}

    async def test_a_new_term_of_one_task_does_not_fence_another(self, shop: Log) -> None:
        first, second = (await shop.acquire(FIRST)).term, (await shop.acquire(SECOND)).term
        await shop.acquire(SECOND)
        await shop.commit(Transaction(FIRST, first, appends=[new_batch("cheap", 1)]))
        with pytest.raises(Fenced):
            await shop.commit(Transaction(SECOND, second, appends=[new_batch("cheap", 1)]))

    async def test_restores_that_were_given_up_do_not_fence_the_next(self, shop: Log) -> None:
        await shop.acquire(FIRST)
        for after_ms in (1, 5, 10, 20, 30):
            given_up = [asyncio.create_task(shop.acquire(FIRST)) for _ in range(3)]
            await asyncio.sleep(after_ms / 1000)
            for each in given_up:
                each.cancel()
            restored = await shop.acquire(FIRST)
            at = restored.positions.get(("wide", 0))
            for _ in range(3):
                moved = Consumed("wide", 0, at, (at or 0) + 1)
                await shop.commit(Transaction(FIRST, restored.term, [moved], [new_batch("cheap", 1)]))
                at = moved.next
                await asyncio.sleep(0.01)

    async def test_removing_an_app_removes_its_tasks(self, shop: Log) -> None:
        terms = {task: (await shop.acquire(task)).term for task in (FIRST, SECOND)}
        for task, term in terms.items():
            state = StateDelta("window", DeltaKind.UPSERT, b"v")
            await shop.commit(Transaction(task, term, [Consumed("wide", 0, None, 1)], deltas=[state]))
        catalog = await shop.catalog()
        streams = list(catalog.streams.values())
        await shop.delete_app(APP, None)
        with pytest.raises(PenstockError, match="unknown_app"):
            await shop.acquire(FIRST)
        await shop.put_app(APP, "CREATE ...", streams, 0)
        for task, term in terms.items():
            with pytest.raises(Fenced):
                await shop.commit(Transaction(task, term, [Consumed("wide", 0, 1, 2)]))
            restored = await shop.acquire(task)
            assert (dict(restored.positions), dict(restored.deltas)) == ({}, {})

    async def test_a_member_is_alive_until_it_is_silent_for_too_long_or_leaves(
        self, log: Log, clock: ManualClock
    ) -> None:
        assert await log.beat("processor", "a", 2.0) == ["a"]
        assert await log.beat("processor", "b", 30.0) == ["a", "b"]
        assert await log.beat("publish", "c", 30.0) == ["c"]
        await self.silence(clock, 2.1)
        assert await log.beat("processor", "b", 30.0) == ["b"]
        assert await log.beat("processor", "a", 30.0) == ["a", "b"]
        assert await log.beat("processor", "b", 0.0) == ["a"]
        assert await log.beat("processor", "a", 30.0) == ["a"]

    async def silence(self, clock: ManualClock, seconds: float) -> None:
        """Let time pass; an adapter whose members live by another clock (the database's) waits for real."""
        await clock.advance(seconds)
