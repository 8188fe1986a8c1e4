"""Plans on live connections: pauses without loss, a notice for each, a close when the day's quota is used up."""

from __future__ import annotations

import asyncio
import contextlib
import json
from datetime import UTC, datetime

import pytest
from publish.conftest import close_of, events, receive
from publish.plans_rig import on_plan, one_by_one
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus

DAY_MS = 86_400_000


def rest_of_day_ms(clock) -> int:
    return DAY_MS - clock.now_ms() % DAY_MS


async def numbers(ws, count: int) -> list[int]:
    return [event["d"]["n"] for event in await events(ws, count)]


async def refusal(gateway) -> tuple[int, dict[str, object], Headers]:
    with pytest.raises(InvalidStatus) as refused:
        async with gateway.subscribe("orders"):
            pass
    response = refused.value.response
    return response.status_code, json.loads(response.body), response.headers


@pytest.mark.parametrize("gateway", [on_plan(messages_per_s=2, burst_s=2)], indirect=True)
async def test_over_its_rate_a_connection_is_told_to_wait_and_goes_on_where_it_stopped(gateway):
    async with one_by_one(gateway) as send, gateway.subscribe("orders") as ws:
        await receive(ws, 1)
        await send(0, 12)
        assert await numbers(ws, 5) == [0, 1, 2, 3, 4]  # four of the burst, and the one that makes a debt
        [notice] = await receive(ws, 1)
        assert notice == {"sys": "quota", "wait_ms": 500, "limit": "messages_per_s"}
        await gateway.pass_time(0.4)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ws.recv(), 0.05)
        await gateway.pass_time(0.2)
        assert await numbers(ws, 7) == [5, 6, 7, 8, 9, 10, 11]  # what had come meanwhile, in one flush
        await send(12, 1)
        [notice] = await receive(ws, 1)
        assert notice["wait_ms"] > 3_000
        await gateway.pass_time(4)
        assert await numbers(ws, 1) == [12]


@pytest.mark.parametrize("gateway", [on_plan(bytes_per_s=100, burst_s=1)], indirect=True)
async def test_bytes_are_held_to_their_rate_over_sse_too(gateway, http):
    headers = {**gateway.headers(), "Accept": "text/event-stream"}
    url = f"{gateway.url}/v1/topics/orders"
    async with one_by_one(gateway) as send, http.get(url, headers=headers) as stream:
        await asyncio.wait_for(stream.content.readuntil(b"\n\n"), 5)
        await send(0, 3)
        found = b""
        while b'"sys":"quota"' not in found:
            found += await asyncio.wait_for(stream.content.readuntil(b"\n\n"), 5)
        assert b'"limit":"bytes_per_s"' in found
        assert b'"n":2' not in found
        await gateway.pass_time(5)
        while b'"n":2' not in found:
            found += await asyncio.wait_for(stream.content.readuntil(b"\n\n"), 5)


@pytest.mark.parametrize("gateway", [on_plan(messages_per_s=1, burst_s=1)], indirect=True)
async def test_connections_of_one_application_share_its_rate_and_others_do_not_wait(gateway):
    async with (
        one_by_one(gateway) as send,
        gateway.subscribe("orders") as first,
        gateway.subscribe("orders") as second,
    ):
        for ws in (first, second):
            await receive(ws, 1)
        await send(0, 4)
        assert (await receive(first, 2))[1]["sys"] == "quota"
        assert (await receive(second, 2))[1]["sys"] == "quota"
        await gateway.pass_time(20)
        assert await numbers(first, 3) == [1, 2, 3]
        assert await numbers(second, 3) == [1, 2, 3]


@pytest.mark.parametrize("gateway", [on_plan(messages_per_s=10, burst_s=1) | {"page_limit": 5}], indirect=True)
async def test_a_replay_is_held_to_the_rate_and_misses_nothing(gateway):
    await gateway.orders(0, 350)
    async with gateway.subscribe("orders", after="earliest") as ws:
        seen: list[int] = []
        notices = 0
        async with asyncio.timeout(20):
            while len(seen) < 350:
                try:
                    message = json.loads(await asyncio.wait_for(ws.recv(), 0.02))
                except TimeoutError:
                    await gateway.clock.advance(1)
                    continue
                notices += message.get("sys") == "quota"
                seen += [message["d"]["n"]] if "d" in message else []
        assert seen == list(range(350))
        assert notices >= 3
        assert gateway.clock.monotonic_s() >= (350 - 100 - 10) / 10


