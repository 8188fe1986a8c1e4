"""Places for connections while upgrades wait: never more than the limits say, each given back, nothing taken."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from publish.conftest import SPECS, Gateway, close_of, events, loopback_socket, receive, serving, url_of
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from penstock.errors import PenstockError
from penstock.http.socket_life import Close
from penstock.logs.memory import MemoryLog
from penstock.role import Ports
from penstock.stores.open import open_store
from penstock_publish.authority import open_authority
from penstock_publish.service import build
from penstock_publish.settings import AuthSettings, PublishSettings
from penstock_publish.topics.limits import Seats


def test_a_seat_that_is_given_back_twice_makes_room_once():
    seats = Seats(2)
    first, second = seats.take(), seats.take()
    assert first is not None and second is not None
    assert seats.take() is None
    first.give_back()
    first.give_back()
    assert seats.taken == 1
    assert seats.take() is not None
    assert seats.take() is None


@pytest.mark.parametrize(
    ("code", "after_s", "close"),
    [
        ("topic_retired", None, Close(4404, "topic_retired")),
        ("too_many_requests", 5.0, Close(4429, "too_many_requests", 5_000)),
        ("store_unavailable", None, Close(4503, "store_unavailable", 1_000)),
        ("internal", None, Close(4503, "internal", 1_000)),
        ("insufficient_scope", None, Close(4403, "insufficient_scope")),
    ],
)
def test_an_error_after_the_upgrade_is_a_close_that_says_whether_to_come_back(code, after_s, close):
    assert Close.of(PenstockError(code, "why", retry_after_s=after_s)) == close


@asynccontextmanager
async def upgrades_wait(gateway: Gateway, monkeypatch) -> AsyncIterator[asyncio.Event]:
    """Whoever looks for the end of the log waits until the event is set."""
    head, go = gateway.log.head, asyncio.Event()

    async def slow_head(*asked):
        await go.wait()
        return await head(*asked)

    monkeypatch.setattr(gateway.log, "head", slow_head)
    try:
        yield go
    finally:
        go.set()


async def opened(gateway: Gateway, **query: str) -> ClientConnection | str:
    """A socket, or the code with which it was refused."""
    try:
        return await gateway.subscribe("orders", **query)
    except InvalidStatus as refused:
        return str(json.loads(refused.response.body)["code"])


async def said(ws: ClientConnection) -> str:
    """`open`, or the code with which the socket was closed."""
    try:
        return str((await receive(ws, 1))[0]["sys"])
    except Exception:
        return str((await close_of(ws))[1]["code"])


@pytest.mark.parametrize("gateway", [{"connections_max": 3}], indirect=True)
async def test_upgrades_that_wait_count_as_connections(gateway, monkeypatch):
    async with upgrades_wait(gateway, monkeypatch) as go:
        opening = [asyncio.create_task(opened(gateway)) for _ in range(8)]
        done, waiting = await asyncio.wait(opening, timeout=1)
        assert [task.result() for task in done] == ["too_many_requests"] * 5
        go.set()
        sockets = await asyncio.gather(*waiting)
    assert [await said(ws) for ws in sockets] == ["open"] * 3
    for ws in sockets:
        await ws.close()


@pytest.mark.parametrize("gateway", [{"connections_max": 2, "socket": {"auth_timeout_s": 5}}], indirect=True)
async def test_every_way_that_does_not_end_in_a_connection_gives_its_place_back(gateway, http, monkeypatch):
    url, bearer = f"{gateway.url}/v1/topics/orders", gateway.headers()
    ws_url = url.replace("http", "ws", 1)
    for _ in range(3):
        assert await opened(gateway, filter="nope = 1") == "bad_filter"
        assert await opened(gateway, after="garbled") == "bad_cursor"
        async with http.get(
            url, params={"filter": "nope = 1"}, headers={**bearer, "Accept": "text/event-stream"}
        ) as no:
            assert no.status == 400
        async with http.get(url, headers={**bearer, "Upgrade": "websocket"}) as no:
            assert no.status == 400, "no handshake"
        async with connect(f"{ws_url}?auth=message") as ws:
            await ws.send('{"auth":"nonsense"}')
            assert (await close_of(ws))[0] == 4401
        async with connect(f"{ws_url}?auth=message&after=garbled") as ws:
            await ws.send(json.dumps({"auth": gateway.token()}))
            assert (await close_of(ws))[0] == 4400
        async with connect(f"{ws_url}?auth=message") as ws:
            await gateway.pass_time(6)
            assert (await close_of(ws))[0] == 4408
        async with connect(f"{ws_url}?auth=message"):
            pass  # goes without a word
    async with upgrades_wait(gateway, monkeypatch):
        for _ in range(2):
            impatient = asyncio.create_task(opened(gateway))
            await asyncio.sleep(0.05)
            impatient.cancel()
            await asyncio.gather(impatient, return_exceptions=True)
    await asyncio.sleep(0.1)
    async with gateway.subscribe("orders") as one, connect(f"{ws_url}?auth=message") as two:
        await two.send(json.dumps({"auth": gateway.token()}))
        assert (await said(one), await said(two)) == ("open", "auth")
        assert await opened(gateway) == "too_many_requests"
    await asyncio.sleep(0.1)
    async with gateway.subscribe("orders") as one, gateway.subscribe("orders") as two:
        assert (await said(one), await said(two)) == ("open", "open")


@pytest.mark.parametrize(
    ("gateway", "setting"),
    [
        ({"subscribers_per_topic_max": 2}, "subscribers_per_topic_max"),
        ({"filters_per_topic_max": 2}, "filters_per_topic_max"),
    ],
    indirect=["gateway"],
)
async def test_a_topic_that_fills_up_meanwhile_closes_who_is_too_many(gateway, monkeypatch, setting):
    async with gateway.subscribe("orders") as first:  # the topic is there; it counts, too
        await receive(first, 1)
        async with upgrades_wait(gateway, monkeypatch) as go:
            filters = [{"filter": f"n > {n}"} if setting.startswith("filters") else {} for n in range(5)]
            opening = [asyncio.create_task(opened(gateway, **query)) for query in filters]
            await asyncio.sleep(0.2)
            go.set()
            sockets = await asyncio.gather(*opening)
        ends = sorted([ws if isinstance(ws, str) else await said(ws) for ws in sockets])
        room = 2 if setting.startswith("filters") else 1
        assert ends == ["open"] * room + ["too_many_requests"] * (5 - room)
        for ws in sockets:
            if not isinstance(ws, str):
                await ws.close()


async def test_a_topic_that_is_retired_meanwhile_is_not_opened(gateway, http, monkeypatch):
    url = f"{gateway.url}/v1/topics/orders/lifecycle"
    headers = gateway.headers("apps:admin *:read")
    async with upgrades_wait(gateway, monkeypatch) as go:
        opening = asyncio.create_task(opened(gateway))
        await asyncio.sleep(0.1)
        async with http.put(url, json={"state": "retired"}, headers=headers) as reply:
            assert reply.status == 200
        go.set()
        ws = await opening
    assert (await close_of(ws)) == (4404, {"code": "topic_retired", "retry_ms": None, "after": None})


async def test_who_is_refused_takes_no_durable_subscription_away(gateway, http, monkeypatch):
    async with gateway.subscribe("orders", durable="mine", after="latest") as holder:
        await receive(holder, 1)
        token = gateway.token()
        async with upgrades_wait(gateway, monkeypatch) as go:
            headers = {"Authorization": f"Bearer {token}"}
            opening = asyncio.ensure_future(
                gateway.subscribe("orders", headers=headers, durable="mine", after="latest").__aenter__()
            )
            await asyncio.sleep(0.1)
            gateway.authority.revoked_now(await gateway.authority.access.verified(token))
            go.set()
            late = await opening
        assert (await close_of(late))[0] == 4401
        async with http.get(f"{gateway.url}/v1/subscriptions", headers=gateway.headers()) as reply:
            assert len((await reply.json())["subscriptions"]) == 1  # read after whatever was being written
        await gateway.orders(0, 1)
        assert [event["d"]["n"] for event in await events(holder, 1)] == [0]


class SlowIntake:
    """Takes events when it is let."""

    needs_bearer = False

    def __init__(self) -> None:
        self.go = asyncio.Event()

    async def submit(self, stream, body, *, principal, bearer):
        await self.go.wait()
        return {"accepted": 1}


async def test_a_topic_that_ends_while_its_socket_does_is_let_go_of(tmp_path, clock, http):
    intake = SlowIntake()
    sock = loopback_socket()
    authority = await open_authority(tmp_path, AuthSettings(), clock=clock, public_url=url_of(sock))
    log = MemoryLog(clock=clock)
    store = await asyncio.to_thread(open_store, f"sqlite:///{tmp_path}", clock=clock)
    gateway = Gateway(tmp_path, authority, log=log, store=store, clock=clock)
    await log.put_app("shop", "-- shop", SPECS, None)
    role = build(PublishSettings(), Ports(log, store, clock, authority.access), authority=authority, intake=intake)
    running = asyncio.create_task(role.run(gateway.stop))
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(serving(sock, [*authority.routes(), *role.routes()]))
        scope = gateway.headers("*:read ingest:write apps:admin")
        async with gateway.subscribe("orders", headers=scope) as ws:
            await ws.send('{"id":1,"sub":"alerts"}\n{"id":2,"pub":"clicks","d":{}}')
            await receive(ws, 3)
        await asyncio.sleep(0.05)  # the close has come; the event that was sent before it waits for its place
        url = f"{gateway.url}/v1/topics/alerts/lifecycle"
        async with http.put(url, json={"state": "retired"}, headers=scope) as reply:
            assert reply.status == 200
        intake.go.set()
        for _ in range(200):
            tails = [task for task in asyncio.all_tasks() if task.get_name() in ("publish-orders", "publish-alerts")]
            if not tails:
                break
            await asyncio.sleep(0.02)
        assert tails == []
        gateway.stop.set()
        await running
    await authority.close()
    await store.close()
