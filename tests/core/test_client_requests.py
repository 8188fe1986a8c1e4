"""`penstock.client` against a server that answers as each test says: retries, pauses, lines on the socket."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from penstock.client import AsyncClient, Client, ClientLimits, Event, Gap, Notice, Refused, Unauthorized, Unavailable
from penstock.client.backoff import Backoff
from penstock.client.errors import retry_after_s
from penstock.testing.clock import ManualClock

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
NOW_MS = 1_700_000_000_000


class Server:
    """Gives tokens t1, t2, ...; what a test wants else it puts into `answers` and `sockets`."""

    def __init__(self) -> None:
        self.tokens = 0
        self.dedupe = ["id"]
        self.bodies: list[list[dict[str, Any]]] = []
        self.answers: list[web.Response | str | None] = []
        self.sockets: list[Answer] = []
        self.asked: list[dict[str, str]] = []
        self.lines: list[dict[str, Any]] = []
        self.url = ""

    async def token(self, request: web.Request) -> web.Response:
        if request.headers["Authorization"] != "Basic YzpzZWNyZXQ=":  # c:secret
            return web.json_response({"error": "invalid_client"}, status=401)
        self.tokens += 1
        return web.json_response({"access_token": f"t{self.tokens}", "expires_in": 3600})

    async def shape(self, request: web.Request) -> web.Response:
        return web.json_response({"columns": [], "dedupe": self.dedupe})

    async def events(self, request: web.Request) -> web.Response:
        self.bodies.append([json.loads(line) for line in (await request.text()).split("\n")])
        answer = self.answers.pop(0) if self.answers else None
        if answer == "drop":
            assert request.transport is not None
            request.transport.abort()
        if isinstance(answer, web.Response):
            return answer
        return web.json_response({"accepted": len(self.bodies[-1]), "duplicate": 0, "rejected": 0, "errors": []})

    async def subscribe(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(dict(request.query))
        return await self.sockets.pop(0)(request)

    def socket(self, *lines: str, code: int = 1000, reason: str = "", reads: int = 0) -> None:
        """The next connection: sends lines, reads as many of the client's, closes."""

        async def answer(request: web.Request) -> web.WebSocketResponse:
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            for line in lines:
                await socket.send_str(line)
            for _ in range(reads):
                self.lines.append(await socket.receive_json())
            await socket.close(code=code, message=reason.encode())
            return socket

        self.sockets.append(answer)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    said = Server()
    app = web.Application()
    app.router.add_post("/oauth/token", said.token)
    app.router.add_get("/v1/streams/s", said.shape)
    app.router.add_post("/v1/streams/s/events", said.events)
    app.router.add_get("/v1/topics/s", said.subscribe)
    app.router.add_get("/v1/topics/quiet", silence)
    async with TestServer(app) as running:
        said.url = str(running.make_url("")).rstrip("/")
        yield said


async def silence(request: web.Request) -> web.WebSocketResponse:
    """A topic on which nothing comes."""
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    await socket.receive()
    return socket


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW_MS)


def client_of(server: Server, clock: ManualClock | None = None, **limits: Any) -> AsyncClient:
    return AsyncClient(
        server.url,
        client_id="c",
        client_secret="secret",
        clock=clock,
        random=random.Random(7),
        limits=ClientLimits(**{"backoff_first_s": 0.01, "backoff_max_s": 0.02, **limits}),
    )


def problem(status: int, code: str, **headers: str) -> web.Response:
    return web.json_response({"code": code, "detail": "because"}, status=status, headers=headers)


def event(n: int) -> str:
    return f'{{"t":"s","c":"c{n}","d":{{"n":{n}}}}}'


async def passing(clock: ManualClock, work: Awaitable[Any], *, step_s: float = 0.1) -> tuple[Any, float]:
    """The result of `work` and the seconds of the clock that it took, moved step by step."""
    task = asyncio.ensure_future(work)
    started_s = clock.monotonic_s()
    async with asyncio.timeout(10):
        while not task.done():
            await asyncio.wait([task], timeout=0.02)
            await clock.advance(step_s)
    return task.result(), clock.monotonic_s() - started_s


@pytest.mark.parametrize(
    ("status", "header", "least_s"), [(429, "7", 7.0), (503, "Tue, 14 Nov 2023 22:13:24 GMT", 3.5), (503, "", 0.0)]
)
async def test_a_server_that_says_later_is_asked_again_after_the_time_that_it_names(
    server: Server, clock: ManualClock, status: int, header: str, least_s: float
):
    later = {"Retry-After": header} if header else {}
    server.answers = [problem(status, "log_full", **later), None]
    async with client_of(server, clock) as penstock:
        published, took_s = await passing(clock, penstock.publish("s", [{"n": 1}]))
    assert (published.accepted, len(server.bodies)) == (1, 2)
    assert server.bodies[0] == server.bodies[1], "the same event with the same id"
    assert least_s <= took_s < least_s + 1.5


