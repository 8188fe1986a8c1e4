"""What subscribers say on a WebSocket, over real sockets: several topics, credit, errors, limits."""

import asyncio
import json
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from publish.conftest import (
    CLICKS,
    ORDERS,
    close_of,
    events,
    orders_batch,
    receive,
    running_gateway,
    totals_batch,
)
from websockets.asyncio.client import connect

from penstock.model.batch import Op
from penstock.model.position import Cursor
from penstock.testing.clock import ManualClock


def socket(gateway, *, scope="*:read", headers=None, **query):
    """A WebSocket without a first topic."""
    url = f"{gateway.url.replace('http', 'ws', 1)}/v1/topics"
    if query:
        url += "?" + "&".join(f"{name}={value}" for name, value in query.items())
    sent = gateway.headers(scope) if headers is None else headers
    return connect(url, additional_headers=sent, compression=None, max_queue=None)


async def say(ws, **line):
    await ws.send(json.dumps(line))


async def answer(ws, **line):
    """Say it, and the reply to it."""
    await say(ws, **line)
    while True:
        [found] = await receive(ws, 1)
        if ("ok" in found or "err" in found) and found.get("id") == line["id"]:
            return found


async def silence(ws):
    """Nothing is on its way: the answer to a line comes next."""
    await say(ws, unsub="nothing", id="silence")
    assert (await receive(ws, 1))[0]["id"] == "silence"


async def test_a_socket_without_a_first_topic_takes_several_and_each_tells_its_own(gateway):
    async with socket(gateway) as ws:
        assert await answer(ws, id=1, sub="orders") == {"id": 1, "ok": True}
        assert (await receive(ws, 1))[0] == {"sys": "open", "t": "orders", "c": Cursor("orders", 1, (0, 0)).text()}
        assert await answer(ws, id=2, sub="alerts", format="raw", filter="n > 1") == {"id": 2, "ok": True}
        assert (await receive(ws, 1))[0]["t"] == "alerts"
        await gateway.orders(0, 2)
        assert [(event["t"], event["d"]["n"]) for event in await events(ws, 2)] == [("orders", 0), ("orders", 1)]
        await gateway.orders(0, 3, stream="alerts")
        assert await events(ws, 1) == [{"id": "k2", "n": 2, "region": "south"}]


async def test_more_topics_on_the_socket_of_a_topic_and_each_can_be_left(gateway):
    async with gateway.subscribe("orders") as ws:
        await say(ws, sub="alerts")
        await receive(ws, 2)
        assert await answer(ws, id=1, unsub="orders") == {"id": 1, "ok": True}
        await gateway.orders(0, 1)
        await gateway.orders(7, 1, stream="alerts")
        assert [event["t"] for event in await events(ws, 1)] == ["alerts"]
        assert await answer(ws, id=2, sub="orders", after="earliest") == {"id": 2, "ok": True}
        assert [event["t"] for event in await events(ws, 1)] == ["orders"]
        await say(ws, unsub="alerts")
        await say(ws, unsub="orders")
        await silence(ws)


async def test_a_table_starts_with_its_current_rows_beside_another_topic(gateway):
    batch = totals_batch([("north", "2024-01-01", 5, Op.INSERT, False)])
    await gateway.commit(batch)
    await gateway.apply(0, batch)
    async with gateway.subscribe("orders") as ws:
        await say(ws, sub="totals", after="earliest")
        await gateway.orders(0, 1)
        found = {event["t"]: event["d"] for event in await events(ws, 2)}
    assert found["totals"]["sum_n"] == 5
    assert found["orders"]["n"] == 0


