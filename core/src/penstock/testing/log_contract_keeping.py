"""The log contract: rejected events, ids of dedupe keys, retention."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from penstock.errors import PenstockError
from penstock.ports.log import Consumed, Log, RejectedFilter, Transaction
from penstock.testing.clock import ManualClock
from penstock.testing.log_fixtures import APP, PLENTY_BYTES, LogFixtures, derived, new_batch, rejected_event, source

__all__ = ["KeepingContract"]


class KeepingContract(LogFixtures):
    """What is kept, for how long, and how it is found again."""

    async def test_rejected_events_get_unique_ids_that_sort_by_time(self, shop: Log, clock: ManualClock) -> None:
        for _ in range(3):
            await shop.append([], [rejected_event(at_ms=clock.now_ms()) for _ in range(4)])
            await clock.advance(0.01)
        listed = await shop.rejected(RejectedFilter())
        ids = [event.id for event in listed]
        assert len(set(ids)) == 12
        assert ids == sorted(ids, reverse=True)

    async def test_rejected_events_of_admission_and_processing_are_one_list_newest_first(self, shop: Log) -> None:
        term = (await shop.acquire(APP)).term
        for n in range(0, 6, 2):
            await shop.append([], [rejected_event(f"r{n}", at_ms=n)])
            await shop.commit(Transaction(APP, term, rejected=[rejected_event(f"r{n + 1}", at_ms=n + 1)]))
        listed = await shop.rejected(RejectedFilter())
        assert [event.id for event in listed] == ["r5", "r4", "r3", "r2", "r1", "r0"]
        assert listed[0] == rejected_event("r5", at_ms=5)

    async def test_rejected_events_are_paged_without_loss_or_repetition(self, shop: Log) -> None:
        await shop.append([], [rejected_event(f"r{n:02}", at_ms=n // 3) for n in range(10)])
        pages: list[Sequence[str]] = []
        before: str | None = None
        while page := await shop.rejected(RejectedFilter(limit=3, before_id=before)):
            pages.append([event.id for event in page])
            before = page[-1].id
        assert [len(page) for page in pages] == [3, 3, 3, 1]
        assert [id_ for page in pages for id_ in page] == [f"r{n:02}" for n in reversed(range(10))]

    async def test_rejected_events_are_filtered(self, shop: Log) -> None:
        await shop.append(
            [], [rejected_event("a", code="late"), rejected_event("b", stream="wide"), rejected_event("c", app="x")]
        )
        found = {
            "late": RejectedFilter(code="late"),
            "wide": RejectedFilter(stream="wide"),
            "x": RejectedFilter(app="x"),
            "ids": RejectedFilter(ids=["a", "c", "none"]),
        }
        assert {name: sorted(e.id for e in await shop.rejected(where)) for name, where in found.items()} == {
            "late": ["a"], "wide": ["b"], "x": ["c"], "ids": ["a", "c"],
        }  # fmt: skip

    async def test_a_replayed_event_is_marked_and_listed_only_on_demand(self, shop: Log, clock: ManualClock) -> None:
        term = (await shop.acquire(APP)).term
        await shop.append([], [rejected_event("admission")])
        await shop.commit(Transaction(APP, term, rejected=[rejected_event("processing")]))
        await shop.append([new_batch("arrivals", 1)], replayed=["admission", "unheard-of"])
        await shop.commit(Transaction(APP, term, replayed=["processing"]))
        assert await shop.rejected(RejectedFilter()) == []
        listed = await shop.rejected(RejectedFilter(include_replayed=True))
        assert {(event.id, event.replayed_at_ms) for event in listed} == {
            ("admission", clock.now_ms()),
            ("processing", clock.now_ms()),
        }

    async def test_a_page_after_an_unknown_rejected_event_is_refused(self, shop: Log) -> None:
        with pytest.raises(PenstockError, match="not_found"):
            await shop.rejected(RejectedFilter(before_id="never"))

    async def test_ids_are_given_back_oldest_first_since_a_time(self, shop: Log, clock: ManualClock) -> None:
        times = []
        for n in range(3):
            await shop.append([new_batch("arrivals", 2, ids=bytes([n]) * 32), new_batch("wide", 1)])
            times.append(clock.now_ms())
            await clock.advance(1)
        assert await shop.ids("arrivals", 0) == [(times[n], bytes([n]) * 32) for n in range(3)]
        assert await shop.ids("arrivals", times[1]) == [(times[n], bytes([n]) * 32) for n in (1, 2)]
        assert await shop.ids("wide", 0) == []

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