async def test_a_pause_longer_than_the_limit_is_an_error_at_once(server: Server):
    server.answers = [problem(429, "quota_exceeded", **{"Retry-After": "3600"})]
    async with client_of(server, retry_after_max_s=60) as penstock:
        with pytest.raises(Unavailable) as refused:
            await penstock.publish("s", [{"n": 1}])
    assert (refused.value.code, refused.value.retry, refused.value.retry_after_s) == ("quota_exceeded", True, 3600.0)


async def test_tries_have_an_end_and_the_last_error_is_told(server: Server):
    server.answers = [problem(503, "draining") for _ in range(3)]
    async with client_of(server, attempts_max=3) as penstock:
        with pytest.raises(Unavailable, match="draining: because"):
            await penstock.publish("s", [{"n": 1}])
    assert len(server.bodies) == 3


async def test_a_request_without_a_reply_is_sent_again_with_the_same_ids(server: Server):
    server.answers = ["drop", None]
    async with client_of(server) as penstock:
        published = await penstock.publish("s", [{"n": 1}, {"id": "own", "n": 2}])
    assert published.accepted == 2
    assert server.bodies[0] == server.bodies[1]
    assert [one["id"] for one in server.bodies[0]][1] == "own"
    assert len(server.bodies[0][0]["id"]) == 32


async def test_where_a_stream_settles_no_repeats_nothing_is_sent_again_unasked(server: Server):
    server.dedupe = []
    server.answers = ["drop", problem(503, "log_full"), None]
    async with client_of(server) as penstock:
        with pytest.raises(Unavailable, match="nothing was sent again"):
            await penstock.publish("s", [{"n": 1}])
        assert (await penstock.publish("s", [{"n": 1}])).accepted == 1, "503 says that nothing was stored"
    assert server.bodies == [[{"n": 1}]] * 3, "and no id is made up"


async def test_events_are_cut_into_bounded_requests_and_rejections_count_over_all(server: Server):
    wrong = {"index": 1, "id": None, "code": "wrong_type", "detail": "no"}
    reply = {"accepted": 1, "duplicate": 0, "rejected": 1, "errors": [wrong]}
    server.answers = [None, web.json_response(reply, status=207), None]

    async def events() -> AsyncIterator[dict[str, Any] | bytes]:
        for n in range(4):
            yield {"id": n, "n": n}
        yield b'{"id":4,"text":"%s"}' % (b"x" * 300)

    async with client_of(server, batch_events_max=2, batch_bytes_max=200) as penstock:
        published = await penstock.publish("s", events())
    assert [[one["id"] for one in body] for body in server.bodies] == [[0, 1], [2, 3], [4]]
    assert (published.accepted, published.rejected, published.sent) == (4, 1, 5)
    assert [(one.index, one.code) for one in published.rejections] == [(3, "wrong_type")]


async def test_a_refused_token_is_fetched_anew_once_and_a_refused_client_is_told(server: Server):
    server.answers = [problem(401, "invalid_token"), None]
    async with client_of(server) as penstock:
        assert (await penstock.publish("s", [{"n": 1}])).accepted == 1
    assert server.tokens == 2
    async with AsyncClient(server.url, client_id="c", client_secret="wrong") as penstock:
        with pytest.raises(Unauthorized, match="invalid_client"):
            await penstock.publish("s", [{"n": 1}])


async def read(
    penstock: AsyncClient, count: int, **asked: Any
) -> tuple[list[Event | Gap], list[tuple[str, dict[str, Any]]]]:
    found: list[Event | Gap] = []
    notices: list[Notice] = []
    async with asyncio.timeout(5), aclosing(penstock.subscribe("s", on_notice=notices.append, **asked)) as events:
        async for item in events:
            found.append(item)
            if len(found) == count:
                break
    return found, [(notice.kind, notice.fields) for notice in notices]


