"""The log contract: terms, compare-and-set, state."""

from __future__ import annotations

import asyncio

import pytest

from penstock.errors import Fenced, PenstockError
from penstock.model.position import Position
from penstock.ports.log import Consumed, DeltaKind, Log, RejectedFilter, StateDelta, Transaction
from penstock.testing.log_fixtures import APP, PLENTY_BYTES, LogFixtures, new_batch, rejected_event

__all__ = ["CycleContract"]


class CycleContract(LogFixtures):
    """Cycles of an app: all or nothing, once."""

    async def test_a_cycle_commits_outputs_positions_state_and_rejects_together(self, shop: Log) -> None:
        term = (await shop.acquire(APP)).term
        reject = rejected_event(statement="cheap", position=(0, 1))
        transaction = Transaction(
            APP,
            term,
            consumed=[Consumed("arrivals", 0, None, 2)],
            appends=[new_batch("cheap", 2, watermark_ms=11)],
            rejected=[reject],
            deltas=[StateDelta("window", DeltaKind.UPSERT, b"v")],
        )
        assert await shop.commit(transaction) == [Position(1, 0, 2)]
        assert (await shop.head("cheap", 0)).watermark_ms == 11
        restored = await shop.acquire(APP)
        assert dict(restored.positions) == {("arrivals", 0): 2} == dict(await shop.positions(APP))
        assert dict(restored.deltas) == {"window": [StateDelta("window", DeltaKind.UPSERT, b"v")]}
        (listed,) = await shop.rejected(RejectedFilter())
        assert (listed.statement, listed.position, listed.raw) == ("cheap", (0, 1), reject.raw)

    async def test_an_older_term_cannot_commit_and_leaves_nothing(self, shop: Log) -> None:
        old = (await shop.acquire(APP)).term
        new = (await shop.acquire(APP)).term
        assert new > old
        transaction = Transaction(
            APP,
            old,
            [Consumed("arrivals", 0, None, 1)],
            [new_batch("cheap", 1)],
            [rejected_event()],
            [StateDelta("window", DeltaKind.APPEND, b"x")],
        )
        with pytest.raises(Fenced):
            await shop.commit(transaction)
        await self._assert_no_trace(shop)

    async def test_a_term_begins_with_the_app_in_force(self, shop: Log) -> None:
        specs = list((await shop.catalog()).streams.values())
        first = (await shop.acquire(APP)).app
        record = await shop.put_app(APP, "CREATE ... -- replaced", specs, first.version)
        assert (first.name, record.version) == (APP, first.version + 1)
        assert (await shop.acquire(APP)).app == record

    async def test_a_term_that_was_never_given_cannot_commit(self, shop: Log) -> None:
        term = (await shop.acquire(APP)).term
        with pytest.raises(Fenced):
            await shop.commit(Transaction(APP, term + 1, appends=[new_batch("cheap", 1)]))

    @pytest.mark.parametrize("expected", [None, 0, 4, 6])
    async def test_a_position_that_moved_fences_the_cycle(self, shop: Log, expected: int | None) -> None:
        term = (await shop.acquire(APP)).term
        await shop.commit(Transaction(APP, term, [Consumed("arrivals", 0, None, 5)]))
        moves = [Consumed("wide", 0, None, 1), Consumed("arrivals", 0, expected, 9)]
        with pytest.raises(Fenced):
            await shop.commit(Transaction(APP, term, moves, [new_batch("cheap", 1)]))
        assert dict(await shop.positions(APP)) == {("arrivals", 0): 5}
        assert (await shop.head("cheap", 0)).next == 0

    async def test_a_cycle_that_is_repeated_is_fenced(self, shop: Log) -> None:
        term = (await shop.acquire(APP)).term
        transaction = Transaction(APP, term, [Consumed("arrivals", 0, None, 5)], [new_batch("cheap", 1)])
        (position,) = await shop.commit(transaction)
        with pytest.raises(Fenced):
            await shop.commit(transaction)
        assert (await shop.head("cheap", 0)).next == position.next

    async def test_a_cycle_that_writes_a_foreign_stream_is_refused_whole(self, shop: Log) -> None:
        term = (await shop.acquire(APP)).term
        for target in ("nowhere", "arrivals"):
            with pytest.raises(PenstockError, match="unknown_stream"):
                await shop.commit(
                    Transaction(
                        APP,
                        term,
                        [Consumed("arrivals", 0, None, 1)],
                        [new_batch("cheap", 1), new_batch(target, 1)],
                        [rejected_event()],
                        [StateDelta("window", DeltaKind.APPEND, b"x")],
                    )
                )
        await self._assert_no_trace(shop)

    async def test_cycles_and_refused_cycles_side_by_side_do_not_disturb_each_other(self, shop: Log) -> None:
        term = (await shop.acquire(APP)).term
        cycles = [Transaction(APP, term if n % 2 else term - 1, appends=[new_batch("cheap", 1)]) for n in range(20)]
        outcomes = await asyncio.gather(*(shop.commit(cycle) for cycle in cycles), return_exceptions=True)
        assert [isinstance(outcome, Fenced) for outcome in outcomes] == [n % 2 == 0 for n in range(20)]
        ends = [outcome[0].next for outcome in outcomes if not isinstance(outcome, BaseException)]
        assert (await shop.head("cheap", 0)).next == ends[-1]
        batches = await shop.read("cheap", 0, 0, PLENTY_BYTES)
        assert [(b.next, b.count) for b in batches] == [(end, 1) for end in ends]

    async def test_state_is_restored_in_commit_order(self, shop: Log) -> None:
        term = (await shop.acquire(APP)).term
        kinds = [DeltaKind.UPSERT, DeltaKind.APPEND, DeltaKind.DELETE, DeltaKind.UPSERT]
        deltas = [StateDelta("a" if n % 3 else "b", kinds[n % 4], b"%d" % n) for n in range(12)]
        for pair in range(0, 12, 2):
            await shop.commit(Transaction(APP, term, deltas=deltas[pair : pair + 2]))
        restored = (await shop.acquire(APP)).deltas
        assert {operator: list(rows) for operator, rows in restored.items()} == {
            name: [delta for delta in deltas if delta.operator == name] for name in ("a", "b")
        }

    async def test_replace_drops_what_was_before_of_that_operator_only(self, shop: Log) -> None:
        term = (await shop.acquire(APP)).term
        before = [StateDelta("a", DeltaKind.UPSERT, b"1"), StateDelta("b", DeltaKind.UPSERT, b"2")]
        snapshot = [StateDelta("a", DeltaKind.REPLACE, b"3"), StateDelta("a", DeltaKind.UPSERT, b"4")]
        await shop.commit(Transaction(APP, term, deltas=before))
        await shop.commit(Transaction(APP, term, deltas=snapshot))
        restored = (await shop.acquire(APP)).deltas
        assert list(restored["a"]) == snapshot
        assert list(restored["b"]) == before[1:]

    async def test_the_state_of_an_operator_that_left_is_dropped(self, shop: Log) -> None:
        term = (await shop.acquire(APP)).term
        await shop.commit(Transaction(APP, term, deltas=[StateDelta(name, DeltaKind.APPEND, b"1") for name in "ab"]))
        await shop.commit(Transaction(APP, term, dropped_operators=["a"]))
        assert list((await shop.acquire(APP)).deltas) == ["b"]

    async def test_an_app_that_was_not_deployed_cannot_be_run(self, log: Log) -> None:
        with pytest.raises(PenstockError, match="unknown_app"):
            await log.acquire("nobody")

    async def _assert_no_trace(self, shop: Log) -> None:
        assert dict(await shop.positions(APP)) == {}
        assert (await shop.head("cheap", 0)).next == 0
        assert await shop.read("cheap", 0, 0, PLENTY_BYTES) == []
        assert await shop.rejected(RejectedFilter(include_replayed=True)) == []
        assert dict((await shop.acquire(APP)).deltas) == {}
