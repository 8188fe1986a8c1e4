"""Api, `send` and `tail` against a server on a free loopback port that answers as each test says."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from penstock.errors import PenstockError
from penstock.ports.clock import SystemClock
from penstock_app.api import Api, Credentials
from penstock_app.rows_from_files import EventFile
from penstock_app.sending import Pace, Sent, file_batches, send_batches, stream_shape
from penstock_app.tailing import TailRequest, tail

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """Gives tokens `t1`, `t2`, ...; takes events; what a test wants else it puts into `answers`."""

    def __init__(self) -> None:
        self.tokens = 0
        self.expires_in = 3600
        self.bodies: list[list[dict[str, Any]]] = []
        self.watermarks: list[dict[str, Any]] = []
        self.answers: list[web.Response | None] = []  # one per request for events; None: take them
        self.topic: list[Answer] = []
        self.afters: list[str] = []

    async def token(self, request: web.Request) -> web.Response:
        self.tokens += 1
        return web.json_response({"access_token": f"t{self.tokens}", "expires_in": self.expires_in})

    async def shape(self, request: web.Request) -> web.Response:
        return web.json_response({"columns": [{"name": "n", "type": "INT"}], "dedupe": ["id"]})

    async def events(self, request: web.Request) -> web.Response:
        self.bodies.append([json.loads(line) for line in (await request.text()).splitlines()])
        if self.answers and (answer := self.answers.pop(0)) is not None:
            return answer
        return web.json_response({"accepted": len(self.bodies[-1]), "duplicate": 0, "rejected": 0, "errors": []})

    async def watermark(self, request: web.Request) -> web.Response:
        self.watermarks.append(await request.json())
        return web.json_response({})

    async def subscribe(self, request: web.Request) -> web.StreamResponse:
        self.afters.append(request.query["after"])
        return await self.topic.pop(0)(request)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    said = Server()
    app = web.Application()
    app.router.add_post("/oauth/token", said.token)
    app.router.add_get("/v1/streams/s", said.shape)
    app.router.add_post("/v1/streams/s/events", said.events)
    app.router.add_post("/v1/streams/s/watermark", said.watermark)
    app.router.add_get("/v1/topics/s", said.subscribe)
    async with TestServer(app) as running:
        said.url = str(running.make_url("")).rstrip("/")  # type: ignore[attr-defined] - known once it listens
        yield said


@pytest.fixture
async def api(server: Server) -> AsyncIterator[Api]:
    url = f"{server.url}/oauth/token"  # type: ignore[attr-defined] - set by the fixture
    async with Api.open(Credentials("c", "secret", url, "*:read")) as opened:
        yield opened


def problem(status: int, code: str, **headers: str) -> web.Response:
    return web.json_response({"code": code, "detail": "because"}, status=status, headers=headers)


async def send(api: Api, path: Path, pace: Pace, *, complete: bool = False) -> tuple[Sent, list[dict[str, Any]]]:
    errors: list[dict[str, Any]] = []
    with contextlib.closing(EventFile(path)) as file:
        total = await send_batches(
            api,
            "s",
            file_batches(file, await stream_shape(api, "s"), pace.request_rows),
            pace=pace,
            clock=SystemClock(),
            complete=complete,
            on_progress=lambda _: None,
            on_error=errors.append,
        )
    return total, errors


@pytest.fixture
def seven(tmp_path: Path) -> Path:
    path = tmp_path / "seven.csv"
    path.write_text("n\n" + "".join(f"{n}\n" for n in range(7)))
    return path


async def test_a_file_is_sent_in_order_in_batches_and_counted(server: Server, api: Api, seven: Path):
    total, errors = await send(api, seven, Pace(3, None), complete=True)
    assert [[event["n"] for event in body] for body in server.bodies] == [[0, 1, 2], [3, 4, 5], [6]]
    assert (total.sent, total.accepted, total.duplicate, total.rejected, errors) == (7, 7, 0, 0, [])
    assert len(server.watermarks) == 1
    assert server.watermarks[0]["through"] > 1_600_000_000_000


async def test_a_batch_that_is_not_taken_is_sent_again_with_the_same_ids(server: Server, api: Api, seven: Path):
    later = {"Retry-After": "0"}
    server.answers = [problem(503, "log_full", **later), None, problem(429, "too_many_requests", **later), None]
    total, _ = await send(api, seven, Pace(5, None))
    assert server.bodies[0] == server.bodies[1]
    assert server.bodies[2] == server.bodies[3]
    mark = server.bodies[0][0]["id"].removesuffix("-0")
    assert [event["id"] for body in server.bodies[1::2] for event in body] == [f"{mark}-{n}" for n in range(7)]
    assert total.accepted == 7
    assert server.watermarks == []


async def test_rejections_are_told_with_row_and_line(server: Server, api: Api, seven: Path):
    error = {"index": 1, "id": None, "code": "wrong_type", "detail": "no"}
    reply = {"accepted": 0, "duplicate": 1, "rejected": 2, "errors": [error]}
    server.answers = [None, web.json_response(reply, status=422), None]
    total, errors = await send(api, seven, Pace(3, None))
    assert (total.accepted, total.duplicate, total.rejected) == (4, 1, 2)
    assert [(e["row"], e["place"]) for e in errors] == [(4, 6)]


def test_a_given_rate_flows_in_small_requests():
    assert Pace(1000, None).request_rows == 1000
    assert [Pace(1000, rate).request_rows for rate in (0.5, 10, 45, 50_000)] == [1, 1, 5, 1000]


async def test_a_token_is_kept_while_it_lives_and_renewed_before_it_ends(server: Server, api: Api):
    assert (await api.token())[0] == (await api.token())[0] == "t1"
    server.expires_in = 0
    async with Api.open(Credentials("c", "secret", f"{api.base_url}/oauth/token", "*:read")) as another:
        assert (await another.token())[0] == "t2"
        assert (await another.token())[0] == "t3"


async def test_a_token_that_is_no_longer_taken_is_replaced_once(server: Server, api: Api, seven: Path):
    server.answers = [
        problem(401, "invalid_token"),
        None,
        problem(401, "invalid_token"),
        problem(401, "invalid_token"),
    ]
    await send(api, seven, Pace(10, None))
    assert server.tokens == 2
    with pytest.raises(PenstockError, match="invalid_token"):
        await send(api, seven, Pace(10, None))


async def test_a_problem_becomes_an_error_with_its_code(server: Server, api: Api, seven: Path):
    server.answers = [problem(413, "too_large")]
    with pytest.raises(PenstockError, match="too_large: because"):
        await send(api, seven, Pace(10, None))


async def test_a_server_that_is_not_there_is_named_and_may_be_asked_again():
    async with Api.open(Credentials("c", "s", "http://127.0.0.1:9/oauth/token", "x")) as api:
        with pytest.raises(PenstockError, match=r"http://127\.0\.0\.1:9 .*penstock up") as refused:
            await api.call("GET", "/v1/apps")
    assert refused.value.code == "not_ready"
    assert refused.value.retryable


def socket_of(*messages: str, code: int = 1001, reason: bytes = b"", drop: bool = False) -> Answer:
    async def answer(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        for message in messages:
            await socket.send_str(message)
        if drop:
            assert request.transport is not None
            request.transport.close()
        else:
            await socket.close(code=code, message=reason)
        return socket

    return answer


def envelope(n: int) -> str:
    return f'{{"t":"s","c":"c{n}","d":{{"n":{n}}}}}\n'


async def follow(api: Api, **asked: Any) -> tuple[list[str], list[dict[str, Any]]]:
    events: list[str] = []
    notices: list[str] = []
    fields = {"after": "latest", "count": None, "filter": None, "raw": False, **asked}
    await tail(api, TailRequest("s", **fields), on_event=events.append, on_notice=notices.append)
    return events, [json.loads(notice) for notice in notices]


async def test_tail_goes_on_from_its_cursor_after_every_kind_of_break(server: Server, api: Api):
    async def busy(request: web.Request) -> web.Response:
        return problem(503, "draining")

    server.topic = [
        socket_of('{"sys":"open","t":"s","c":"c0"}\n', drop=True),
        socket_of(envelope(1) + envelope(2), code=1001),
        busy,
        socket_of('{"sys":"gap","t":"s","from":"c2","to":"c5","n":3}\n', envelope(6), code=4401),
        socket_of(envelope(7) + envelope(8)),
    ]
    events, notices = await follow(api, count=4)
    assert [json.loads(event)["c"] for event in events] == ["c1", "c2", "c6", "c7"]
    assert server.afters == ["latest", "c0", "c2", "c2", "c6"]
    assert [notice["sys"] for notice in notices] == ["open", "closed", "closed", "unreachable", "gap", "closed"]
    assert server.tokens == 2, "4401 asks for a new token"


async def test_tail_raw_prints_the_columns_only(server: Server, api: Api):
    server.topic = [socket_of(envelope(1))]
    assert await follow(api, count=1, raw=True) == (['{"n":1}'], [])


async def test_tail_ends_when_another_try_would_end_the_same_way(server: Server, api: Api):
    server.topic = [socket_of(code=4400, reason=b'{"code":"bad_filter"}')]
    with pytest.raises(PenstockError, match=r"bad_filter.*4400"):
        await follow(api)


async def test_tail_says_at_once_what_refuses_the_first_connection(server: Server, api: Api):
    async def unknown(request: web.Request) -> web.Response:
        return problem(404, "unknown_topic")

    server.topic = [unknown]
    with pytest.raises(PenstockError, match="unknown_topic: because"):
        await follow(api)


async def test_an_error_of_the_reader_is_not_taken_for_a_break(server: Server, api: Api):
    def gone(_: str) -> None:
        raise BrokenPipeError

    server.topic = [socket_of(envelope(1))]
    with pytest.raises(BrokenPipeError):
        await tail(api, TailRequest("s", "latest", None, None, False), on_event=gone, on_notice=lambda _: None)
