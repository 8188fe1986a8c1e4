"""`penstock.client` against a real gateway: subscribe, resume, gaps, tokens that end, leaving nothing behind."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest
from publish.conftest import orders_batch, totals_batch

from penstock.client import (
    AsyncClient,
    Client,
    ClientLimits,
    Event,
    Forbidden,
    Gap,
    NotFound,
    Notice,
    Refused,
    Token,
    Unauthorized,
    Unavailable,
)
from penstock.model.batch import Op

QUICK = ClientLimits(backoff_first_s=0.01, backoff_max_s=0.05)
SMALL_RING = {"ring_bytes_max": 20_000, "send_buffer_bytes": 4096, "flush_bytes_max": 4096, "merge_ms": 0}


@asynccontextmanager
async def client_of(gateway, **changed: object) -> AsyncIterator[AsyncClient]:
    """A client with tokens of the gateway's own."""
    settings = {"token": gateway.token, "limits": QUICK, "random": random.Random(1), **changed}
    async with AsyncClient(gateway.url, **settings) as penstock:
        yield penstock


async def first(count: int, events: AsyncGenerator[Event | Gap, None]) -> list[Event | Gap]:
    """So many items, then the iterator is closed."""
    found: list[Event | Gap] = []
    async with asyncio.timeout(10), aclosing(events):
        async for event in events:
            found.append(event)
            if len(found) == count:
                break
    return found


def numbers(events: list[Event | Gap]) -> list[int]:
    return [event.data["n"] for event in events if isinstance(event, Event)]


async def test_events_come_typed_and_from_where_they_are_asked_for(gateway):
    await gateway.orders(0, 5)
    async with client_of(gateway) as penstock:
        found = await first(5, penstock.subscribe("orders", after="earliest"))
        event = found[0]
        assert isinstance(event, Event)
        assert (event.topic, event.key, event.op, event.complete) == ("orders", "k0", None, None)
        assert event.data == {"id": "k0", "n": 0, "region": "south"}
        rest = await first(2, penstock.subscribe("orders", after=found[2].cursor))
        assert numbers(rest) == [3, 4]
        odd = await first(2, penstock.subscribe("orders", after="earliest", filter="region = 'north'"))
        assert numbers(odd) == [1, 3]


async def test_rows_of_a_table_carry_what_happened_to_them(gateway):
    await gateway.commit(totals_batch([("north", "2018-01-01", 1, Op.INSERT, True)]))
    await gateway.commit(totals_batch([("north", "2018-01-01", None, Op.DELETE, False)]))
    async with client_of(gateway) as penstock:
        found = await first(2, penstock.subscribe("totals", after="earliest"))
    assert [(event.key, event.op, event.complete) for event in found] == [
        ('["north","2018-01-01"]', "+I", False),
        ('["north","2018-01-01"]', "-D", True),
    ]


async def test_several_topics_come_as_one_each_from_its_own_cursor(gateway):
    await gateway.orders(0, 4)
    await gateway.orders(10, 4, stream="alerts")
    async with client_of(gateway) as penstock:
        [alert] = await first(1, penstock.subscribe("alerts", after="earliest"))
        after = {"orders": "earliest", "alerts": alert.cursor}
        found = await first(7, penstock.subscribe("orders", "alerts", after=after))
        with pytest.raises(Refused, match="a cursor belongs to one topic"):
            penstock.subscribe("orders", "alerts", after=alert.cursor)
    assert numbers([event for event in found if event.topic == "orders"]) == [0, 1, 2, 3]
    assert numbers([event for event in found if event.topic == "alerts"]) == [11, 12, 13]


async def test_a_history_is_read_page_by_page_to_its_end(gateway):
    await gateway.orders(0, 25)
    async with client_of(gateway, limits=ClientLimits(page_rows=10)) as penstock:
        assert numbers(await first(100, penstock.history("orders"))) == list(range(25))
        assert numbers(await first(100, penstock.history("orders", limit=12))) == list(range(12))
        assert numbers(await first(100, penstock.history("orders", filter="n > 20"))) == [21, 22, 23, 24]


@pytest.mark.parametrize(
    ("topic", "asked", "scope", "error", "code"),
    [
        ("nothing", {}, "*:read", NotFound, "unknown_topic"),
        ("orders", {"filter": "nope = 1"}, "*:read", Refused, "bad_filter"),
        ("orders", {"after": "garbled"}, "*:read", Refused, "bad_cursor"),
        ("orders", {}, "alerts:read", Forbidden, "insufficient_scope"),
    ],
)
async def test_what_would_never_do_is_raised_with_its_code(gateway, topic, asked, scope, error, code):
    async with client_of(gateway, token=lambda: gateway.token(scope)) as penstock:
        with pytest.raises(error) as refused:
            await first(1, penstock.subscribe(topic, **asked))
    assert (refused.value.code, refused.value.retry) == (code, False)
    assert refused.value.detail