@pytest.mark.parametrize("gateway", [on_plan(messages_per_day=3)], indirect=True)
async def test_when_the_day_is_used_up_connections_end_with_4429_until_midnight(gateway):
    async with one_by_one(gateway) as send, gateway.subscribe("orders") as ws:
        await receive(ws, 1)
        await send(0, 4)
        assert await numbers(ws, 3) == [0, 1, 2]
        [notice] = await receive(ws, 1)
        code, reason = await close_of(ws)
        left_ms = rest_of_day_ms(gateway.clock)
        assert (notice["sys"], notice["limit"]) == ("quota", "messages_per_day")
        assert notice["wait_ms"] == pytest.approx(left_ms, abs=2_000)
        assert (code, reason["code"]) == (4429, "quota_exceeded")
        assert left_ms - 2_000 <= reason["retry_ms"] <= left_ms + 61_000  # spread over a minute after midnight
    status, problem, headers = await refusal(gateway)
    assert (status, problem["code"], problem["limit"]) == (429, "quota_exceeded", "messages_per_day")
    assert int(headers["Retry-After"]) == pytest.approx(left_ms / 1000, abs=2)
    assert headers["RateLimit-Policy"] == '"messages_per_day";q=3;qu="messages";w=86400'
    assert headers["RateLimit"].startswith('"messages_per_day";r=0;t=')
    gateway.clock.jump(left_ms / 1000 - 5)
    assert (await refusal(gateway))[0] == 429
    gateway.clock.jump(10)
    assert datetime.fromtimestamp(gateway.clock.now_ms() / 1000, UTC).hour == 0

    async with gateway.subscribe("orders", after=reason["after"]) as ws:
        await receive(ws, 1)
        assert await numbers(ws, 1) == [3]


@pytest.mark.parametrize("gateway", [on_plan(connections=2)], indirect=True)
async def test_a_connection_too_many_is_refused_before_the_handshake(gateway):
    async with gateway.subscribe("orders") as first:
        await receive(first, 1)
        async with gateway.subscribe("alerts") as second:
            await receive(second, 1)
            status, problem, headers = await refusal(gateway)
            assert (status, problem["limit"], problem["plan"]) == (429, "connections", "tiny")
            assert headers["Retry-After"] == "5"
        async with asyncio.timeout(5):
            while True:
                try:
                    async with gateway.subscribe("orders") as again:
                        await receive(again, 1)
                    break
                except InvalidStatus:  # the one that was closed has yet to be noticed
                    await asyncio.sleep(0.01)


@pytest.mark.parametrize("gateway", [on_plan(messages_per_s=1, burst_s=1)], indirect=True)
async def test_who_asked_for_the_latest_gets_it_after_a_pause_with_the_gap_announced(gateway):
    async with one_by_one(gateway) as send, gateway.subscribe("orders", slow="latest") as ws:
        await receive(ws, 1)
        await send(0, 6)
        assert await numbers(ws, 2) == [0, 1]
        assert (await receive(ws, 1))[0]["sys"] == "quota"
        await gateway.pass_time(2)
        gap, newest = await receive(ws, 2)
        assert (gap["sys"], gap["n"]) == ("gap", 3)
        assert newest["d"]["n"] == 5


@pytest.mark.parametrize("gateway", [on_plan(messages_per_s=10, burst_s=1)], indirect=True)
async def test_connections_of_one_application_take_turns_replays_too(gateway):
    await gateway.orders(0, 600)
    async with (
        one_by_one(gateway) as send,
        gateway.subscribe("orders") as live,
        gateway.subscribe("orders", after="earliest") as replayed,
    ):
        for ws in (live, replayed):
            await receive(ws, 1)
        await send(1_000, 600, at_once=10)
        counts = {live: 0, replayed: 0}
        for _ in range(40):
            await gateway.pass_time(10, step_s=1)
            for ws in counts:
                with contextlib.suppress(TimeoutError):
                    while True:
                        message = json.loads(await asyncio.wait_for(ws.recv(), 0.01))
                        counts[ws] += "d" in message
            if min(counts.values()) >= 300:
                break
        assert abs(counts[live] - counts[replayed]) <= 210  # one turn: a flush, or a part of a replay
        assert min(counts.values()) >= 300
