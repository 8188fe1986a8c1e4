"""A wall clock that is set back an hour or forward a day: order, duplicates, retention, membership, tickets."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from ingest_edge import Edge, MakeEdge

from penstock.errors import PenstockError
from penstock.http.access import Principal
from penstock.logs.memory import MemoryLog
from penstock.logs.settings import LogSettings
from penstock.logs.sqlite import SqliteLog
from penstock.ports.log import Consumed, Log, RejectedFilter, Transaction
from penstock.testing.clock import ManualClock
from penstock.testing.log_fixtures import APP, new_batch, rejected_event, source
from penstock_ingest.dedupe import Claim, DedupeIndex
from penstock_publish.tickets import TicketLimits, Tickets

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S


def event(id_: str) -> bytes:
    return msgspec.json.encode({"id": id_, "ts": 0})


async def test_events_keep_their_order_and_duplicates_are_found_when_the_clock_goes_back(edge: Edge) -> None:
    assert (await edge.lines(event("a")))[1]["accepted"] == 1
    edge.clock.jump(-HOUR_S)
    _, reply = await edge.lines(event("a") + b"\n" + event("b"))
    assert (reply["accepted"], reply["duplicate"]) == (1, 1)
    edge.clock.jump(2 * HOUR_S)
    _, reply = await edge.lines(event("b") + b"\n" + event("c") + b"\n" + event("a"))
    assert (reply["accepted"], reply["duplicate"]) == (1, 2)
    assert await edge.stored() == [event("a"), event("b"), event("c")]
    assert [b.first for b in await edge.log.read("arrivals", 0, 0, 1 << 20)] == [0, 1, 2]


async def test_a_clock_that_jumps_beyond_the_window_ends_no_ids_window_and_time_that_goes_by_does(edge: Edge) -> None:
    assert (await edge.lines(event("a")))[1]["accepted"] == 1
    for days in (2, -4, 2):
        edge.clock.jump(days * DAY_S)
        assert (await edge.lines(event("a")))[1]["duplicate"] == 1
    await edge.clock.advance(DAY_S + 2)
    assert (await edge.lines(event("a")))[1]["accepted"] == 1


async def test_after_a_restart_the_window_counts_back_from_the_last_event(make_edge: MakeEdge) -> None:
    first = await make_edge()
    assert (await first.lines(event("a")))[1]["accepted"] == 1
    first.clock.jump(3 * DAY_S)
    second = await make_edge(log=first.log, clock=first.clock)
    assert (await second.lines(event("a")))[1]["duplicate"] == 1


def test_a_window_that_was_cut_is_never_said_to_be_negative() -> None:
    index = DedupeIndex(window_ms=1000, max_ids=1)
    for n in range(2):
        claim = index.claim([bytes([n]) * 16], 5000)
        assert isinstance(claim, Claim)
        index.confirm(claim, 5000)
    assert index.shortened
    assert index.window_ms(4000) == 0


@pytest.fixture(params=["memory", "sqlite"])
async def log(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> Log:
    settings = LogSettings(retention_s=HOUR_S)
    made: Log
    if request.param == "memory":
        made = MemoryLog(clock=clock, settings=settings)
    else:
        made = await SqliteLog.open(tmp_path, clock=clock, settings=settings)
    await made.put_app(APP, "", [source()], None)
    return made


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


async def test_a_jump_forward_deletes_nothing_that_somebody_needs(log: Log, clock: ManualClock) -> None:
    for _ in range(4):
        await log.append([new_batch("arrivals", 1)])
    term = (await log.acquire(APP)).term
    await log.commit(Transaction(APP, term, [Consumed("arrivals", 0, None, 2)]))
    clock.jump(DAY_S)
    assert await log.trim({("arrivals", 0): 1}) == 1, "held by a table at 1"
    assert await log.trim({}) == 1, "held by the app at 2"
    assert (await log.head("arrivals", 0)).first == 2
    clock.jump(-DAY_S)
    await log.append([new_batch("arrivals", 1)])
    assert await log.trim({}) == 0
    assert (await log.head("arrivals", 0)).next == 5
    await log.close()


async def test_rejected_events_stay_in_order_and_members_stay_alive(log: Log, clock: ManualClock) -> None:
    await log.beat("processor", "a", 2.0)
    for seconds in (0, -HOUR_S, DAY_S, -DAY_S):
        clock.jump(seconds)
        await log.append([], [rejected_event(at_ms=clock.now_ms())])
        assert await log.beat("processor", "b", 2.0) == ["a", "b"]
    ids = [found.id for found in await log.rejected(RejectedFilter())]
    assert len(set(ids)) == 4
    await clock.advance(3)
    assert await log.beat("processor", "b", 2.0) == ["b"], "time that really went by counts"
    await log.close()


async def test_tickets_live_as_long_as_they_say_whatever_the_wall_clock_does(clock: ManualClock) -> None:
    tickets = Tickets(TicketLimits(total_max=10, per_caller_max=10, lifetime_s=30))
    caller = Principal("somebody", "client", frozenset({"lots:read"}), clock.now_ms() / 1000 + HOUR_S, "token")
    first, second = (tickets.issue(caller, "lots", origin=None, now_s=clock.monotonic_s()) for _ in range(2))
    clock.jump(DAY_S)
    assert tickets.redeem(first, "lots", origin=None, now_s=clock.monotonic_s()) == caller
    clock.jump(-2 * DAY_S)
    await clock.advance(31)
    with pytest.raises(PenstockError, match="expired"):
        tickets.redeem(second, "lots", origin=None, now_s=clock.monotonic_s())
