"""`/client.js`: served for any origin, and working in Node against a real gateway."""

from __future__ import annotations

import asyncio
import gzip
import json
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from publish.conftest import loopback_socket, serving

SIZE_BYTES_MAX = 12_000
Then = Callable[[], Awaitable[None]]


async def at_once() -> None:
    """Nothing to wait for."""


@pytest.fixture
def node(need) -> str:
    program = shutil.which("node")
    need("node", program is not None, "install Node 20 or newer")
    assert program is not None
    return program


async def test_the_module_is_small_and_may_be_imported_by_pages_of_any_origin(gateway, http):
    headers = {"Accept-Encoding": "gzip", "Origin": "https://shop.example"}
    async with http.get(f"{gateway.url}/client.js", headers=headers) as reply:
        assert reply.status == 200
        assert reply.content_type == "text/javascript"
        assert reply.headers["Access-Control-Allow-Origin"] == "*"
        assert int(reply.headers["Content-Length"]) < SIZE_BYTES_MAX
        text, etag = await reply.text(), reply.headers["ETag"]
    assert "export function connect" in text
    async with http.get(f"{gateway.url}/client.js", headers={"If-None-Match": etag}) as reply:
        assert (reply.status, await reply.read()) == (304, b"")
    async with http.get(f"{gateway.url}/client.js", headers={"Accept-Encoding": "identity"}) as reply:
        plain = await reply.read()
    assert plain.decode() == text
    assert len(gzip.compress(plain)) < len(plain) / 2