@pytest.mark.parametrize("gateway", [{"merge_ms": 0}], indirect=True)
async def test_every_topic_of_a_socket_is_resumed_by_its_own_cursor_without_loss_under_load(gateway):
    total = 600

    async def produce():
        for first in range(0, total, 10):
            await gateway.orders(first, 10, partition=(first // 10) % 2)
            await gateway.orders(first, 10, stream="alerts")
            await asyncio.sleep(0.001)

    producing = asyncio.create_task(produce())
    after = {"orders": "earliest", "alerts": "earliest"}
    seen = {"orders": [], "alerts": []}
    for take in (1, 40, 300, 7, 2 * total):
        async with socket(gateway) as ws:
            for topic, cursor in after.items():
                await say(ws, sub=topic, after=cursor)
            for _ in range(min(take, 2 * total - sum(map(len, seen.values())))):
                [event] = await events(ws, 1)
                seen[event["t"]].append(event["d"]["n"])
                after[event["t"]] = event["c"]
    await producing
    assert seen["alerts"] == list(range(total))
    assert sorted(seen["orders"]) == list(range(total))


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ({"sub": "nothing"}, "unknown_topic"),
        ({"sub": "hidden"}, "unknown_topic"),
        ({"sub": "alerts"}, "insufficient_scope"),
        ({"sub": "orders"}, "conflict"),
        ({"sub": "clicks", "after": "nonsense"}, "bad_cursor"),
        ({"sub": "clicks", "filter": "n >"}, "bad_filter"),
        ({"sub": "clicks", "format": "xml"}, "bad_request"),
        ({"sub": "clicks", "slow": "never"}, "bad_request"),
        ({"sub": "clicks", "credit": 10_000_000}, "bad_request"),
        ({"sub": "clicks", "durable": "a b"}, "bad_request"),
        ({"unsub": "clicks"}, "unknown_topic"),
        ({"credit": 5}, "bad_request"),
        ({"credit": 5, "t": "clicks"}, "unknown_topic"),
        ({"ack": "nonsense"}, "bad_cursor"),
        ({"ack": "earliest"}, "bad_cursor"),
        ({"ack": Cursor("orders", 1, (99, 0)).text()}, "bad_cursor"),
        ({"ack": Cursor("orders", 2, (0, 0)).text()}, "bad_cursor"),
        ({"ack": Cursor("clicks", 1, (0,)).text(), "t": "orders"}, "bad_cursor"),
    ],
    ids=str,
)
async def test_what_cannot_be_done_is_said_and_the_socket_goes_on(gateway, line, code):
    async with gateway.subscribe("orders", headers=gateway.headers("orders:read clicks:read")) as ws:
        refused = await answer(ws, id=9, **line)
        assert (refused["id"], refused["err"], refused["retry"]) == (9, code, False)
        assert refused["detail"]
        await gateway.orders(0, 1)
        assert [event["d"]["n"] for event in await events(ws, 1)] == [0]


@pytest.mark.parametrize("gateway", [{"socket": {"bad_lines_max": 2}}], indirect=True)
@pytest.mark.parametrize("noise", ["hello", b"\x00", '{"x":1}'])
async def test_what_is_no_line_is_answered_some_times_then_the_socket_is_closed(gateway, noise):
    async with gateway.subscribe("orders") as ws:
        await ws.recv()
        for _ in range(2):
            await ws.send(noise)
            assert (await receive(ws, 1))[0]["err"] == "bad_request"
        await ws.send(noise)
        after = Cursor("orders", 1, (0, 0)).text()
        assert await close_of(ws) == (4400, {"code": "bad_request", "retry_ms": None, "after": after})


@pytest.mark.parametrize("gateway", [{"socket": {"lines_per_s_max": 3}}], indirect=True)
async def test_who_sends_lines_too_fast_is_read_slower_and_nothing_is_refused(gateway):
    async with gateway.subscribe("orders") as ws:
        await ws.send("\n".join(json.dumps({"id": n, "unsub": "nothing"}) for n in range(5)))
        await ws.recv()
        assert [line["id"] for line in await receive(ws, 3)] == [0, 1, 2]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ws.recv(), 0.1)
        await gateway.pass_time(1, step_s=0.1)
        assert [line["id"] for line in await receive(ws, 2)] == [3, 4]


@pytest.mark.parametrize("gateway", [{"socket": {"subscriptions_per_connection_max": 2}}], indirect=True)
async def test_a_socket_has_so_many_topics_and_one_that_is_left_makes_room(gateway):
    async with gateway.subscribe("orders") as ws:
        assert (await answer(ws, id=1, sub="alerts"))["ok"]
        assert (await answer(ws, id=2, sub="clicks"))["err"] == "too_many_requests"
        await say(ws, unsub="alerts")
        assert (await answer(ws, id=3, sub="clicks"))["ok"]


