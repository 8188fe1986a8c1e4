"""Events sent on a WebSocket: in one process with the ingest gateway, and through the door to another one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from publish.conftest import CLICKS, a_token, events, receive
from websockets.asyncio.client import ClientConnection, connect

from penstock.codecs.ndjson import decode_lines
from penstock.errors import LogFull
from penstock.http.listener import HttpSettings, Listener
from penstock.logs.memory import MemoryLog
from penstock.ports.clock import SystemClock
from penstock.role import Ports, Role
from penstock.stores.open import open_store
from penstock_ingest.service import build as build_ingest
from penstock_ingest.settings import IngestSettings
from penstock_publish.authority import Authority, open_authority
from penstock_publish.service import build as build_publish
from penstock_publish.settings import AuthSettings, PublishSettings


class GatedLog(MemoryLog):
    """Appends wait while the gate is shut, and fail while the disk is full."""

    def __init__(self, clock: SystemClock) -> None:
        super().__init__(clock=clock)
        self.gate = asyncio.Event()
        self.gate.set()
        self.full = False

    async def append(self, *arguments: Any, **named: Any) -> Any:
        await self.gate.wait()
        if self.full:
            raise LogFull("no room")
        return await super().append(*arguments, **named)


@dataclass
class System:
    url: str
    log: GatedLog
    authority: Authority
    stop_ingest: Callable[[], Any]

    def socket(self, scope: str = "*:read ingest:write", *, query: str = "", headers: Any = None) -> connect:
        sent = {"Authorization": f"Bearer {a_token(self.authority, scope)}"} if headers is None else headers
        url = f"{self.url.replace('http', 'ws', 1)}/v1/topics{query}"
        return connect(url, additional_headers=sent, compression=None, max_queue=None)

    async def stored(self) -> list[Any]:
        """What is in the stream, in order."""
        batches = await self.log.read("clicks", 0, 0, 1 << 20)
        return [json.loads(line)["n"] for batch in batches for line in decode_lines(batch.payload).splitlines()]


@asynccontextmanager
async def running(folder: Path, arrangement: str, **socket: object) -> AsyncIterator[System]:
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        log = GatedLog(clock)
        await log.put_app("shop", "-- shop", [replace(CLICKS, dedupe=("id",))], None)
        store = await asyncio.to_thread(open_store, f"sqlite:///{folder}", clock=clock)
        stack.push_async_callback(store.close)
        listener = Listener(HttpSettings(port=0, drain_s=1))
        stack.push_async_callback(listener.close)
        authority = await open_authority(folder, AuthSettings(), clock=clock, public_url=listener.url)
        stack.push_async_callback(authority.close)
        ports = Ports(log, store, clock, authority.access)
        ingest = build_ingest(IngestSettings(), ports)
        settings = PublishSettings.model_validate({"socket": socket})
        if arrangement == "one process":
            publish = build_publish(settings, ports, authority=authority, intake=ingest.intake())
        else:
            other = Listener(HttpSettings(port=0, drain_s=1))
            stack.push_async_callback(other.close)
            await other.serve(ingest.routes())
            publish = build_publish(settings, ports, authority=authority, elsewhere={"ingest": [other.url]})
        await listener.serve([*authority.routes(), *publish.routes()])
        stops = {role.name: asyncio.Event() for role in (ingest, publish)}
        tasks = {role.name: asyncio.create_task(_run(role, stops[role.name])) for role in (ingest, publish)}

        async def stop_ingest() -> None:
            stops["ingest"].set()
            await tasks["ingest"]
            if arrangement != "one process":
                await other.close()

        try:
            yield System(listener.url, log, authority, stop_ingest)
        finally:
            log.gate.set()
            for stop in stops.values():
                stop.set()
            await asyncio.gather(*tasks.values())


async def _run(role: Role, stop: asyncio.Event) -> None:
    await role.run(stop)


@pytest.fixture(params=["one process", "through the door"])
def arrangement(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def system(tmp_path: Path, arrangement: str) -> AsyncIterator[System]:
    async with running(tmp_path, arrangement) as found:
        yield found


async def send(ws: ClientConnection, **line: object) -> None:
    await ws.send(json.dumps(line))


async def answer(ws: ClientConnection, **line: object) -> dict[str, Any]:
    await send(ws, **line)
    while True:
        [found] = await receive(ws, 1)
        if "ok" in found or "err" in found:
            return found


async def test_an_event_sent_on_a_socket_comes_out_at_its_topic(system: System) -> None:
    async with system.socket(query="/clicks") as ws:
        reply = await answer(ws, id=1, pub="clicks", d={"id": "a", "n": 1})
        assert {**reply, "positions": len(reply["positions"])} == {
            "id": 1, "ok": True, "accepted": 1, "duplicate": 0, "rejected": 0, "errors": [], "positions": 1,
        }  # fmt: skip
        reply = await answer(
            ws, id=2, pub="clicks", d=[{"id": "a", "n": 1}, {"id": "b", "n": 2}, {"id": "c", "n": "x"}]
        )
        assert (reply["accepted"], reply["duplicate"], reply["rejected"]) == (1, 1, 1)
        assert reply["errors"][0]["index"] == 2
    async with system.socket(query="/clicks?after=earliest") as ws:
        assert [event["d"]["n"] for event in await events(ws, 2)] == [1, 2]


async def test_what_is_sent_again_with_the_same_idem_is_stored_once(system: System) -> None:
    async with system.socket() as ws:
        assert (await answer(ws, id=1, pub="clicks", d={"n": 1}, idem="u1"))["accepted"] == 1
        assert (await answer(ws, id=2, pub="clicks", d={"n": 1}, idem="u1"))["duplicate"] == 1
        assert (await answer(ws, id=3, pub="nothing", d={"n": 1}, idem="u1"))["err"] == "unknown_stream"
        assert await system.stored() == [1]


async def test_the_reply_comes_when_the_event_is_durable_and_not_before(system: System) -> None:
    async with system.socket() as ws:
        system.log.gate.clear()
        await send(ws, id=1, pub="clicks", d={"id": "a", "n": 1})
        assert (await answer(ws, id=2, unsub="clicks"))["err"] == "unknown_topic"  # other lines go on
        assert await system.stored() == []
        system.log.gate.set()
        assert (await receive(ws, 1))[0]["id"] == 1
        assert await system.stored() == [1]


async def test_many_at_once_are_answered_in_their_order_and_stored_in_it(system: System) -> None:
    async with system.socket() as ws:
        for n in range(60):
            await send(ws, id=n, pub="clicks", d={"id": f"k{n}", "n": n})
        replies = await receive(ws, 60)
        assert [(reply["id"], reply["accepted"]) for reply in replies] == [(n, 1) for n in range(60)]
        assert await system.stored() == list(range(60))


@pytest.mark.parametrize(
    ("line", "code", "retry"),
    [
        ({"pub": "nothing", "d": {"id": "a"}}, "unknown_stream", False),
        ({"pub": "clicks", "d": {"id": "a", "n": "x"}}, "all_rejected", False),
        ({"pub": "clicks", "d": 5}, "bad_request", False),
        ({"pub": "clicks"}, "bad_request", False),
        ({"pub": "clicks", "d": {}, "colour": "red"}, "bad_request", False),
    ],
    ids=str,
)
async def test_what_is_not_accepted_is_said(system: System, line: dict[str, object], code: str, retry: bool) -> None:
    async with system.socket() as ws:
        refused = await answer(ws, id=9, **line)
        assert (refused["id"], refused["err"], refused["retry"]) == (9, code, retry)
        assert ("errors" in refused) == (code == "all_rejected")
        assert (await answer(ws, id=10, pub="clicks", d={"id": "a", "n": 1}))["accepted"] == 1


async def test_a_full_disk_is_a_reason_to_send_it_again(system: System) -> None:
    async with system.socket() as ws:
        system.log.full = True
        refused = await answer(ws, id=1, pub="clicks", d={"id": "a", "n": 1})
        assert (refused["err"], refused["retry"]) == ("log_full", True)
        assert refused["retry_ms"] > 0
        system.log.full = False
        assert (await answer(ws, id=2, pub="clicks", d={"id": "a", "n": 1}))["accepted"] == 1


async def test_without_the_scope_nothing_is_sent(system: System) -> None:
    async with system.socket("*:read data:read") as ws:
        assert (await answer(ws, id=1, pub="clicks", d={"id": "a"}))["err"] == "insufficient_scope"
        await answer(ws, id=2, auth=a_token(system.authority, "ingest:write"))
        assert (await answer(ws, id=3, pub="clicks", d={"id": "a", "n": 1}))["accepted"] == 1


async def test_a_token_in_the_first_message_sends_too(system: System) -> None:
    async with system.socket(query="?auth=message", headers={}) as ws:
        await send(ws, auth=a_token(system.authority, "ingest:write"))
        assert (await answer(ws, id=1, pub="clicks", d={"id": "a", "n": 1}))["accepted"] == 1


async def test_a_ticket_names_nobody_to_another_process(system: System, arrangement: str) -> None:
    headers = {"Authorization": f"Bearer {a_token(system.authority, '*:read ingest:write')}"}
    async with (
        aiohttp.ClientSession(system.url, headers=headers) as http,
        http.post("/v1/tickets", json={"topic": None}) as reply,
    ):
        ticket = (await reply.json())["ticket"]
    async with system.socket(query=f"?ticket={ticket}", headers={}) as ws:
        first = await answer(ws, id=1, pub="clicks", d={"id": "a", "n": 1})
        if arrangement == "one process":
            assert first["accepted"] == 1
        else:
            assert first["err"] == "unauthorized"
            await answer(ws, id=2, auth=a_token(system.authority, "ingest:write"))
            assert (await answer(ws, id=3, pub="clicks", d={"id": "a", "n": 1}))["accepted"] == 1


async def test_what_was_sent_before_the_socket_broke_is_accepted(system: System) -> None:
    system.log.gate.clear()
    async with system.socket() as ws:
        for n in range(5):
            await send(ws, pub="clicks", d={"id": f"k{n}", "n": n})
        assert (await answer(ws, id=1, unsub="clicks"))["err"] == "unknown_topic"
        ws.transport.abort()
    system.log.gate.set()
    for _ in range(250):
        if await system.stored() == list(range(5)):
            return
        await asyncio.sleep(0.02)
    pytest.fail("they were lost")


async def test_an_ingest_gateway_that_is_gone_is_a_reason_to_send_it_again(system: System, arrangement: str) -> None:
    async with system.socket() as ws:
        await system.stop_ingest()
        refused = await answer(ws, id=1, pub="clicks", d={"id": "a", "n": 1})
        assert refused["err"] == ("draining" if arrangement == "one process" else "service_unavailable")
        assert refused["retry"] is True


async def test_so_many_may_wait_for_their_reply_then_the_socket_is_not_read(tmp_path: Path, arrangement: str) -> None:
    async with running(tmp_path, arrangement, publishes_waiting_max=2) as system, system.socket() as ws:
        system.log.gate.clear()
        for n in range(6):
            await send(ws, id=n, pub="clicks", d={"id": f"k{n}", "n": n})
        await send(ws, id=6, unsub="clicks")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ws.recv(), 0.2)
        system.log.gate.set()
        found = [line["id"] for line in await receive(ws, 7)]
        assert sorted(found) == list(range(7))
        assert [n for n in found if n != 6] == list(range(6))
        assert await system.stored() == list(range(6))