async def test_every_kind_of_break_is_followed_by_the_rest_and_gaps_move_the_cursor(
    server: Server, clock: ManualClock
):
    async def busy(_: web.Request) -> web.Response:
        return problem(503, "draining", **{"Retry-After": "4"})

    server.socket('{"sys":"open","t":"s","c":"c0"}', event(1) + "\n" + event(2), code=1001)
    server.socket(code=4503, reason='{"code":"not_ready","retry_ms":5000,"after":"elsewhere"}')
    server.sockets.append(busy)
    server.socket('{"sys":"gap","t":"s","from":"c2","to":"c5","n":3}', code=4401)
    server.socket(event(6), '{"sys":"hb","c":"c9"}', code=1011)
    server.socket(event(10))
    async with client_of(server, clock) as penstock:
        (found, notices), took_s = await passing(clock, read(penstock, 5))
    assert [item.cursor if isinstance(item, Event) else "gap" for item in found] == ["c1", "c2", "gap", "c6", "c10"]
    assert found[2] == Gap("s", "c2", "c5", 3)
    assert [asked.get("after") for asked in server.asked] == [None, "c2", "c2", "c2", "c5", "c9"]
    assert server.tokens == 2, "4401 asks for a new token"
    assert took_s >= 9, "5 s by the close reason, 4 s by Retry-After"
    assert [kind for kind, _ in notices] == ["open", "closed", "closed", "unreachable", "closed", "hb", "closed"]


async def test_a_close_that_would_come_again_is_an_error(server: Server):
    server.socket(code=4400, reason='{"code":"bad_filter","retry_ms":null,"after":null}')
    async with client_of(server) as penstock:
        with pytest.raises(Refused, match=r"bad_filter.*4400"):
            await read(penstock, 1)


async def test_text_with_line_separators_of_unicode_stays_one_event(server: Server):
    server.socket('{"t":"s","c":"c1","k":"a","d":{"text":"one\u2028two\u0085three"}}')
    async with client_of(server) as penstock:
        [found], _ = await read(penstock, 1)
    assert isinstance(found, Event)
    assert (found.key, found.data) == ("a", {"text": "one\u2028two\u0085three"})


async def test_a_server_that_is_not_there_is_tried_a_few_times(clock: ManualClock):
    limits = ClientLimits(first_connects_max=3)
    async with AsyncClient("http://127.0.0.1:9", token="t", limits=limits) as penstock:
        with pytest.raises(Unavailable, match=r"127\.0\.0\.1:9"):
            await read(penstock, 1)


