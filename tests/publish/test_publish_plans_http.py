"""Plans on requests: what replies say of limits and what is refused, the same here and beyond the door."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import aiohttp
import pytest
from aiohttp import web
from publish.conftest import a_token, loopback_socket, running_gateway, serving, url_of
from publish.plans_rig import on_plan

from penstock.http.problem import guarded
from penstock.logs.memory import MemoryLog
from penstock.role import Ports
from penstock.stores.open import open_store
from penstock_publish.authority import Authority, open_authority
from penstock_publish.service import build
from penstock_publish.settings import AuthSettings, PublishSettings

ROWS = b"[" + b"1," * 500 + b"1]"


async def _rows(request: web.Request) -> web.Response:
    return web.Response(body=ROWS, content_type="application/json")


class Edge:
    """A gateway with a data service, and how its clients ask."""

    def __init__(self, authority: Authority, http: aiohttp.ClientSession) -> None:
        self._authority, self._http = authority, http
        self.log_in()

    def log_in(self) -> None:
        self._headers = {"Authorization": f"Bearer {a_token(self._authority, 'data:read *:read')}"}

    async def get(self, path: str, **headers: str) -> tuple[int, aiohttp.ClientResponse, object]:
        async with self._http.get(self._authority.public_url + path, headers={**self._headers, **headers}) as reply:
            body = await reply.json(content_type=None)
            return reply.status, reply, body


@pytest.fixture(params=["in one process", "behind the door"])
async def edges(request, tmp_path, clock, http) -> AsyncIterator[object]:
    """`await edges(limits)`: an edge whose data service is in its own process, or in another one."""
    async with AsyncExitStack() as stack:

        async def open_edge(**limits: object) -> Edge:
            data_routes = [web.get("/v1/data/{relation}", guarded(_rows))]
            sock = loopback_socket()
            authority = await open_authority(tmp_path, AuthSettings(), clock=clock, public_url=url_of(sock))
            stack.push_async_callback(authority.close)
            store = await asyncio.to_thread(open_store, f"sqlite:///{tmp_path}", clock=clock)
            stack.push_async_callback(store.close)
            ports = Ports(MemoryLog(clock=clock), store, clock, authority.access)
            elsewhere = {}
            if request.param == "behind the door":
                elsewhere["data"] = [await stack.enter_async_context(serving(loopback_socket(), data_routes))]
            settings = PublishSettings.model_validate(on_plan(**limits))
            role = build(settings, ports, authority=authority, elsewhere=elsewhere)
            stop = asyncio.Event()
            running = asyncio.create_task(role.run(stop))
            routes = [*authority.routes(), *role.routes(), *([] if elsewhere else role.guard(data_routes))]
            await stack.enter_async_context(serving(sock, routes))

            async def end() -> None:
                stop.set()
                await clock.advance(1)
                await running

            stack.push_async_callback(end)
            if elsewhere:
                async with asyncio.timeout(5):
                    while not all(check.ok for check in role.ready()):
                        await clock.advance(0.1)
                        await asyncio.sleep(0.01)
            return Edge(authority, http)

        yield open_edge


async def test_good_replies_say_what_is_left_and_refusals_when_to_come_back(edges, clock):
    edge = await edges(queries_per_s=1, queries_per_day=10, burst_s=3)
    for left in (2, 1, 0):
        status, reply, _ = await edge.get("/v1/data/x")
        assert status == 200
        assert reply.headers["RateLimit-Policy"] == '"queries_per_s";q=3;w=3, "queries_per_day";q=10;w=86400'
        assert reply.headers["RateLimit"].startswith(f'"queries_per_s";r={left};t={3 - left}, "queries_per_day";r=')
    status, reply, problem = await edge.get("/v1/data/x")
    assert (status, reply.headers["Retry-After"]) == (429, "1")
    assert reply.headers["RateLimit"].startswith('"queries_per_s";r=0;t=1, "queries_per_day";r=7;')
    assert problem["code"] == "quota_exceeded"
    assert problem["violated-policies"] == ["queries_per_s"]
    assert "'tiny'" in problem["detail"]
    await clock.advance(1)
    assert (await edge.get("/v1/data/x"))[0] == 200


async def test_a_days_quota_of_requests_ends_at_midnight(edges, clock):
    edge = await edges(queries_per_day=2)
    assert [(await edge.get("/v1/data/x"))[0] for _ in range(3)] == [200, 200, 429]
    rest_of_day_s = 86_400 - clock.now_ms() / 1000 % 86_400
    _, reply, problem = await edge.get("/v1/topics")
    assert problem["limit"] == "queries_per_day"
    assert int(reply.headers["Retry-After"]) == pytest.approx(rest_of_day_s, abs=1.5)
    assert f"t={reply.headers['Retry-After']}" in reply.headers["RateLimit"]
    clock.jump(rest_of_day_s)
    edge.log_in()
    assert (await edge.get("/v1/data/x"))[0] == 200


async def test_bytes_of_replies_count_and_are_paid_off_by_waiting(edges, clock):
    edge = await edges(bytes_per_s=1_000, burst_s=1)
    assert (await edge.get("/v1/data/x"))[0] == 200
    status, reply, problem = await edge.get("/v1/data/x")
    assert (status, problem["limit"], reply.headers["Retry-After"]) == (429, "bytes_per_s", "1")
    assert (await edge.get("/v1/topics"))[0] == 200  # it delivers nothing
    await clock.advance(0.1)
    assert (await edge.get("/v1/data/x"))[0] == 200


async def test_events_of_a_page_count_as_those_of_a_socket_do(tmp_path, clock, http):
    async with running_gateway(tmp_path, clock, **on_plan(messages_per_s=10, burst_s=1)) as gateway:
        await gateway.orders(0, 30)
        url = f"{gateway.url}/v1/topics/orders?after=earliest&limit=15"
        async with http.get(url, headers=gateway.headers()) as page:
            assert (page.status, len((await page.json())["events"])) == (200, 15)
            assert page.headers["RateLimit"] == '"messages_per_s";r=10;t=0'
        async with http.get(url, headers=gateway.headers()) as page:
            assert (page.status, (await page.json(content_type=None))["limit"]) == (429, "messages_per_s")
        await gateway.clock.advance(0.5)
        async with http.get(url, headers=gateway.headers()) as page:
            assert page.status == 200


async def test_callers_without_a_plan_see_nothing_of_plans(tmp_path, clock, http):
    async with running_gateway(tmp_path, clock) as gateway:
        for path in ("/v1/topics", "/v1/topics/orders"):
            async with http.get(gateway.url + path, headers=gateway.headers()) as reply:
                assert reply.status == 200
                assert not [name for name in reply.headers if name.lower().startswith("ratelimit")]
        async with http.get(f"{gateway.url}/v1/topics") as reply:
            assert reply.status == 401


async def test_headers_of_live_connections_make_no_other_request_free(edges):
    edge = await edges(queries_per_day=2)
    assert (await edge.get("/v1/data/x", Accept="text/event-stream"))[0] == 200
    assert (await edge.get("/v1/topics", Accept="text/event-stream"))[0] == 200
    for path in ("/v1/data/x", "/v1/topics", "/v1/topics/orders"):
        for headers in ({"Accept": "application/json, text/event-stream"}, {"Upgrade": "h2c"}):
            assert (await edge.get(path, **headers))[0] == 429
