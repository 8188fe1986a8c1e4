"""WebSockets into streams, in one process with the publish gateway and through its door: plans, tokens, endings."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from ingest_edge import HeldLog
from ingest_socket_edge import ended, replies
from publish.conftest import CLICKS, a_token
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from penstock.codecs.ndjson import decode_lines
from penstock.http.listener import HttpSettings, Listener
from penstock.ports.clock import SystemClock
from penstock.role import Ports
from penstock.stores.open import open_store
from penstock_ingest.service import build as build_ingest
from penstock_ingest.settings import IngestSettings
from penstock_publish.authority import Authority, open_authority
from penstock_publish.service import build as build_publish
from penstock_publish.settings import AuthSettings, PublishSettings


@dataclass
class System:
    url: str
    log: HeldLog
    authority: Authority
    stop_ingest: asyncio.Event
    stop_publish: asyncio.Event

    def token(self, scope: str = "ingest:write", client_id: str = "tester") -> str:
        return a_token(self.authority, scope, client_id=client_id)

    def socket(self, token: str | None = None, query: str = "", **options: Any) -> connect:
        """`token` empty: without the header."""
        token = self.token() if token is None else token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url = f"{self.url.replace('http', 'ws', 1)}/v1/streams/clicks/connect{query}"
        return connect(url, additional_headers=headers | options.pop("headers", {}), compression=None, **options)

    async def stored(self) -> list[Any]:
        batches = await self.log.read("clicks", 0, 0, 1 << 20)
        return [json.loads(line)["n"] for batch in batches for line in decode_lines(batch.payload).splitlines()]


@asynccontextmanager
async def running(
    folder: Path, arrangement: str, *, ingest: Any = None, publish: Any = None
) -> AsyncIterator[System]:
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        log = HeldLog(clock=clock)
        await log.put_app("shop", "-- shop", [replace(CLICKS, dedupe=("id",))], None)
        store = await asyncio.to_thread(open_store, f"sqlite:///{folder}", clock=clock)
        stack.push_async_callback(store.close)
        listener = Listener(HttpSettings(port=0, drain_s=1))
        stack.push_async_callback(listener.close)
        authority = await open_authority(folder, AuthSettings(), clock=clock, public_url=listener.url)
        stack.push_async_callback(authority.close)
        ports = Ports(log, store, clock, authority.access)
        taking = build_ingest(IngestSettings.model_validate(ingest or {}), ports)
        settings = PublishSettings.model_validate(publish or {})
        if arrangement == "one process":
            giving = build_publish(settings, ports, authority=authority, intake=taking.intake())
            routes = [*giving.routes(), *giving.guard(taking.routes())]
        else:
            other = Listener(HttpSettings(port=0, drain_s=1))
            stack.push_async_callback(other.close)
            await other.serve(taking.routes())
            giving = build_publish(settings, ports, authority=authority, elsewhere={"ingest": [other.url]})
            routes = [*giving.routes()]
        await listener.serve([*authority.routes(), *routes])
        stops = asyncio.Event(), asyncio.Event()
        tasks = [asyncio.create_task(role.run(stop)) for role, stop in zip((taking, giving), stops, strict=True)]
        await asyncio.sleep(0)
        try:
            yield System(listener.url, log, authority, *stops)
        finally:
            for stop in stops:
                stop.set()
            await asyncio.gather(*tasks)


@pytest.fixture(params=["one process", "through the door"])
def arrangement(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def click(number: int) -> str:
    return json.dumps({"id": f"c{number}", "n": number})


async def status_of(connection: connect) -> tuple[int, str]:
    with pytest.raises(InvalidStatus) as refusal:
        async with connection:
            pass
    return refusal.value.response.status_code, json.loads(refusal.value.response.body)["code"]


async def test_many_messages_are_under_way_and_answered_in_order(tmp_path: Path, arrangement: str):
    async with running(tmp_path, arrangement) as system, system.socket() as ws:
        for number in range(300):
            await ws.send(click(number))
        await ws.send("{")
        found = await replies(ws, 301)
        assert [(one["n"], one["accepted"]) for one in found[:300]] == [(n, 1) for n in range(1, 301)]
        assert (found[300]["n"], found[300]["code"]) == (301, "bad_json")
        assert await system.stored() == list(range(300))


async def test_a_session_of_the_page_comes_from_its_own_origin_only(tmp_path: Path, arrangement: str):
    async with running(tmp_path, arrangement) as system:
        cookie = {"Cookie": f"penstock_session={system.token()}"}
        for origin in (None, "https://evil.example"):
            refused = system.socket("", headers=cookie, origin=origin)
            assert await status_of(refused) == (403, "forbidden_origin")
        async with system.socket("", headers=cookie, origin=system.url) as ws:
            await ws.send(click(1))
            assert (await replies(ws, 1))[0]["accepted"] == 1


async def test_a_revoked_token_ends_its_socket_with_a_reason(tmp_path: Path, arrangement: str):
    async with running(tmp_path, arrangement) as system:
        token = system.token()
        async with system.socket(token) as ws:
            await ws.send(click(1))
            await replies(ws, 1)
            system.authority.revoked_now(await system.authority.access.verified(token))
            async with asyncio.timeout(1):
                assert await ended(ws) == (4401, {"code": "invalid_token", "retry_ms": None, "after": None})


async def test_a_drain_of_ingest_closes_with_a_hint_when_to_come_back(tmp_path: Path, arrangement: str):
    async with running(tmp_path, arrangement) as system, system.socket() as ws:
        await ws.send(click(1))
        await replies(ws, 1)
        system.stop_ingest.set()
        code, reason = await ended(ws)
        assert (code, reason["code"]) == (1001, "draining")
        assert 1000 <= reason["retry_ms"] <= 2000


async def test_who_closes_gets_the_replies_to_what_it_sent_before(tmp_path: Path, arrangement: str):
    async with running(tmp_path, arrangement) as system, system.socket() as ws:
        system.log.gate.clear()
        for number in range(3):
            await ws.send(click(number))
        closing = asyncio.create_task(ws.close())
        await system.log.until_waiting(1)
        system.log.gate.set()
        assert [one["accepted"] for one in await replies(ws, 3)] == [1, 1, 1]
        await closing
        assert ws.close_code == 1000


async def test_a_drain_of_the_door_passes_on_the_replies_to_what_it_read(tmp_path: Path):
    async with running(tmp_path, "through the door") as system, system.socket() as ws:
        system.log.gate.clear()
        for number in range(3):
            await ws.send(click(number))
        await system.log.until_waiting(1)
        system.stop_publish.set()
        await asyncio.sleep(0.05)
        system.log.gate.set()
        assert [one["accepted"] for one in await replies(ws, 3)] == [1, 1, 1]
        code, reason = await ended(ws)
        assert (code, reason["code"]) == (1001, "draining")


async def test_a_full_gateway_says_so_before_the_upgrade(tmp_path: Path, arrangement: str):
    async with running(tmp_path, arrangement, ingest={"socket": {"connections_max": 1}}) as system, system.socket():
        assert await status_of(system.socket()) == (429, "too_many_requests")


ONE = {"plans": {"own": {"tiny": {"connections": 1}}, "clients": {"tester": "tiny"}}}


async def test_a_plan_counts_sockets_into_streams_as_connections(tmp_path: Path, arrangement: str):
    async with running(tmp_path, arrangement, publish=ONE) as system:
        async with system.socket() as ws:
            assert await status_of(system.socket()) == (429, "quota_exceeded")
            async with system.socket(system.token(client_id="other")):  # has no plan
                pass
            await ws.send(click(1))
            assert (await replies(ws, 1))[0]["accepted"] == 1
        async with system.socket():
            pass


async def test_a_plan_counts_sockets_whose_token_comes_in_the_first_message(tmp_path: Path, arrangement: str):
    async with running(tmp_path, arrangement, publish=ONE) as system:
        async with system.socket("", "?auth=message") as ws:
            await ws.send(json.dumps({"auth": system.token()}))
            assert json.loads(await ws.recv())["sys"] == "auth"
            async with system.socket("", "?auth=message") as other:
                await other.send(json.dumps({"auth": system.token()}))
                code, reason = await ended(other)
                assert (code, reason["code"]) == (4429, "quota_exceeded")
            await ws.send(click(1))
            assert (await replies(ws, 1))[0]["accepted"] == 1
        async with system.socket("", "?auth=message") as ws:
            await ws.send(json.dumps({"auth": system.token()}))
            assert json.loads(await ws.recv())["sys"] == "auth"