async def test_a_topic_that_is_dropped_ends_with_a_notice_and_the_others_go_on(gateway):
    async with gateway.subscribe("orders") as ws:
        await say(ws, sub="alerts")
        await receive(ws, 2)
        await gateway.orders(0, 1, stream="alerts")
        [event] = await events(ws, 1)
        await gateway.log.put_app("shop", "-- less", [ORDERS, CLICKS], None)
        [end] = await receive(ws, 1)
        assert end == {"sys": "end", "t": "alerts", "code": "unknown_topic", "after": event["c"], "retry_ms": None}
        await gateway.orders(0, 1)
        assert len(await events(ws, 1)) == 1
        assert (await answer(ws, id=1, unsub="alerts"))["err"] == "unknown_topic"


async def test_at_stop_a_socket_of_several_topics_says_where_each_can_be_resumed(gateway):
    async with gateway.subscribe("orders") as ws:
        await say(ws, sub="alerts")
        await receive(ws, 2)
        await gateway.orders(0, 1, stream="alerts")
        [event] = await events(ws, 1)
        gateway.stop.set()
        ends = {end["t"]: end for end in await receive(ws, 2)}
        assert (ends["alerts"]["code"], ends["alerts"]["after"]) == ("draining", event["c"])
        assert ends["orders"]["after"] == Cursor("orders", 1, (0, 0)).text()
        code, reason = await close_of(ws)
        assert (code, reason["code"], reason["after"]) == (1001, "draining", None)


async def test_heartbeats_name_the_topic_that_was_asked_for_by_a_line(gateway):
    async with socket(gateway) as ws:
        await answer(ws, id=1, sub="orders", filter="n < 0")
        await ws.recv()
        await gateway.orders(0, 5)
        await asyncio.sleep(0.05)
        await gateway.pass_time(16, step_s=4)
        assert await receive(ws, 1) == [{"sys": "hb", "t": "orders", "c": Cursor("orders", 1, (5, 0)).text()}]


