"""Limits of the fan-out: how many come in a second, how long they stay, what their unsent bytes may take."""

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from publish.conftest import close_of, events, orders_batch, receive
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from penstock_publish.topics.limits import ConnectRate, largest_over


def test_a_rate_lets_a_second_of_connects_in_at_once_and_then_as_many_as_time_passes():
    rate = ConnectRate(10, now_s=100.0)
    assert [rate.take(100.0) for _ in range(11)] == [True] * 10 + [False]
    assert [rate.take(100.25) for _ in range(3)] == [True, True, False]
    assert sum(rate.take(1_000.0) for _ in range(100)) == 10


@given(st.lists(st.integers(1, 100)), st.integers(0, 2_000))
def test_as_few_of_the_largest_go_as_bring_the_rest_within_the_limit(sizes, limit):
    gone = largest_over([(size, n) for n, size in enumerate(sizes)], limit_bytes=limit)
    left = [size for n, size in enumerate(sizes) if n not in gone]
    assert sum(left) <= limit
    if gone:
        assert sum(left) + min(sizes[n] for n in gone) > limit
        assert min(sizes[n] for n in gone) >= max(left, default=0)


@pytest.mark.parametrize("gateway", [{"connects_per_s_max": 3}], indirect=True)
async def test_too_many_connects_in_a_second_are_told_to_come_back(gateway, http):
    for _ in range(3):
        async with gateway.subscribe("orders") as ws:
            await receive(ws, 1)
    with pytest.raises(InvalidStatus) as refusal:
        async with gateway.subscribe("orders"):
            pass
    response = refusal.value.response
    assert (response.status_code, json.loads(response.body)["code"]) == (503, "overloaded")
    assert int(response.headers["Retry-After"]) in (2, 3, 4)
    headers = {**gateway.headers(), "Accept": "text/event-stream"}
    async with http.get(f"{gateway.url}/v1/topics/orders", headers=headers) as reply:
        assert reply.status == 503
    async with http.get(f"{gateway.url}/v1/topics/orders", headers=gateway.headers()) as page:
        assert page.status == 200, "a page is no connection"
    await gateway.clock.advance(1)
    async with gateway.subscribe("orders") as ws:
        assert len(await receive(ws, 1)) == 1


@pytest.mark.parametrize("gateway", [{"connection_lifetime_s": 100, "ping_s": 1_000}], indirect=True)
async def test_a_connection_ends_after_its_lifetime_with_its_cursor_and_a_hint_when_to_come_back(gateway, http):
    headers = {**gateway.headers(), "Accept": "text/event-stream"}
    async with (
        gateway.subscribe("orders") as ws,
        http.get(f"{gateway.url}/v1/topics/orders", headers=headers) as stream,
    ):
        await gateway.orders(0, 1)
        last = (await events(ws, 1))[0]["c"]
        await gateway.pass_time(99, step_s=11)
        await gateway.orders(1, 1)
        last = (await events(ws, 1))[0]["c"]
        await gateway.pass_time(101, step_s=10)
        code, reason = await close_of(ws)
        assert (code, reason["code"], reason["after"]) == (1001, "lifetime", last)
        assert 1_000 <= reason["retry_ms"] <= 2_000
        async with asyncio.timeout(5):
            assert b"retry: " in await stream.content.read()
    async with gateway.subscribe("orders", after=last) as ws:
        await gateway.orders(2, 1)
        assert [event["d"]["n"] for event in await events(ws, 1)] == [2]


WIDE = {
    "close_wait_s": 20,
    "send_buffer_bytes": 8_000_000,
    "send_buffer_total_bytes_max": 9_000_000,
    "ring_bytes_max": 20_000_000,
}


@pytest.mark.parametrize("gateway", [WIDE], indirect=True)
async def test_who_holds_most_goes_when_all_unsent_bytes_together_are_too_many(gateway):
    url = f"{gateway.url.replace('http', 'ws', 1)}/v1/topics/orders"
    deaf = [
        await connect(url, additional_headers=gateway.headers(), compression=None, max_queue=1, max_size=None)
        for _ in range(2)
    ]
    async with gateway.subscribe("orders") as quick:
        for n in range(320):
            await gateway.commit(orders_batch([("x" * 50_000, n, "x")]))
            await events(quick, 1)
        await gateway.pass_time(1.5)
        await gateway.commit(orders_batch([("end", 320, "x")]))
        await events(quick, 1)
        ends = []
        for ws in deaf:
            try:
                async with asyncio.timeout(5):
                    while json.loads(await ws.recv()).get("k") != "end":
                        pass
                ends.append("read to the end")
            except ConnectionClosed as closed:
                ends.append((closed.rcvd.code, json.loads(closed.rcvd.reason)["code"]))
            await ws.close()
        assert sorted(map(str, ends)) == ["(4409, 'slow')", "read to the end"]