async def test_a_token_that_is_not_taken_is_fetched_anew_once_then_it_is_an_error(gateway):
    shown = []

    async def provide() -> str:
        shown.append("bad")
        return f"bad-{len(shown)}"

    async with client_of(gateway, token=provide) as penstock:
        with pytest.raises(Unauthorized) as refused:
            await first(1, penstock.subscribe("orders"))
        assert (refused.value.code, len(shown)) == ("invalid_token", 2)
        with pytest.raises(Unauthorized):
            await first(1, penstock.history("orders"))


class Told(list[Notice]):
    """Takes the notices of a subscription."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = asyncio.Event()

    def __call__(self, notice: Notice) -> None:
        self.append(notice)
        if notice.kind == "open":
            self.opened.set()


async def subscribed(events: AsyncGenerator[Event | Gap, None], notices: Told) -> asyncio.Task[Event | Gap]:
    """The first event in the making, once the connection is open."""
    waiting = asyncio.ensure_future(anext(events))
    await asyncio.wait_for(notices.opened.wait(), 5)
    return waiting


async def test_a_token_that_is_about_to_end_is_renewed_and_nothing_is_lost(gateway):
    notices = Told()
    shown: list[str] = []

    def provide() -> Token:
        shown.append(gateway.token())
        return Token(shown[-1], 3600)

    async with client_of(gateway, token=provide, clock=gateway.clock) as penstock:
        events = penstock.subscribe("orders", on_notice=notices)
        waiting = await subscribed(events, notices)
        await gateway.orders(0, 1)
        found = [await asyncio.wait_for(waiting, 5)]
        waiting = asyncio.ensure_future(anext(events))
        await gateway.pass_time(3540, step_s=12)
        await gateway.pass_time(70, step_s=2)
        await gateway.orders(1, 3)
        found.append(await asyncio.wait_for(waiting, 5))
        found += [await asyncio.wait_for(anext(events), 5) for _ in range(2)]
        await gateway.pass_time(600, step_s=12)
        await gateway.orders(4, 1)
        found.append(await asyncio.wait_for(anext(events), 5))
        await events.aclose()
    assert numbers(found) == [0, 1, 2, 3, 4]
    assert len(shown) == 2
    kinds = [notice.kind for notice in notices]
    assert "expiring" in kinds
    assert "closed" not in kinds, "renewed before the server had to end it"


async def test_a_token_that_ends_unrenewed_costs_a_connection_and_no_event(gateway):
    notices = Told()
    tokens = [gateway.token()]

    async with client_of(gateway, token=lambda: tokens[-1], clock=gateway.clock) as penstock:
        events = penstock.subscribe("orders", on_notice=notices)
        waiting = await subscribed(events, notices)
        await gateway.orders(0, 1)
        found = [await asyncio.wait_for(waiting, 5)]
        waiting = asyncio.ensure_future(anext(events))
        await gateway.pass_time(3590, step_s=12)
        tokens.append(gateway.token())  # the provider has none before, so the server closes at the end
        await gateway.orders(1, 1)
        found.append(await asyncio.wait_for(waiting, 5))
        waiting = asyncio.ensure_future(anext(events))
        await gateway.pass_time(40, step_s=2)
        await gateway.orders(2, 1)
        found.append(await asyncio.wait_for(waiting, 5))
        await events.aclose()
    assert numbers(found) == [0, 1, 2]
    assert [notice.fields["code"] for notice in notices if notice.kind == "closed"] == [4401]


async def more_than_sockets_hold(gateway) -> int:
    """Some 13 MB while nobody reads; the count of events, numbered from 0."""
    for start in range(0, 1300, 100):
        rows = [(str(n) + "x" * 10_000, n, "north") for n in range(start, start + 100)]
        await gateway.commit(orders_batch(rows, stream="alerts"))
        await asyncio.sleep(0.01)
    return 1300


@pytest.mark.parametrize("gateway", [SMALL_RING], indirect=True)
@pytest.mark.parametrize("told", ["between the events", "by the callback"])
async def test_what_a_slow_reader_misses_is_told_never_silent(gateway, told):
    gaps: list[Gap] = []
    notices = Told()
    async with client_of(gateway, limits=ClientLimits(frames_queued_max=2)) as penstock:
        on_gap = gaps.append if told == "by the callback" else None
        events = penstock.subscribe("alerts", on_gap=on_gap, on_notice=notices)
        waiting = await subscribed(events, notices)
        wanted = await more_than_sockets_hold(gateway)
        got = [(await waiting).data["n"]]
        waiting = asyncio.ensure_future(anext(events))
        async with asyncio.timeout(20):
            while len(got) + sum(gap.events or 0 for gap in gaps) < wanted:
                await asyncio.wait([waiting], timeout=0.1)  # a callback may be told while nothing comes
                if waiting.done():
                    item = waiting.result()
                    got += [item.data["n"]] if isinstance(item, Event) else []
                    gaps += [item] if isinstance(item, Gap) else []
                    waiting = asyncio.ensure_future(anext(events))
        waiting.cancel()
        await asyncio.wait([waiting])
        await events.aclose()
    assert gaps, "a ring of 20 kB cannot hold 13 MB"
    assert len(got) + sum(gap.events or 0 for gap in gaps) == wanted
    assert got == sorted(set(got))


@pytest.mark.parametrize("gateway", [SMALL_RING], indirect=True)
async def test_who_asks_to_be_closed_when_slow_reads_on_from_the_log_without_a_gap(gateway):
    notices = Told()
    limits = ClientLimits(frames_queued_max=2, backoff_first_s=0.01)
    async with client_of(gateway, limits=limits) as penstock:
        events = penstock.subscribe("alerts", slow="close", on_notice=notices)
        waiting = await subscribed(events, notices)
        wanted = await more_than_sockets_hold(gateway)
        found = [await waiting]
        async with asyncio.timeout(20):
            while len(found) < wanted:
                found.append(await anext(events))
        await events.aclose()
    assert numbers(found) == list(range(wanted))
    assert any(notice.kind == "closed" for notice in notices)


async def test_an_iterator_that_is_closed_early_leaves_no_task(gateway):
    await gateway.orders(0, 10)
    async with client_of(gateway) as penstock:
        before = asyncio.all_tasks()
        for topics in (("orders",), ("orders", "alerts")):
            async for _ in penstock.subscribe(*topics, after="earliest"):
                break
            leaving = penstock_tasks(before)  # what a forgotten iterator takes to close
            await asyncio.wait_for(asyncio.gather(*leaving, return_exceptions=True), 5)
            assert not penstock_tasks(before)
        waiting = asyncio.ensure_future(first(1, penstock.subscribe("alerts")))
        await asyncio.sleep(0.05)
    assert await asyncio.wait_for(waiting, 5) == [], "closing the client ends who waits"
    assert not penstock_tasks(before)


def penstock_tasks(before: set[asyncio.Task]) -> list[asyncio.Task]:
    """Tasks of the client that were not there before."""
    return [task for task in asyncio.all_tasks() - before if "penstock/client" in repr(task)]


async def test_the_synchronous_client_gives_the_same_and_leaves_no_thread(gateway):
    await gateway.orders(0, 6)
    await gateway.orders(10, 2, stream="alerts")

    def use() -> tuple[list[int], list[int], list[int], list[str]]:
        with Client(gateway.url, token=gateway.token, limits=QUICK) as penstock:
            firsts = []
            for event in penstock.subscribe("orders", after="earliest"):
                firsts.append(event)
                if len(firsts) == 3:
                    break
            both = penstock.subscribe("orders", "alerts", after="earliest")
            merged = [next(both) for _ in range(8)]
            with pytest.raises(NotFound):
                next(penstock.subscribe("nothing"))
            history = list(penstock.history("orders", after=firsts[1].cursor))
        with pytest.raises(Unavailable, match="closed"):
            next(penstock.subscribe("orders"))
        return numbers(firsts), sorted(numbers(merged)), numbers(history), [t.name for t in threading.enumerate()]

    firsts, merged, history, threads = await asyncio.to_thread(use)
    assert (firsts, merged, history) == ([0, 1, 2], [0, 1, 2, 3, 4, 5, 10, 11], [2, 3, 4, 5])
    assert "penstock-client" not in threads


async def test_a_durable_subscription_goes_on_after_what_was_acknowledged(gateway):
    await gateway.orders(0, 10)
    async with client_of(gateway, limits=ClientLimits(ack_every_s=0.01)) as penstock:
        events = penstock.subscribe("orders", after="earliest", durable="billing", ack="manual")
        found = await first_open(3, events)
        found[1].ack()  # of 0 and 1, though 2 has come
        await events.aclose()
        again = await first(3, penstock.subscribe("orders", durable="billing"))
        assert numbers(again) == [2, 3, 4], "and 2 and 3 were done with when the next was asked for"
        assert numbers(await first(2, penstock.subscribe("orders", durable="billing"))) == [4, 5]


async def test_who_takes_a_durable_subscription_over_has_it_and_the_other_is_told(gateway):
    async with client_of(gateway) as penstock:
        notices = Told()
        waiting = await subscribed(penstock.subscribe("orders", durable="billing", on_notice=notices), notices)
        taken = Told()
        second = await subscribed(penstock.subscribe("orders", durable="billing", on_notice=taken), taken)
        with pytest.raises(Refused, match="taken_over"):
            await asyncio.wait_for(waiting, 5)
        await gateway.orders(0, 1)
        assert numbers([await asyncio.wait_for(second, 5)]) == [0]


async def first_open(count: int, events: AsyncGenerator[Event | Gap, None]) -> list[Event]:
    """So many events; the iterator stays open."""
    found = [await asyncio.wait_for(anext(events), 5) for _ in range(count)]
    return [event for event in found if isinstance(event, Event)]


async def test_with_credit_the_server_sends_as_much_as_is_done_with(gateway):
    await gateway.orders(0, 40)
    notices = Told()
    async with client_of(gateway, limits=ClientLimits(ack_every_s=0.01)) as penstock:
        events = penstock.subscribe("orders", after="earliest", credit=4, on_notice=notices)
        assert numbers(await first(40, events)) == list(range(40))
    assert [notice.kind for notice in notices if notice.kind == "refused"] == []