@pytest.mark.parametrize("gateway", [{"merge_ms": 0, "ring_bytes_max": 1024}], indirect=True)
async def test_without_credit_nothing_comes_and_with_it_exactly_so_much_and_nothing_is_lost(gateway):
    async with gateway.subscribe("orders", credit="3") as ws, gateway.subscribe("orders") as other:
        await ws.recv()
        for first in range(0, 200, 20):
            await gateway.orders(first, 20, partition=(first // 20) % 2)
        assert len(await events(other, 200)) == 200
        seen = [event["d"]["n"] for event in await events(ws, 3)]
        await silence(ws)
        for amount in (1, 1, 30, 65, 99):
            assert await answer(ws, id=1, credit=amount) == {"id": 1, "ok": True}
            seen += [event["d"]["n"] for event in await events(ws, amount)]
            await silence(ws)
        await gateway.orders(500, 1)  # 199 of 200 were asked for
        await say(ws, credit=10, t="orders")
        seen += [event["d"]["n"] for event in await events(ws, 2)]
    assert sorted(seen) == [*range(200), 500]


async def test_who_comes_back_with_credit_gets_exactly_so_much_of_what_is_left(gateway):
    await gateway.orders(0, 8)
    async with gateway.subscribe("orders", after="earliest", credit="3") as ws:
        last = (await events(ws, 3))[-1]["c"]
    async with gateway.subscribe("orders", after=last, credit="2") as ws:
        assert [event["d"]["n"] for event in await events(ws, 2)] == [3, 4]
        await gateway.orders(8, 4)
        await silence(ws)
        await say(ws, credit=5)
        assert [event["d"]["n"] for event in await events(ws, 5)] == [5, 6, 7, 8, 9]
        await silence(ws)


async def test_a_paused_subscriber_holds_neither_task_nor_ring(gateway):
    async with gateway.subscribe("orders", credit="0") as ws:
        await ws.recv()
        await gateway.orders(0, 50)
        await silence(ws)
        names = {task.get_coro().__qualname__ for task in asyncio.all_tasks()}
        assert not any(name.startswith(("Replay", "Subscriber")) for name in names)
        await say(ws, credit=100)
        assert [event["d"]["n"] for event in await events(ws, 50)] == list(range(50))


async def test_credit_counts_what_the_filter_lets_through_and_rows_of_a_table_too(gateway):
    batch = totals_batch([(f"r{n}", "2024-01-01", n, Op.INSERT, False) for n in range(20)])
    await gateway.commit(batch)
    await gateway.apply(0, batch)
    async with gateway.subscribe("totals", after="earliest", credit="5", filter="sum_n >= 10") as ws:
        seen = [event["d"]["sum_n"] for event in await events(ws, 5)]
        await silence(ws)
        await say(ws, credit=4)
        seen += [event["d"]["sum_n"] for event in await events(ws, 4)]
        await silence(ws)
        await say(ws, credit=4)
        seen += [event["d"]["sum_n"] for event in await events(ws, 1)]
        await gateway.commit(totals_batch([("r1", "2024-01-01", 77, Op.UPDATE_AFTER, False)]))
        seen += [event["d"]["sum_n"] for event in await events(ws, 1)]
    assert sorted(seen) == [*range(10, 20), 77]


async def test_credit_is_of_each_topic_and_bounded(gateway):
    async with gateway.subscribe("orders", credit="1") as ws:
        await answer(ws, id=1, sub="alerts", credit=2)
        assert (await answer(ws, id=2, credit=1))["err"] == "bad_request"
        assert (await answer(ws, id=3, credit=999_999, t="orders"))["ok"]
        assert (await answer(ws, id=4, credit=999_999, t="orders"))["err"] == "bad_request"
        await gateway.orders(0, 5, stream="alerts")
        assert [event["d"]["n"] for event in await events(ws, 2)] == [0, 1]


_NOISE = st.text(max_size=60) | st.builds(
    json.dumps,
    st.dictionaries(
        st.sampled_from(["id", "sub", "unsub", "ack", "credit", "t", "filter", "after", "auth", "pub", "d"]),
        st.none() | st.integers(-2, 10**20) | st.sampled_from(["orders", "alerts", "nothing", "earliest", "\0", "é"]),
        max_size=4,
    ),
)


@settings(max_examples=3, deadline=timedelta(seconds=60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_NOISE, min_size=200, max_size=200))
def test_no_text_whatever_breaks_a_socket(tmp_path_factory, messages):
    async def run():
        limits = {"socket": {"bad_lines_max": 100_000, "lines_per_s_max": 100_000}}
        folder = tmp_path_factory.mktemp("noise")
        clock = ManualClock(1_700_000_000_000)
        async with running_gateway(folder, clock, **limits) as gateway, gateway.subscribe("clicks") as ws:
            for message in messages:
                await ws.send(message)
            assert (await answer(ws, id="done", unsub="nothing"))["err"] == "unknown_topic"
            await gateway.orders(0, 1, stream="alerts")
            await say(ws, sub="alerts", after="earliest")
            await say(ws, id="alive", unsub="alerts")
            while (await receive(ws, 1))[0].get("id") != "alive":
                pass

    asyncio.run(run())


async def test_a_subscriber_that_sends_and_does_not_read_is_not_read_either(gateway):
    line = json.dumps({"id": "x" * 60, "sub": "nothing"}) + "\n"
    async with gateway.subscribe("orders") as ws:
        ws.transport.pause_reading()
        sending = asyncio.create_task(_flood(ws, line * 500))
        await asyncio.sleep(0.3)
        assert not sending.done(), "the gateway would hold the replies in memory"
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        ws.transport.abort()


async def _flood(ws, text):
    while True:
        await ws.send(text)
        await asyncio.sleep(0)


async def test_events_flow_while_lines_are_answered(gateway):
    async with gateway.subscribe("orders") as ws:
        for n in range(20):
            await say(ws, id=n, credit=1)
            await gateway.commit(orders_batch([("a", n, "x")]))
        found = await receive(ws, 41)
        assert [line["id"] for line in found if "err" in line] == list(range(20))
        assert [line["d"]["n"] for line in found if "d" in line] == list(range(20))
