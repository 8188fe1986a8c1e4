"""A service with several replicas behind the door: who is asked next, and which requests are never sent twice."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from door_edge import DoorEdge, Service, open_door

from penstock_publish.settings import DoorSettings

SETTINGS = DoorSettings(body_kept_max_bytes=1000, idle_timeout_s=0.5, watch_s=30)  # so that requests find out
REPLAY = "/v1/rejected/replay"


@asynccontextmanager
async def two_replicas(folder: Path, refusal: str = "") -> AsyncIterator[tuple[DoorEdge, Service]]:
    """The door, and the replica that it asks first; the other one is the door's `service`."""
    first = Service(refusal)
    await first.start()
    try:
        async with open_door(folder, SETTINGS, first) as door:
            yield door, first
    finally:
        await first.stop()


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
async def test_where_nobody_listens_the_next_replica_is_asked_whatever_the_method(tmp_path: Path, method: str):
    async with two_replicas(tmp_path) as (door, first):
        async with door.http.get("/v1/apps") as reply:
            assert reply.status == 201
        assert len(first.seen) == 1
        await first.stop()
        body = None if method == "GET" else b"x" * 5000
        async with door.http.request(method, "/v1/apps/a", data=body) as reply:
            assert reply.status == 201
            assert len((await reply.json())["body"]) == len(body or b"")
        await first.start()
        async with door.http.get("/v1/apps") as reply:
            assert reply.status == 201
        assert len(door.service.seen) == 2, "who answered last is asked first"


@pytest.mark.parametrize("code", ["not_ready", "draining"])
async def test_a_request_that_a_replica_did_not_begin_goes_to_the_next_one(tmp_path: Path, code: str):
    async with two_replicas(tmp_path, code) as (door, first):
        for method, path in (("GET", "/v1/apps"), ("PUT", "/v1/apps/a"), ("POST", REPLAY)):
            first.refusal, door.service.refusal = code, ""
            async with door.http.request(method, path, data=None if method == "GET" else b"text") as reply:
                assert reply.status == 201
                assert (await reply.json())["body"] == ("" if method == "GET" else "text")
            first.refusal, door.service.refusal = "", code  # now the other one is asked first
            async with door.http.request(method, path, data=None if method == "GET" else b"back") as reply:
                assert reply.status == 201
        assert [one["path"] for one in first.seen] == [one["path"] for one in door.service.seen]
        assert len(first.seen) == 6


async def test_what_may_have_had_an_effect_or_cannot_be_sent_again_is_answered_with_the_refusal(tmp_path: Path):
    async with two_replicas(tmp_path, "not_ready") as (door, first):
        for method, path, size_bytes in (("POST", "/v1/streams/s/events", 10), ("PUT", "/v1/apps/a", 5000)):
            async with door.http.request(method, path, data=b"x" * size_bytes) as reply:
                assert (reply.status, (await reply.json())["code"]) == (503, "not_ready")
                assert reply.headers["Retry-After"] == "1"
        first.refusal = "log_full"
        async with door.http.get("/v1/apps") as reply:
            assert (reply.status, (await reply.json())["code"]) == (503, "log_full")
    assert not door.service.seen


async def test_a_request_without_a_reply_is_repeated_only_if_it_changes_nothing(tmp_path: Path):
    async with two_replicas(tmp_path) as (door, first):
        first.hangs_up = True
        async with door.http.post(REPLAY, data=b"x") as reply:
            assert (reply.status, (await reply.json(content_type=None))["code"]) == (503, "service_unavailable")
        assert not door.service.seen
        async with door.http.get("/v1/apps") as reply:
            assert reply.status == 201
        assert len(door.service.seen) == 1


async def test_a_websocket_goes_to_the_replica_that_listens(tmp_path: Path):
    async with two_replicas(tmp_path) as (door, first):
        await first.stop()
        async with door.http.ws_connect("/v1/streams/s/connect") as socket:
            await socket.send_str("one")
            assert await socket.receive_str(timeout=5) == "None: one"
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await door.http.ws_connect("/v1/streams/s/connect?refuse=401")
        assert refused.value.status == 401
        await first.start()
