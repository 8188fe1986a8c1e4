"""Batches by WebSocket: one message a batch, one reply a message, bounded, in order, as long as the token lives."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import aiohttp
import pytest
from ingest_edge import ARRIVALS, until
from ingest_socket_edge import SocketEdge, ended, event, notice, replies, running_edge
from prometheus_client import REGISTRY
from websockets.asyncio.client import connect
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus

from penstock.errors import LogFull


@pytest.fixture
async def edge() -> AsyncIterator[SocketEdge]:
    async with running_edge() as found:
        yield found


def text(*numbers: int) -> str:
    return "\n".join(json.dumps(event(number)) for number in numbers)


async def refused(connection: connect) -> tuple[int, str, Headers]:
    with pytest.raises(InvalidStatus) as refusal:
        async with connection:
            pass
    response = refusal.value.response
    return response.status_code, json.loads(response.body)["code"], response.headers


async def refused_or_not(connection: connect) -> int:
    """The status, after a while in which others come."""
    try:
        async with connection:
            await asyncio.sleep(0.2)
            return 101
    except InvalidStatus as refusal:
        return refusal.response.status_code


# -------------------------------------------------------------------- batches and replies


async def test_an_object_an_array_and_lines_are_each_a_batch_with_the_reply_of_a_post(edge: SocketEdge):
    async with edge.socket() as ws:
        for message in (text(1), json.dumps([event(2), event(3)]), text(4, 5), text(6).encode(), text(1)):
            await ws.send(message)
        found = await replies(ws, 5)
    assert [(one["n"], one["accepted"], one["duplicate"], one["rejected"]) for one in found] == [
        (1, 1, 0, 0), (2, 2, 0, 0), (3, 2, 0, 0), (4, 1, 0, 0), (5, 0, 1, 0)
    ]  # fmt: skip
    assert found[0].keys() == {"n", "accepted", "duplicate", "rejected", "errors", "positions"}
    assert [len(one["positions"]) for one in found] == [1, 1, 1, 1, 0]
    assert await edge.stored() == ["e1", "e2", "e3", "e4", "e5", "e6"]


async def test_what_is_no_batch_is_answered_as_a_problem_and_the_socket_stays(edge: SocketEdge):
    async with edge.socket() as ws:
        for message in ("{", "", "[1", b"\xff\xfe", json.dumps(event(1, price="much")), text(2)):
            await ws.send(message)
        await ws.send(json.dumps([event(3), event(4, lots="x")]))
        found = await replies(ws, 7)
    assert [one["n"] for one in found] == [1, 2, 3, 4, 5, 6, 7]
    problems = [(one.get("code"), one.get("status"), one.get("type")) for one in found[:5]]
    assert problems[2] == ("bad_json", 400, "/errors/bad_json")
    assert problems[4] == ("all_rejected", 422, "/errors/all_rejected")
    assert all(code in ("bad_json", "all_rejected") for code, _, _ in problems)
    assert found[4]["errors"][0]["code"] == "wrong_type"
    assert found[5]["accepted"] == 1
    assert (found[6]["accepted"], found[6]["rejected"], found[6]["errors"][0]["index"]) == (1, 1, 1)
    assert await edge.stored() == ["e2", "e3"]


async def test_a_message_in_fragments_is_one_batch_and_one_that_is_too_long_is_refused_by_a_line():
    async with running_edge(socket={"message_max_bytes": 1024}) as edge, edge.socket() as ws:
        whole = text(1, 2)
        await ws.send([whole[:7], whole[7:90], whole[90:]])
        await ws.send(json.dumps([event(3, market="m" * 1100)]))
        await ws.send(text(4))
        found = await replies(ws, 3)
        assert [one.get("accepted") for one in found] == [2, None, 1]
        assert (found[1]["n"], found[1]["code"], found[1]["status"]) == (2, "too_large", 413)
        await ws.send("x" * 3000)
        assert (await ended(ws))[0] == 1009
        assert await edge.stored() == ["e1", "e2", "e4"]


async def test_a_socket_that_anybody_can_open_reads_short_messages_only(edge: SocketEdge):
    async with edge.socket("?auth=message", token="") as ws:
        await ws.send("x" * 140_000)
        assert (await ended(ws))[0] == 1009
    async with edge.socket("?auth=message", token="") as ws:
        await ws.send(json.dumps({"auth": edge.token()}))
        await ws.send(json.dumps([event(3, market="m" * 70_000)]))
        await ws.send(text(4))
        assert [one.get("code", one.get("accepted")) for one in await replies(ws, 2)] == ["too_large", 1]


async def test_who_reads_no_replies_does_not_hold_up_a_drain():
    async with running_edge(socket={"answer_wait_s": 0.05, "close_wait_s": 0.05}) as edge:
        _, writer = await _silent(edge)
        frame = b"\x82\xfe" + (200).to_bytes(2, "big") + b"\0\0\0\0" + b"[".ljust(200)
        while next(iter(edge.role._sockets._sessions))._sending is False:
            writer.write(frame * 500)
            await asyncio.sleep(0.002)
        edge.stop.set()
        async with asyncio.timeout(5):
            await edge.running
        writer.transport.abort()


async def test_single_events_that_wait_share_an_append_and_batches_keep_their_place_between_them(edge: SocketEdge):
    edge.log.gate.clear()
    async with edge.socket() as ws:
        await ws.send(text(0))
        await edge.log.until_waiting(1)
        for number in range(1, 40):
            await ws.send(text(number) if number % 10 else json.dumps([event(number), event(number + 100)]))
        edge.log.gate.set()
        found = await replies(ws, 40)
    assert [one["n"] for one in found] == list(range(1, 41))
    wanted = [[f"e{n}"] if n % 10 or not n else [f"e{n}", f"e{n + 100}"] for n in range(40)]
    assert await edge.stored() == [one for batch in wanted for one in batch]
    batches = await edge.log.read("arrivals", 0, 0, 1 << 30)
    assert len(batches) <= 9


async def test_a_full_disk_is_said_with_when_to_come_back_and_sending_again_stores_once(edge: SocketEdge):
    async with edge.socket() as ws:
        edge.log.fail_before = LogFull("no room")
        await ws.send(text(1))
        [refusal] = await replies(ws, 1)
        assert (refusal["code"], refusal["status"], refusal["retry_ms"]) == ("log_full", 503, 5000)
        await ws.send(text(1))
        await ws.send(text(1))
        assert [(one["n"], one["accepted"]) for one in await replies(ws, 2)] == [(2, 1), (3, 0)]
    assert await edge.stored() == ["e1"]


# -------------------------------------------------------------------- bounds


async def test_who_sends_too_fast_is_not_read_and_loses_nothing():
    async with running_edge(socket={"in_flight_max": 4}) as edge:
        edge.log.gate.clear()
        async with edge.socket() as ws:
            for number in range(400):
                await ws.send(text(number))
            await edge.log.until_waiting(1)
            await asyncio.sleep(0.05)
            session = next(iter(edge.role._sockets._sessions))
            assert session._read_count == 4
            edge.log.gate.set()
            found = await replies(ws, 400)
        assert [one["accepted"] for one in found] == [1] * 400
        assert await edge.stored() == [f"e{number}" for number in range(400)]


async def test_bytes_of_all_sockets_together_are_bounded_and_given_back():
    async with running_edge(in_flight_max_bytes=1024, gather_event_max_bytes=0) as edge:
        in_flight = edge.role._http._in_flight
        edge.log.gate.clear()
        async with edge.socket() as one, edge.socket() as other:
            for number in range(20):
                await one.send(text(number))
                await other.send(text(100 + number))
            await until(lambda: in_flight.size_bytes > 900)
            await asyncio.sleep(0.02)
            assert in_flight.size_bytes <= 1024
            edge.log.gate.set()
            await asyncio.gather(replies(one, 20), replies(other, 20))
        assert in_flight.size_bytes == 0
        assert len(await edge.stored()) == 40


async def test_there_are_so_many_sockets_and_no_more():
    async with running_edge(socket={"connections_max": 1, "unauthenticated_max": 0}) as edge:
        assert (await refused(edge.socket("?auth=message", token="")))[:2] == (429, "too_many_requests")
        async with edge.socket():
            status, code, headers = await refused(edge.socket())
            assert (status, code, headers["Retry-After"]) == (429, "too_many_requests", "1")
            assert REGISTRY.get_sample_value("penstock_ingest_sockets") == 1
        found = await asyncio.gather(*(refused_or_not(edge.socket()) for _ in range(8)))
        assert sorted(found) == [101, *[429] * 7]


# -------------------------------------------------------------------- who may come in


@pytest.mark.parametrize(
    ("query", "stream", "claims", "expected"),
    [
        ("", "arrivals", {"scope": "arrivals:read"}, (403, "insufficient_scope")),
        ("", "arrivals", {"exp": 1}, (401, "invalid_token")),
        ("", "nothing", {}, (404, "unknown_stream")),
        ("?access_token=x", "arrivals", {}, (400, "bad_request")),
        ("?ticket=x", "arrivals", {}, (400, "bad_request")),
    ],
)
async def test_what_is_wrong_is_said_before_the_upgrade(edge: SocketEdge, query, stream, claims, expected):
    token = edge.token(**claims)
    assert (await refused(edge.socket(query, stream=stream, token=token)))[:2] == expected


async def test_nobody_comes_in_without_a_token_nor_with_a_cookie_from_another_page(edge: SocketEdge):
    status, code, headers = await refused(edge.socket(token=""))
    assert (status, code) == (401, "unauthorized")
    assert "resource_metadata" in headers["WWW-Authenticate"]
    cookie = {"Cookie": f"penstock_session={edge.token()}"}
    assert (await refused(edge.socket(token="", headers=cookie)))[:2] == (403, "forbidden_origin")
    foreign = edge.socket(token="", headers=cookie, origin="https://evil.example")
    assert (await refused(foreign))[:2] == (403, "forbidden_origin")
    async with edge.socket(token="", headers=cookie, origin=edge.url) as ws:
        await ws.send(text(1))
        assert (await replies(ws, 1))[0]["accepted"] == 1


async def test_a_token_for_one_stream_opens_that_one_only(edge: SocketEdge):
    details = [{"type": "penstock", "actions": ["write"], "topics": ["arrivals"]}]
    token = edge.token(scope="", authorization_details=details)
    async with edge.socket(token=token) as ws:
        await ws.send(text(1))
        assert (await replies(ws, 1))[0]["accepted"] == 1
    assert (await refused(edge.socket(stream="others", token=token)))[:2] == (403, "insufficient_scope")


async def test_a_token_comes_as_a_subprotocol_which_is_not_answered(edge: SocketEdge, caplog):
    token = edge.token()
    offered = "penstock.bearer." + base64.urlsafe_b64encode(token.encode()).rstrip(b"=").decode()
    async with edge.socket(token="", subprotocols=["penstock.v1", offered]) as ws:
        assert ws.subprotocol == "penstock.v1"
        await ws.send(text(1))
        assert (await replies(ws, 1))[0]["accepted"] == 1
    assert (await refused(edge.socket(subprotocols=["penstock.v1", offered])))[:2] == (400, "bad_request")
    assert offered not in caplog.text


async def test_a_token_comes_in_the_first_message(edge: SocketEdge):
    async with edge.socket("?auth=message", token="") as ws:
        await ws.send(json.dumps({"id": 7, "auth": edge.token()}))
        assert json.loads(await ws.recv()) == {"id": 7, "ok": True, "exp": 3600}
        await ws.send(text(1))
        assert (await replies(ws, 1))[0] | {"positions": []} == {
            "n": 1, "accepted": 1, "duplicate": 0, "rejected": 0, "errors": [], "positions": []
        }  # fmt: skip


@pytest.mark.parametrize(
    ("claims", "stream", "code", "error"),
    [
        ({"scope": "arrivals:read"}, "arrivals", 4403, "insufficient_scope"),
        ({"exp": 1}, "arrivals", 4401, "invalid_token"),
        ({}, "nothing", 4404, "unknown_stream"),
    ],
)
async def test_a_first_message_that_does_not_do_is_answered_and_closed(edge: SocketEdge, claims, stream, code, error):
    async with edge.socket("?auth=message", stream=stream, token="") as ws:
        await ws.send(json.dumps({"auth": edge.token(**claims)}))
        assert json.loads(await ws.recv())["code"] == error
        assert await ended(ws) == (code, {"code": error, "retry_ms": None, "after": None})


async def test_who_says_something_else_first_or_nothing_is_sent_away(edge: SocketEdge):
    async with edge.socket("?auth=message", token="") as ws:
        await ws.send(text(1))
        assert (await ended(ws))[0] == 4401
    async with edge.socket("?auth=message", token="") as ws:
        await until(lambda: len(edge.role._sockets._unauthenticated) == 1)
        await edge.pass_time(10.5)
        assert (await ended(ws))[0] == 4408
    assert await edge.stored() == []


async def test_a_request_that_is_no_upgrade_is_told_so(edge: SocketEdge):
    headers = {"Authorization": f"Bearer {edge.token()}"}
    url = f"{edge.url}/v1/streams/arrivals/connect"
    async with aiohttp.ClientSession() as http, http.get(url, headers=headers) as reply:
        assert (reply.status, (await reply.json(content_type=None))["code"]) == (400, "bad_request")


# -------------------------------------------------------------------- as long as the token lives


async def test_a_socket_is_warned_and_closed_when_its_token_ends(edge: SocketEdge):
    now_s = edge.clock.now_ms() // 1000
    async with edge.socket(token=edge.token(exp=now_s + 100)) as ws:
        await ws.send(text(1))
        await replies(ws, 1)
        await edge.pass_time(41)
        assert await notice(ws) == {"sys": "expiring", "in": 60}
        await edge.pass_time(60)
        assert await ended(ws) == (4401, {"code": "invalid_token", "retry_ms": None, "after": None})


async def test_a_newer_token_moves_the_end_and_one_of_somebody_else_does_not(edge: SocketEdge):
    now_s = edge.clock.now_ms() // 1000
    async with edge.socket(token=edge.token(exp=now_s + 10)) as ws:
        await ws.send(json.dumps({"id": 1, "auth": edge.token(sub="other", jti="t2")}))
        assert (await replies(ws, 1))[0]["code"] == "invalid_token"
        await ws.send(json.dumps({"id": 2, "auth": edge.token(scope="arrivals:read", jti="t3")}))
        assert (await replies(ws, 1))[0]["code"] == "insufficient_scope"
        await ws.send(json.dumps({"auth": edge.token(jti="t4")}))
        lines = [await notice(ws)]
        assert lines == [{"sys": "auth", "exp": 3600}]
        await edge.pass_time(15)
        await ws.send(text(1))
        assert (await replies(ws, 1))[0]["accepted"] == 1
        edge.revoked["t1"] = 1e12  # the one of before does not matter any more
        await edge.pass_time(1)
        await ws.send(text(2))
        assert (await replies(ws, 1))[0]["accepted"] == 1


async def test_a_revoked_token_closes_its_socket_within_a_second(edge: SocketEdge):
    async with edge.socket() as ws, edge.socket(token=edge.token(jti="t9")) as other:
        edge.revoked["t1"] = 1e12
        await edge.pass_time(1)
        assert (await ended(ws))[0] == 4401
        await other.send(text(1))
        assert (await replies(other, 1))[0]["accepted"] == 1


async def test_a_revoked_token_closes_its_socket_also_while_the_log_stands_still(edge: SocketEdge):
    async with edge.socket() as ws:
        edge.log.gate.clear()
        await ws.send(text(1))
        await edge.log.until_waiting(1)
        edge.revoked["t1"] = 1e12
        await edge.pass_time(0.5)
        async with asyncio.timeout(1):
            assert (await ended(ws))[0] == 4401


async def test_an_event_that_looks_like_a_token_goes_in_an_array_or_as_bytes(edge: SocketEdge):
    async with edge.socket() as ws:
        for message in ('[{"id":"a","auth":"x"}]', b'{"id":"b","auth":"x"}', '{"id":"c","auth":"x"}'):
            await ws.send(message)
        found = await replies(ws, 3)
    assert {(one.get("n"), one.get("id"), one["code"]) for one in found} == {
        (1, None, "all_rejected"), (2, None, "all_rejected"), (None, "c", "invalid_token")
    }  # fmt: skip


async def test_who_does_not_answer_pings_is_closed():
    async with running_edge(socket={"close_wait_s": 0.05}) as edge:
        reader, writer = await _silent(edge)
        await edge.pass_time(46)
        data = await asyncio.wait_for(reader.read(), 5)
        assert data.count(b"\x89\x00") == 2
        assert b"ping_timeout" in data
        writer.close()


async def _silent(edge: SocketEdge) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(edge.url.rsplit(":", 1)[1]))
    writer.write(
        b"GET /v1/streams/arrivals/connect HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        b"Authorization: Bearer " + edge.token().encode() + b"\r\n\r\n"
    )
    assert b"101 Switching" in await reader.readuntil(b"\r\n\r\n")
    return reader, writer


# -------------------------------------------------------------------- how it ends


async def test_what_was_read_is_answered_before_a_drain_closes(edge: SocketEdge):
    edge.log.gate.clear()
    async with edge.socket() as ws:
        for number in range(3):
            await ws.send(text(number))
        await edge.log.until_waiting(1)
        await until(lambda: next(iter(edge.role._sockets._sessions))._read_count == 3)
        edge.stop.set()
        await asyncio.sleep(0.02)
        assert (await refused(edge.socket()))[:2] == (503, "draining")
        await ws.send(text(9))  # not read any more
        edge.log.gate.set()
        assert [one["accepted"] for one in await replies(ws, 3)] == [1, 1, 1]
        code, reason = await ended(ws)
        assert (code, reason["code"]) == (1001, "draining")
        assert 1000 <= reason["retry_ms"] <= 2000
    assert await edge.stored() == ["e0", "e1", "e2"]


async def test_who_closes_gets_the_replies_to_what_it_sent_before(edge: SocketEdge):
    edge.log.gate.clear()
    async with edge.socket() as ws:
        await ws.send(text(1))
        await ws.send(text(2))
        closing = asyncio.create_task(ws.close())
        await edge.log.until_waiting(1)
        edge.log.gate.set()
        found = await replies(ws, 2)
        await closing
    assert [one["accepted"] for one in found] == [1, 1]


async def test_what_was_read_of_who_breaks_off_is_stored_once(edge: SocketEdge):
    edge.log.gate.clear()
    async with edge.socket() as ws:
        for number in range(5):
            await ws.send(text(number))
        await until(lambda: next(iter(edge.role._sockets._sessions))._read_count == 5)
        ws.transport.abort()
    edge.log.gate.set()
    await until(lambda: not edge.role._sockets._sessions)
    async with edge.socket() as ws:
        for number in range(6):
            await ws.send(text(number))
        assert [one["duplicate"] for one in await replies(ws, 6)] == [1, 1, 1, 1, 1, 0]
    assert await edge.stored() == [f"e{number}" for number in range(6)]
    assert edge.role._http._in_flight.size_bytes == 0


async def test_a_stream_that_goes_away_closes_its_sockets(edge: SocketEdge):
    async with edge.socket() as ws:
        version = (await edge.log.catalog()).apps["app"].version
        await edge.log.put_app("app", "", (), version)
        await ws.send(text(1))
        assert (await replies(ws, 1))[0]["code"] == "unknown_stream"
        assert (await ended(ws))[0] == 4404


async def test_several_partitions_answer_alike():
    async with running_edge(replace(ARRIVALS, partitions=3)) as edge, edge.socket() as ws:
        for number in range(30):
            await ws.send(json.dumps(event(number, market=f"m{number % 5}")))
        found = await replies(ws, 30)
        assert [(one["n"], one["accepted"]) for one in found] == [(n, 1) for n in range(1, 31)]
        stored = [await edge.stored(partition=number) for number in range(3)]
        assert sorted(one for part in stored for one in part) == sorted(f"e{n}" for n in range(30))
