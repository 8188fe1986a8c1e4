"""Endpoints of others behind the gateway: what passes, what does not, and what callers see when they misbehave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from publish.conftest import Gateway, a_token, loopback_socket, running_gateway, serving
from yarl import URL

from penstock.http.access import Principal
from penstock.http.revocation import EVERY_TOKEN, mark_of_client

SCOPE = "prices:read"


class Upstream:
    """Answers with what it saw; other paths do what they say."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.closed_with: int | None = None
        self.sent = 0
        self.closed = 0

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/base/silent", self._silent),
            web.get("/base/broken", self._broken),
            web.get("/base/long", self._long),
            web.get("/base/elsewhere", self._redirect),
            web.get("/base/ws", self._socket),
            web.get("/base/ws/elsewhere", self._redirect),
            web.get("/base/denied", self._denied),
            web.route("*", "/{rest:.*}", self._echo),
        ]

    def _note(self, request: web.Request) -> dict[str, Any]:
        seen = {"method": request.method, "path": request.raw_path, "headers": dict(request.headers)}
        self.seen.append(seen)
        return seen

    async def _echo(self, request: web.Request) -> web.Response:
        seen = {**self._note(request), "body": (await request.read()).decode(), "filler": "x" * 2_000}
        headers = {
            "ETag": '"7"', "Set-Cookie": "penstock_session=theirs", "Access-Control-Allow-Origin": "*", "X-Own": "1",
            "RateLimit": "theirs", "Connection": "keep-alive, X-Hop", "X-Hop": "1", "Clear-Site-Data": "*",
        }  # fmt: skip
        return web.json_response(seen, headers=headers)

    async def _silent(self, request: web.Request) -> web.Response:
        await asyncio.sleep(5)
        return web.Response()

    async def _broken(self, request: web.Request) -> web.StreamResponse:
        reply = web.StreamResponse(headers={"Content-Length": "1000"})
        await reply.prepare(request)
        await reply.write(b"half")
        await asyncio.sleep(0.05)
        assert request.transport is not None
        request.transport.abort()
        return reply

    async def _long(self, request: web.Request) -> web.StreamResponse:
        reply = web.StreamResponse()
        await reply.prepare(request)
        for _ in range(10):
            await reply.write(b"x" * 10_000)
        return reply

    async def _redirect(self, request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": "/base/stolen"})

    async def _denied(self, request: web.Request) -> web.Response:
        return web.Response(status=401, headers={"WWW-Authenticate": "Basic"})

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        self._note(request)
        socket = web.WebSocketResponse(protocols=["prices"])
        await socket.prepare(request)
        async for message in socket:
            if message.data == "die":
                assert request.transport is not None
                request.transport.abort()
            elif message.data == "flood":
                for _ in range(2_000):
                    await socket.send_bytes(b"x" * 50_000)
                    self.sent += 1
            elif message.data == "large":
                await socket.send_bytes(b"x" * 100_001)
            elif message.type is aiohttp.WSMsgType.TEXT:
                await socket.send_str(f"{message.data}!")
            else:
                await socket.send_bytes(message.data)
        self.closed_with = socket.close_code
        self.closed += 1
        return socket


@pytest.fixture
async def upstream() -> AsyncIterator[tuple[Upstream, str]]:
    made, sock = Upstream(), loopback_socket()
    async with serving(sock, made.routes()) as url:
        yield made, url


@pytest.fixture
async def fronted(upstream: tuple[Upstream, str], tmp_path: Path, clock: Any, monkeypatch) -> AsyncIterator[Gateway]:
    _, url = upstream
    (tmp_path / "key").write_text("from the file\n")
    monkeypatch.setenv("PRICES_TOKEN", "from-the-environment")
    limits = {"idle_timeout_s": 0.3, "body_max_bytes": 1_000, "reply_max_bytes": 50_000}
    rest = {"kind": "rest", "url": f"{url}/base", "scope": SCOPE, **limits}
    upstreams = [
        {**rest, "name": "prices", "methods": ["GET", "POST"], "headers": {"X-Plain": "p"},
         "secret_headers": {"X-Api-Key": {"file": str(tmp_path / "key")},
                            "Authorization": {"env": "PRICES_TOKEN", "prefix": "Bearer "}}},
        {**rest, "name": "trusted", "pass_token": True},
        {**rest, "name": "single", "requests_max": 1},
        {**rest, "name": "gone", "url": "http://127.0.0.1:1"},
        {"name": "ticks", "kind": "websocket", "url": f"{url.replace('http', 'ws')}/base/ws", "scope": SCOPE,
         "message_max_bytes": 100_000, "close_wait_s": 0.5, "secret_headers": {"X-Api-Key": {"env": "PRICES_TOKEN"}}},
    ]  # fmt: skip
    plans = {
        "own": {"two": {"queries_per_day": 2}, "few": {"messages_per_day": 3, "connections": 1}},
        "clients": {"counted": "two", "watched": "few"},
    }
    async with running_gateway(tmp_path, clock, upstreams=upstreams, plans=plans) as gateway:
        await asyncio.sleep(0.05)
        yield gateway


def bearer(gateway: Gateway, scope: str = SCOPE, client_id: str = "tester") -> dict[str, str]:
    return {"Authorization": f"Bearer {a_token(gateway.authority, scope, client_id=client_id)}"}


async def problem_of(reply: aiohttp.ClientResponse) -> tuple[int, str]:
    return reply.status, (await reply.json(content_type=None))["code"]


async def test_a_request_passes_with_the_headers_of_the_settings_and_without_the_callers_credentials(
    fronted, upstream, http
):
    url = URL(f"{fronted.url}/v1/upstreams/prices/a%20b/?q=%2F&r=1&r=2", encoded=True)
    sent = {
        **bearer(fronted), "X-Api-Key": "forged", "x_api_key": "forged", "Cookie": "a=b", "X-Other": "2",
        "X-Forwarded-For": "1.2.3.4", "Forwarded": "for=1.2.3.4", "Connection": "keep-alive, X-Mine", "X-Mine": "1",
        "TE": "trailers",
        "X-HTTP-Method-Override": "DELETE", "Origin": fronted.url, "Proxy-Authorization": "x", "X-Original-URL": "/x",
    }  # fmt: skip
    async with http.post(url, data=b"hello", headers=sent) as reply:
        assert reply.status == 200
        seen, fields = await reply.json(), reply.headers
    assert (seen["method"], seen["path"], seen["body"]) == ("POST", "/base/a%20b/?q=%2F&r=1&r=2", "hello")
    got = {name.lower(): value for name, value in seen["headers"].items()}
    assert (got["x-api-key"], got["x-plain"]) == ("from the file", "p")
    assert (got["authorization"], got["x-other"]) == ("Bearer from-the-environment", "2")
    ours = {"x_api_key", "cookie", "x-forwarded-for", "forwarded", "x-mine", "te", "x-http-method-override", "origin",
            "proxy-authorization", "x-original-url"}  # fmt: skip
    assert not ours & set(got)
    assert (
        fields["X-Own"] == "1"
        and fields["ETag"] in ('"7"', 'W/"7"')
        and "sandbox" in fields["Content-Security-Policy"]
    )
    assert not {"Set-Cookie", "Access-Control-Allow-Origin", "X-Hop", "RateLimit", "Clear-Site-Data"} & set(fields)


async def test_who_has_no_token_or_not_the_scope_or_another_method_does_not_pass(fronted, upstream, http):
    url = f"{fronted.url}/v1/upstreams/prices/x"
    for headers, expected in (
        ({}, (401, "unauthorized")),
        ({"Authorization": "Bearer x"}, (401, "invalid_token")),
        (bearer(fronted, "orders:read"), (403, "insufficient_scope")),
    ):
        async with http.get(url, headers=headers) as reply:
            assert await problem_of(reply) == expected
    async with http.delete(url, headers=bearer(fronted)) as reply:
        assert await problem_of(reply) == (405, "method_not_allowed")
        assert reply.headers["Allow"] == "GET, POST"
    async with http.get(f"{fronted.url}/v1/upstreams/others/x", headers=bearer(fronted)) as reply:
        assert await problem_of(reply) == (404, "not_found")
    assert not upstream[0].seen


async def test_the_callers_token_passes_only_where_the_settings_say_so(fronted, upstream, http):
    sent = bearer(fronted)
    async with http.get(f"{fronted.url}/v1/upstreams/trusted", headers=sent) as reply:
        assert (await reply.json())["headers"]["Authorization"] == sent["Authorization"]
    assert upstream[0].seen[0]["path"] == "/base"
    cookie = {"Cookie": f"penstock_session={fronted.token(SCOPE)}", "Origin": fronted.url}
    async with http.get(f"{fronted.url}/v1/upstreams/trusted", headers=cookie) as reply:
        assert "Authorization" not in (await reply.json())["headers"], "the session's is for this gateway alone"


async def raw(gateway: Gateway, request: str) -> tuple[int, bytes]:
    """Status and reply to bytes as they are."""
    url = URL(gateway.url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(request.replace("\n", "\r\n").encode())
    async with asyncio.timeout(5):
        reply = await reader.read()
    writer.close()
    return int(reply.split()[1]), reply


async def test_requests_written_to_be_read_in_two_ways_do_not_pass(fronted, upstream):
    token = bearer(fronted)["Authorization"]
    head = f"Host: x\nAuthorization: {token}\nConnection: close\n"
    smuggled = "0\n\nGET /base/stolen HTTP/1.1\nHost: x\n\n"
    target = "/v1/upstreams/prices/x"
    for request in (
        f"POST {target} HTTP/1.1\n{head}Content-Length: 6\nTransfer-Encoding: chunked\n\n{smuggled}",
        f"POST {target} HTTP/1.1\n{head}Content-Length: 3\nContent-Length: 6\n\n{smuggled}",
        f"POST {target} HTTP/1.1\n{head}Transfer-Encoding : chunked\n\n{smuggled}",
        f"GET http://127.0.0.1/{target} HTTP/1.1\n{head}\n",
        f"GET /v1/upstreams/%70rices/x HTTP/1.1\n{head}\n",
        f"GET {target}/%2e%2e/%2e%2e/stolen HTTP/1.1\n{head}\n",
    ):
        status, _ = await raw(fronted, request)
        assert 400 <= status < 500
    assert not [seen for seen in upstream[0].seen if "stolen" in seen["path"]]


async def test_slow_broken_long_absent_and_redirecting_upstreams_are_told_apart(fronted, upstream, http):
    url = f"{fronted.url}/v1/upstreams"
    for path in ("prices/silent", "prices/elsewhere", "prices/denied", "gone/x"):
        async with http.get(f"{url}/{path}", headers=bearer(fronted), allow_redirects=False) as reply:
            assert await problem_of(reply) == (503, "service_unavailable")
            assert "Location" not in reply.headers and "WWW-Authenticate" not in reply.headers
            assert "127.0.0.1" not in (await reply.text())
    for path in ("prices/broken", "prices/long"):
        async with http.get(f"{url}/{path}", headers=bearer(fronted)) as reply:
            assert reply.status == 200
            with pytest.raises(aiohttp.ClientPayloadError):
                await reply.read()
    assert not [seen for seen in upstream[0].seen if "stolen" in seen["path"]]


async def test_bodies_requests_at_once_and_plans_are_limited(fronted, http):
    url = f"{fronted.url}/v1/upstreams"
    async with http.post(f"{url}/prices/x", data=b"x" * 1_001, headers=bearer(fronted)) as reply:
        assert await problem_of(reply) == (413, "too_large")

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b"x" * 500

    async with http.post(f"{url}/prices/x", data=chunks(), headers=bearer(fronted)) as reply:
        assert await problem_of(reply) == (413, "too_large")
    first = asyncio.create_task(http.get(f"{url}/single/silent", headers=bearer(fronted)))
    await asyncio.sleep(0.1)
    async with http.get(f"{url}/single/x", headers=bearer(fronted)) as reply:
        assert await problem_of(reply) == (429, "too_many_requests")
    assert (await first).status == 503
    for status in (200, 200, 429):
        async with http.get(f"{url}/prices/x", headers=bearer(fronted, client_id="counted")) as reply:
            assert reply.status == status and "queries_per_day" in reply.headers["RateLimit"]


def socket_of(
    gateway: Gateway, http: aiohttp.ClientSession, path: str = "ticks", client_id: str = "tester", **more: Any
):
    headers = {**bearer(gateway, client_id=client_id), **more.pop("headers", {})}
    return http.ws_connect(f"{gateway.url}/v1/upstreams/{path}", headers=headers, **more)


async def test_messages_pass_both_ways_and_so_do_protocol_and_close(fronted, upstream, http):
    async with socket_of(fronted, http, "ticks?a=1", protocols=["penstock.v1", "prices"]) as socket:
        assert socket.protocol == "prices"
        await socket.send_str("hello")
        await socket.send_bytes(b"\x00\x01")
        assert (await socket.receive_str(), await socket.receive_bytes()) == ("hello!", b"\x00\x01")
        await socket.close(code=4001)
    async with asyncio.timeout(5):
        while upstream[0].closed_with is None:  # noqa: ASYNC110 # the server's side has no event
            await asyncio.sleep(0.01)
    assert upstream[0].closed_with == 4001
    [seen] = upstream[0].seen
    assert seen["path"] == "/base/ws?a=1" and seen["headers"]["X-Api-Key"] == "from-the-environment"
    assert "Authorization" not in seen["headers"] and "penstock" not in seen["headers"]["Sec-WebSocket-Protocol"]


async def test_a_ticket_opens_a_socket_and_does_not_reach_the_upstream(fronted, upstream, http):
    headers = bearer(fronted)
    async with http.post(f"{fronted.url}/v1/tickets", json={"topic": None}, headers=headers) as reply:
        ticket = (await reply.json())["ticket"]
    async with http.ws_connect(f"{fronted.url}/v1/upstreams/ticks?ticket={ticket}") as socket:
        await socket.send_str("x")
        assert await socket.receive_str() == "x!"
    assert upstream[0].seen[0]["path"] == "/base/ws"
    cookie = {"Cookie": f"penstock_session={fronted.token(SCOPE)}", "Origin": "https://evil.example"}
    with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
        await http.ws_connect(f"{fronted.url}/v1/upstreams/ticks", headers=cookie)
    assert refusal.value.status == 403


async def test_a_handshake_follows_no_redirect_and_needs_an_upgrade(fronted, upstream, http):
    with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
        await socket_of(fronted, http, "ticks/elsewhere")
    assert refusal.value.status == 503 and not upstream[0].seen
    async with http.get(f"{fronted.url}/v1/upstreams/ticks", headers=bearer(fronted)) as reply:
        assert await problem_of(reply) == (400, "bad_request")


async def test_a_socket_ends_with_its_token_or_its_revocation(fronted, http):
    async with socket_of(fronted, http) as socket:
        await fronted.pass_time(3_700, step_s=1_000)
        assert (await socket.receive(timeout=5)).data == 4401
    token = a_token(fronted.authority, SCOPE)
    principal = await fronted.authority.access.verified(token)
    async with socket_of(fronted, http, headers={"Authorization": f"Bearer {token}"}) as socket:
        await socket.send_str("x")
        assert await socket.receive_str() == "x!"
        fronted.authority.revoked_now(principal)
        assert (await socket.receive(timeout=5)).data == 4401


async def test_sockets_end_when_all_keys_are_replaced_at_once_and_with_their_client(fronted, http):
    async with socket_of(fronted, http) as old:
        await old.send_str("x")
        assert await old.receive_str() == "x!"
        for listener in fronted.authority._listeners:
            listener(EVERY_TOKEN)
        assert (await old.receive(timeout=5)).data == 4401
    async with socket_of(fronted, http) as new:
        await new.send_str("x")
        assert await new.receive_str() == "x!", "a token of after it is good"
        mark = mark_of_client("tester")
        fronted.authority.revoked_now(Principal("tester", "tester", frozenset(), 2e9, mark))
        assert (await new.receive(timeout=5)).data == 4401


async def test_who_does_not_read_is_cut_off_with_its_token_and_holds_up_nobody(fronted, upstream, http):
    tokens = [a_token(fronted.authority, SCOPE) for _ in range(2)]
    async with (
        socket_of(fronted, http, headers={"Authorization": f"Bearer {tokens[0]}"}) as stalled,
        socket_of(fronted, http, headers={"Authorization": f"Bearer {tokens[1]}"}) as other,
    ):
        await stalled.send_str("flood")
        before = -1
        async with asyncio.timeout(10):
            while upstream[0].sent != before or before <= 0:
                before = upstream[0].sent
                await asyncio.sleep(0.2)
        for token in tokens:
            fronted.authority.revoked_now(await fronted.authority.access.verified(token))
            await asyncio.sleep(0.05)
        assert (await other.receive(timeout=5)).data == 4401
        async with asyncio.timeout(5):
            while upstream[0].closed < 2:  # noqa: ASYNC110 # the server's side has no event
                await asyncio.sleep(0.01)


async def test_an_upstream_that_drops_or_says_too_much_closes_the_callers_side(fronted, http):
    for said, code in (("die", 4503), ("large", 1009)):
        async with socket_of(fronted, http) as socket:
            await socket.send_str(said)
            assert (await socket.receive(timeout=5)).data == code
    async with socket_of(fronted, http) as socket:
        await socket.send_str("x" * 100_001)
        assert (await socket.receive(timeout=5)).data == 1009


async def test_a_caller_that_does_not_read_slows_the_upstream(fronted, upstream, http):
    async with socket_of(fronted, http) as socket:
        await socket.send_str("flood")
        before = -1
        async with asyncio.timeout(10):
            while upstream[0].sent != before or before <= 0:
                before = upstream[0].sent
                await asyncio.sleep(0.3)
        assert before < 1_000, "100 MB would lie somewhere else"
        assert len(await socket.receive_bytes()) == 50_000


async def test_messages_and_connections_count_in_the_plan(fronted, http):
    async with socket_of(fronted, http, client_id="watched") as socket:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
            await socket_of(fronted, http, client_id="watched")
        assert refusal.value.status == 429
        for _ in range(3):
            await socket.send_str("x")
            assert await socket.receive_str() == "x!"
        closing = await socket.receive(timeout=5)
        assert closing.data == 4429 and json.loads(closing.extra or "{}")["code"] == "quota_exceeded"