async def test_a_link_over_which_nothing_comes_any_more_is_broken_and_made_anew(server: Server, clock: ManualClock):
    released = asyncio.Event()

    async def silent(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str(event(1))
        await released.wait()  # reads nothing, so no ping is answered
        return socket

    server.sockets = [silent]
    server.socket(event(2))
    async with client_of(server, clock) as penstock:
        (found, notices), took_s = await passing(clock, read(penstock, 2), step_s=1.0)
    released.set()
    assert [item.cursor for item in found if isinstance(item, Event)] == ["c1", "c2"]
    assert took_s >= ClientLimits().ping_s + ClientLimits().pong_wait_s
    assert ("closed", {"sys": "closed", "code": 1006}) in notices


async def test_a_server_that_is_none_of_ours_is_told_apart(server: Server):
    server.answers = [
        web.Response(status=302, headers={"Location": "http://elsewhere.example"}),
        web.Response(text="hi"),
    ]
    async with client_of(server) as penstock:
        with pytest.raises(Refused, match="HTTP 302"):
            await penstock.publish("s", [{"n": 1}])
        with pytest.raises(Refused, match="did not answer as Penstock does: hi"):
            await penstock.publish("s", [{"n": 1}])


async def test_a_new_token_goes_over_the_open_socket_where_the_server_takes_it(server: Server):
    async def answer(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str('{"sys":"expiring","in":0}')
        server.lines.append(await socket.receive_json())
        await socket.send_str(json.dumps({"id": server.lines[0]["id"], "ok": True}))
        await socket.send_str(event(1))
        await socket.close()
        return socket

    server.sockets = [answer]
    async with client_of(server) as penstock:
        [found], notices = await read(penstock, 1)
    assert server.lines == [{"id": 1, "auth": "t2"}]
    assert [kind for kind, _ in notices] == ["expiring"]
    assert isinstance(found, Event)


@pytest.mark.parametrize("ack", ["auto", "manual"])
async def test_a_durable_subscription_acknowledges_what_is_done_with(server: Server, ack: str):
    server.socket(event(1), event(2), event(3), reads=1)
    async with client_of(server, ack_every_s=60) as penstock:
        events = penstock.subscribe("s", durable="billing", ack=ack)
        first = await anext(events)
        assert isinstance(first, Event)
        if ack == "manual":
            await asyncio.to_thread(first.ack)  # from anywhere
        await anext(events)
        async with asyncio.timeout(5):
            while not server.lines:  # noqa: ASYNC110 - another task of this loop fills it
                await asyncio.sleep(0.005)
        await events.aclose()
    assert server.asked == [{"durable": "billing"}]
    assert server.lines == [{"ack": "c1"}]


@pytest.mark.parametrize("synchronous", [False, True])
async def test_who_ends_in_the_middle_of_a_message_has_acknowledged_what_is_done_with(
    server: Server, synchronous: bool
):
    server.socket("\n".join(event(n) for n in range(1, 6)), reads=1)

    def take() -> None:
        with Client(server.url, client_id="c", client_secret="secret") as penstock:
            for place, _ in enumerate(penstock.subscribe("s", durable="billing"), 1):
                if place == 3:
                    return

    if synchronous:
        await asyncio.to_thread(take)
    else:
        async with client_of(server) as penstock:
            events = penstock.subscribe("s", durable="billing")
            for _ in range(3):
                await anext(events)
            await events.aclose()
    assert server.lines == [{"ack": "c2"}]


async def test_credit_is_given_back_as_events_are_done_with(server: Server):
    server.socket(*(event(n) for n in range(6)), reads=1)
    async with client_of(server) as penstock:
        await read(penstock, 6, credit=4)
    assert server.asked == [{"credit": "4"}]
    assert server.lines[0]["credit"] >= 2


async def test_over_a_break_no_more_credit_is_asked_for_than_is_left(server: Server):
    """At most `credit` events are on their way or with the reader, whatever connections end."""
    sent, again = 0, asyncio.Event()

    async def send(socket: web.WebSocketResponse, count: int) -> None:
        nonlocal sent
        await socket.send_str("\n".join(event(n) for n in range(sent, sent + count)))
        sent += count

    async def breaks(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await send(socket, int(request.query["credit"]))
        await socket.close(code=1001)
        return socket

    async def stays(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        again.set()
        async for line in socket:
            await send(socket, json.loads(line.data)["credit"])
        return socket

    server.sockets += [breaks, stays]
    held: list[int] = []
    async with client_of(server, ack_every_s=0.01) as penstock, asyncio.timeout(5):
        async for found in penstock.subscribe("s", "quiet", credit=4):  # read ahead, since there are two
            assert isinstance(found, Event)
            held.append(found.data["n"])
            await again.wait()
            assert sent <= 4 + len(held) - 1
            if len(held) == 12:
                break
    assert held == list(range(12))
    assert server.asked == [{"credit": "4"}, {"after": "c3", "credit": "0"}]


def test_waits_double_up_to_their_limit_with_full_jitter():
    limits = ClientLimits(backoff_first_s=1.0, backoff_max_s=8.0)
    bounds = [1.0, 2.0, 4.0, 8.0, 8.0]
    rows = []
    for seed in range(200):
        backoff = Backoff(limits, random.Random(seed))
        rows.append([backoff.next_s() for _ in bounds])
    for bound, waits in zip(bounds, zip(*rows, strict=True), strict=True):
        assert 0 <= min(waits) < 0.1 * bound
        assert 0.9 * bound < max(waits) <= bound
    backoff.reset()
    assert 3.0 <= backoff.next_s(3.0) <= 4.0, "what the server asks for, and then some"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120.0),
        ("Tue, 14 Nov 2023 22:14:20 GMT", 60.0),
        ("Tue, 14 Nov 2000 22:14:20 GMT", 0.0),
        ("soon", None),
        ("", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str, seconds: float | None):
    assert retry_after_s(text, now_ms=NOW_MS) == seconds


def test_credentials_come_from_arguments_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("URL", "TOKEN", "CLIENT_ID", "CLIENT_SECRET", "CLIENT_FILE", "DATA"):
        monkeypatch.delenv(f"PENSTOCK_{name}", raising=False)
    with pytest.raises(Refused, match="no credential"):
        AsyncClient("http://h")
    with pytest.raises(Refused, match="no address"):
        AsyncClient(token="t")
    with pytest.raises(Refused, match="needs its client_secret"):
        AsyncClient("http://h", client_id="c")
    file = {"client_id": "c", "client_secret": "s", "token_url": "http://h:1/oauth/token", "scope": "*:read"}
    (tmp_path / "client.json").write_text(json.dumps(file))
    assert AsyncClient(client_file=tmp_path).calls.access.url == "http://h:1"
    assert AsyncClient(client_file=tmp_path / "client.json").calls.access.scope == "*:read"
    monkeypatch.setenv("PENSTOCK_DATA", str(tmp_path))
    assert AsyncClient().calls.access.client_id == "c"
    monkeypatch.setenv("PENSTOCK_URL", "https://other/")
    monkeypatch.setenv("PENSTOCK_TOKEN", "secret-token")
    access = AsyncClient().calls.access
    assert (access.url, access.token) == ("https://other", "secret-token")
    assert "secret-token" not in repr(access)


def test_the_client_imports_nothing_of_the_engine():
    script = (
        "import sys, penstock.client; print(sorted({'polars', 'numpy', 'sqlalchemy', 'sqlglot'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
