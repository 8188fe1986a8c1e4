"""The log contract: rejected events, ids of dedupe keys."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from penstock.errors import PenstockError
from penstock.ports.log import Log, RejectedFilter, Transaction
from penstock.testing.clock import ManualClock
from penstock.testing.log_fixtures import APP, LogFixtures, new_batch, rejected_event

__all__ = ["KeepingContract"]


class KeepingContract(LogFixtures):
    """What is kept beside the events, and how it is found again."""

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

    async def test_a_log_in_use_answers_and_a_closed_one_says_so(self, shop: Log) -> None:
        await shop.append([new_batch("arrivals", 1)])
        await shop.probe()
        await shop.close()
        with pytest.raises(PenstockError, match="closed"):
            await shop.probe()