async def run(
    node: str, folder: Path, http, url: str, script: str, options: dict[str, Any], *, then: Then = at_once
) -> list[Any]:
    """What a script logs, line by line as JSON; it has `penstock` and `log`. `then` runs after its first line."""
    async with http.get(f"{url}/client.js") as reply:
        module = await reply.read()
    await asyncio.to_thread((folder / "client.mjs").write_bytes, module)
    head = f"""
import {{ connect, PenstockError }} from "./client.mjs";
const log = (value) => console.log(JSON.stringify(value));
const quick = {{ backoffFirstMs: 10, backoffMaxMs: 20 }};
const penstock = connect({json.dumps(url)}, {{ limits: quick, ...{json.dumps(options)} }});
"""
    await asyncio.to_thread((folder / "script.mjs").write_text, head + script)
    running = await asyncio.create_subprocess_exec(
        node, "script.mjs", cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert running.stdout is not None
    async with asyncio.timeout(20):
        first = await running.stdout.readline()
        await then()
        out, err = await running.communicate()  # it ends by itself: nothing is left behind
    assert running.returncode == 0, err.decode()
    return [json.loads(line) for line in (first + out).decode().splitlines()]


async def test_events_rows_and_errors_come_in_node(gateway, http, node, tmp_path):
    await gateway.orders(0, 5)
    script = """
const seen = [];
for await (const event of penstock.subscribe("orders", { after: "earliest" })) {
  seen.push(event);
  if (seen.length === 5) break;
}
log(seen[0]);
log(seen.map((event) => event.data.n));
const rest = penstock.subscribe("orders", { after: seen[2].cursor, filter: "region = 'north'" });
log((await rest[Symbol.asyncIterator]().next()).value.data.n);
rest.close();
await rest.closed;
const stop = new AbortController(), called = [];
await penstock.subscribe("orders", { after: "earliest", signal: stop.signal, onEvent: (event) => {
  called.push(event.data.n);
  if (called.length === 5) stop.abort();
} }).closed;
log(called);
const history = [];
for await (const event of penstock.history("orders")) history.push(event.data.n);
log(history);
for (const [topic, asked] of [["nothing", {}], ["orders", { filter: "nope = 1" }], ["orders", { after: "x" }]]) {
  try { for await (const event of penstock.subscribe(topic, asked)) log(event); }
  catch (error) { log([error instanceof PenstockError, error.code, error.status, error.retry]); }
}
"""
    first, numbers, next_odd, called, history, *errors = await run(
        node, tmp_path, http, gateway.url, script, {"token": gateway.token()}
    )
    assert {name: first[name] for name in ("topic", "key", "op", "data")} == {
        "topic": "orders",
        "key": "k0",
        "op": None,
        "data": {"id": "k0", "n": 0, "region": "south"},
    }
    assert numbers == called == history == [0, 1, 2, 3, 4]
    assert next_odd == 3
    assert errors == [
        [True, "unknown_topic", 404, False],
        [True, "bad_filter", 400, False],
        [True, "bad_cursor", 400, False],
    ]


class Ingest:
    """Takes events as a test says."""

    def __init__(self) -> None:
        self.bodies: list[list[dict[str, Any]]] = []
        self.answers: list[web.Response | str | None] = []
        self.tokens = 0

    def routes(self, module: bytes) -> list[web.RouteDef]:
        async def client(request: web.Request) -> web.Response:
            return web.Response(body=module, content_type="text/javascript")

        async def token(request: web.Request) -> web.Response:
            self.tokens += 1
            return web.json_response({"access_token": f"t{self.tokens}", "expires_in": 3600})

        async def shape(request: web.Request) -> web.Response:
            return web.json_response({"columns": [], "dedupe": ["id"]})

        async def events(request: web.Request) -> web.Response:
            self.bodies.append([json.loads(line) for line in (await request.text()).splitlines()])
            answer = self.answers.pop(0) if self.answers else None
            if answer == "drop":
                assert request.transport is not None
                request.transport.abort()
            if isinstance(answer, web.Response):
                return answer
            taken = len(self.bodies[-1])
            return web.json_response({"accepted": taken, "duplicate": 0, "rejected": 0, "errors": []})

        return [
            web.get("/client.js", client),
            web.post("/oauth/token", token),
            web.get("/v1/streams/s", shape),
            web.post("/v1/streams/s/events", events),
        ]


async def test_what_is_not_taken_is_published_again_with_the_same_ids(gateway, http, node, tmp_path):
    async with http.get(f"{gateway.url}/client.js") as reply:
        module = await reply.read()
    ingest = Ingest()
    busy = {"code": "log_full", "detail": "no room"}
    ingest.answers = [
        web.json_response(busy, status=503, headers={"Retry-After": "1"}),
        "drop",
        web.json_response({"code": "invalid_token", "detail": "old"}, status=401),
        None,
    ]
    script = """
log(await penstock.publish("s", [{ id: "own", n: 1 }, { n: 2 }]));
"""
    async with serving(loopback_socket(), ingest.routes(module)) as url:
        [said] = await run(node, tmp_path, http, url, script, {"clientId": "c", "clientSecret": "s"})
    assert said == {"accepted": 2, "duplicate": 0, "rejected": 0, "errors": []}
    assert len(ingest.bodies) == 4
    assert all(body == ingest.bodies[0] for body in ingest.bodies)
    assert [len(one["id"]) for one in ingest.bodies[0]] == [3, 32]
    assert ingest.tokens == 2


@pytest.mark.parametrize("transport", ["websocket", "sse"])
async def test_what_a_callback_throws_is_uncaught_and_costs_no_event(
    gateway, http, node, tmp_path, monkeypatch, transport
):
    monkeypatch.setenv("NODE_OPTIONS", "--experimental-websocket")
    events = [json.dumps({"t": "s", "c": f"c{n}", "d": {"n": n}}) for n in range(5)]

    async def topic(request: web.Request) -> web.StreamResponse:
        if transport == "websocket":
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            await socket.send_str("\n".join(events))
            await socket.receive()
            return socket
        return web.Response(text="".join(f"data: {event}\n\n" for event in events), content_type="text/event-stream")

    script = """
const thrown = [], seen = [];
process.on("uncaughtException", (error) => thrown.push(error.message));
const client = connect(penstock.url, { ticket: async () => "t", transport: "TRANSPORT", limits: quick });
const subscription = client.subscribe("s", { onEvent: (event) => {
  seen.push(event.data.n);
  if (event.data.n === 4) subscription.close();
  if (event.data.n === 1) throw new Error("mine");
} });
await subscription.closed;
log([thrown, seen]);
""".replace("TRANSPORT", transport)
    async with serving(
        loopback_socket(), [*await client_routes(gateway, http), web.get("/v1/topics/s", topic)]
    ) as url:
        assert await run(node, tmp_path, http, url, script, {}) == [[["mine"], [0, 1, 2, 3, 4]]]


async def test_a_close_with_words_of_a_proxy_is_a_break_like_any_other(gateway, http, node, tmp_path, monkeypatch):
    monkeypatch.setenv("NODE_OPTIONS", "--experimental-websocket")
    asked: list[str | None] = []

    async def topic(request: web.Request) -> web.WebSocketResponse:
        asked.append(request.query.get("after"))
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str(json.dumps({"t": "s", "c": f"c{len(asked)}", "d": {}}))
        await socket.close(code=1001, message=b"{gone")
        return socket

    script = """
const client = connect(penstock.url, { ticket: async () => "t", limits: quick });
let seen = 0;
for await (const event of client.subscribe("s", { after: "earliest" })) if (++seen === 2) break;
log(seen);
"""
    async with serving(
        loopback_socket(), [*await client_routes(gateway, http), web.get("/v1/topics/s", topic)]
    ) as url:
        assert await run(node, tmp_path, http, url, script, {}) == [2]
    assert asked == ["earliest", "c1"]


async def test_a_close_for_the_rest_of_the_day_is_an_error_that_says_why(gateway, http, node, tmp_path, monkeypatch):
    monkeypatch.setenv("NODE_OPTIONS", "--experimental-websocket")

    async def topic(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.close(code=4429, message=b'{"code":"quota_exceeded","retry_ms":7200000}')
        return socket

    script = """
const client = connect(penstock.url, { ticket: async () => "t", limits: quick });
await client.subscribe("s").closed.catch(({ code, retry, retryMs }) => log([code, retry, retryMs]));
"""
    async with serving(
        loopback_socket(), [*await client_routes(gateway, http), web.get("/v1/topics/s", topic)]
    ) as url:
        assert await run(node, tmp_path, http, url, script, {}) == [["quota_exceeded", True, 7_200_000]]


async def client_routes(gateway, http) -> list[web.RouteDef]:
    """The gateway's module, at a server that is the test's own."""
    async with http.get(f"{gateway.url}/client.js") as reply:
        return Ingest().routes(await reply.read())


async def test_a_token_that_is_about_to_end_is_renewed_in_node(gateway, http, node, tmp_path):
    """The gateway's clock is the test's; the module's waits are cut short."""
    old = gateway.token()
    await gateway.clock.advance(3500)
    script = """
let handed = 0;
const token = () => TOKENS[handed++], sleep = () => new Promise((done) => setTimeout(done, 50)), notices = [];
const client = connect(penstock.url, { limits: quick, token, sleep });
const onNotice = (notice) => notices.push(notice.sys);
for await (const event of client.subscribe("orders", { after: "earliest", onNotice })) {
  log(event.data.n);
  if (event.data.n === 1) break;
}
log([notices.includes("expiring"), handed]);
""".replace("TOKENS", json.dumps([old, gateway.token()]))
    await gateway.orders(0, 1)

    async def near_the_end() -> None:
        await gateway.pass_time(75, step_s=1)  # the server warns at 60 s
        await asyncio.sleep(0.3)
        await gateway.pass_time(40, step_s=1)
        await gateway.orders(1, 1)

    options = {"token": old}
    assert await run(node, tmp_path, http, gateway.url, script, options, then=near_the_end) == [0, 1, [True, 2]]


async def test_a_server_that_is_away_is_asked_so_often_and_each_try_is_told(gateway, http, node, tmp_path):
    async with http.get(f"{gateway.url}/client.js") as reply:
        module = await reply.read()

    async def client(_: web.Request) -> web.Response:
        return web.Response(body=module, content_type="text/javascript")

    script = """
const away = connect("http://127.0.0.1:9", { token: "t", limits: { ...quick, firstConnects: 3 } }), notices = [];
await away.subscribe("s", { onNotice: ({ sys, tries }) => notices.push([sys, tries]) }).closed.catch(
  ({ code, retry, detail }) => log([code, retry, detail.slice(0, 35), notices]));
"""
    async with serving(loopback_socket(), [web.get("/client.js", client)]) as url:
        said = await run(node, tmp_path, http, url, script, {})
    assert said == [
        ["not_ready", True, "no answer from http://127.0.0.1:9 (", [["unreachable", 1], ["unreachable", 2]]]
    ]
