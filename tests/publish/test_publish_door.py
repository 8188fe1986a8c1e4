"""The public door: what passes, what does not, and what callers see when the service behind it is slow or gone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from door_edge import DoorEdge, open_door
from multidict import CIMultiDict
from yarl import URL

from penstock_publish.door.headers import headers_back, headers_on
from penstock_publish.settings import DoorSettings

QUICK = DoorSettings(body_max_bytes=100_000, message_max_bytes=10_000, idle_timeout_s=0.5, watch_s=0.05)


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[DoorEdge]:
    async with open_door(tmp_path, QUICK) as edge:
        yield edge


def test_headers_of_the_connection_stay_and_those_of_the_message_pass():
    came = CIMultiDict(
        {"Host": "door", "Connection": "keep-alive, X-Mine", "X-Mine": "1", "Transfer-Encoding": "chunked", "TE": "x",
         "Upgrade": "h2c", "Cookie": "penstock_session=secret", "Origin": "http://door", "Expect": "100-continue",
         "Authorization": "Bearer t", "traceparent": "00-1-2-01", "If-Match": '"3"', "Content-Encoding": "gzip"}
    )  # fmt: skip
    assert dict(headers_on(came, bearer=None)) == {
        "Authorization": "Bearer t", "traceparent": "00-1-2-01", "If-Match": '"3"', "Content-Encoding": "gzip"
    }  # fmt: skip
    assert headers_on({}, bearer="of the cookie")["Authorization"] == "Bearer of the cookie"
    back = headers_back(CIMultiDict({"ETag": '"1"', "Set-Cookie": "a=b", "Server": "x", "Connection": "close"}))
    assert dict(back) == {"ETag": '"1"'}


async def test_a_request_passes_with_method_path_query_body_and_token(door: DoorEdge):
    async with door.http.put(
        URL(f"{door.url}/v1/streams/a%20b/x?q=%2F&r=1", encoded=True),
        data=b"hello",
        headers={"Authorization": "Bearer t", "traceparent": "00-a-b-01"},
    ) as reply:
        assert reply.status == 201
        assert reply.headers["ETag"] == '"7"'
        seen = await reply.json()
    assert seen["method"] == "PUT" and seen["path"] == "/v1/streams/a%20b/x?q=%2F&r=1" and seen["body"] == "hello"
    assert seen["headers"]["Authorization"] == "Bearer t" and seen["headers"]["traceparent"] == "00-a-b-01"
    assert "Cookie" not in seen["headers"]


async def test_a_page_session_becomes_a_token_for_requests_of_our_own_origin_only(door: DoorEdge):
    token = door.token("ingest:write")
    cookie = {"Cookie": f"penstock_session={token}"}
    async with door.http.post("/v1/streams/s/events", data=b"{}", headers={**cookie, "Origin": door.url}) as reply:
        assert (await reply.json())["headers"]["Authorization"] == f"Bearer {token}"
    async with door.http.post(
        "/v1/streams/s/events", data=b"{}", headers={**cookie, "Origin": "http://evil.example"}
    ) as reply:
        assert (reply.status, (await reply.json(content_type=None))["code"]) == (403, "forbidden_origin")
    async with door.http.post(
        "/v1/streams/s/events", data=b"{}", headers={"Cookie": "penstock_session=forged", "Origin": door.url}
    ) as reply:
        assert reply.status == 401
    assert len(door.service.seen) == 1


async def test_bodies_are_bounded_whether_their_length_is_announced_or_not(door: DoorEdge):
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 10_000

    for body in (b"x" * 100_001, chunks()):
        async with door.http.post("/v1/streams/s/events", data=body) as reply:
            assert (reply.status, (await reply.json(content_type=None))["code"]) == (413, "too_large")
    async with door.http.post("/v1/streams/s/events", data=b"x" * 100_000) as reply:
        assert len((await reply.json())["body"]) == 100_000


async def test_a_path_with_dots_goes_nowhere(door: DoorEdge):
    for path in ("/v1/streams/../../internal/replays", "/v1/streams/%2e%2e/%2E%2e/internal/replays"):
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: door\r\n\r\n".encode())
        assert b" 400 " in await reader.readline()
        writer.close()
        await writer.wait_closed()
    assert not door.service.seen


async def test_a_service_that_is_away_slow_or_breaks_off_is_told_apart(door: DoorEdge):
    async with door.http.get("/v1/streams/silent") as reply:
        problem = await reply.json(content_type=None)
        assert (reply.status, problem["code"], problem["service"]) == (503, "service_unavailable", "ingest")
        assert int(reply.headers["Retry-After"]) >= 1
    async with door.http.get("/v1/streams/broken") as reply:
        assert reply.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            await reply.read()
    await door.service.stop()
    async with door.http.get("/v1/streams") as reply:
        assert (await reply.json(content_type=None))["service"] == "ingest"
        assert reply.status == 503
    await door.service.start()
    async with door.http.get("/v1/streams") as reply:
        assert reply.status == 201


async def test_a_reply_is_passed_on_while_it_is_being_made_and_a_slow_reader_slows_the_service(door: DoorEdge):
    async with door.http.get("/v1/streams/trickle") as reply:
        assert await reply.content.readexactly(5) == b"first"
        door.service.go_on.set()
        assert await reply.content.read() == b"second"
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port, limit=1024)
    writer.write(b"GET /v1/streams/endless HTTP/1.1\r\nHost: door\r\n\r\n")
    await reader.readline()
    await asyncio.sleep(0.3)
    written = door.service.written_bytes
    await asyncio.sleep(0.1)
    assert door.service.written_bytes == written < 64 * 1024 * 1024, "nobody reads, so nothing more is written"
    writer.transport.abort()


async def test_a_websocket_passes_both_ways_with_its_close(door: DoorEdge):
    async with door.http.ws_connect("/v1/streams/s/connect", headers={"Authorization": "Bearer t"}) as socket:
        await socket.send_str("one")
        await socket.send_bytes(b"two")
        assert await socket.receive_str(timeout=5) == "Bearer t: one"
        assert await socket.receive_bytes(timeout=5) == b"two"
        await socket.send_str("close 4400")
        message = await socket.receive(timeout=5)
        assert message.type is aiohttp.WSMsgType.CLOSE and socket.close_code == 4400


async def test_a_refused_websocket_is_an_http_reply_and_one_whose_service_dies_is_closed(door: DoorEdge):
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await door.http.ws_connect("/v1/streams/s/connect?refuse=401")
    assert refused.value.status == 401 and refused.value.headers is not None
    assert refused.value.headers["WWW-Authenticate"].startswith("Bearer")
    async with door.http.ws_connect("/v1/streams/s/connect") as socket:
        await socket.send_str("die")
        message = await socket.receive(timeout=5)
        assert message.type is aiohttp.WSMsgType.CLOSE and socket.close_code == 4503
        assert json.loads(str(message.extra))["code"] == "service_unavailable"


async def test_at_stop_requests_under_way_finish_new_ones_are_refused_and_sockets_get_1001(door: DoorEdge):
    async with (
        door.http.ws_connect("/v1/streams/s/connect") as socket,
        door.http.get("/v1/streams/trickle") as reply,
    ):
        assert await reply.content.readexactly(5) == b"first"
        door.stop.set()
        message = await socket.receive(timeout=5)
        assert message.type is aiohttp.WSMsgType.CLOSE and socket.close_code == 1001
        assert json.loads(str(message.extra))["retry_ms"] >= 1000
        async with door.http.get("/v1/streams") as late:
            assert (late.status, (await late.json(content_type=None))["code"]) == (503, "draining")
        assert not door.running.done()
        door.service.go_on.set()
        assert await reply.content.read() == b"second"
    await asyncio.wait_for(door.running, 5)


async def test_ready_once_the_service_has_answered_and_its_later_absence_is_told(door: DoorEdge):
    async def until(ok: bool, word: str) -> None:
        for _ in range(200):
            check = door.door.ready()[0]
            if check.ok is ok and word in check.detail:
                return
            await asyncio.sleep(0.02)
        raise AssertionError(door.door.ready())

    await until(True, "answers at")
    await door.service.stop()
    await until(True, "no answer from")
    await door.service.start()
    await until(True, "answers at")
