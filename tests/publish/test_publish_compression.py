"""permessage-deflate towards subscribers: compressed once for all, each event by itself, with clients of others."""

import asyncio
import hashlib
import json
import shutil
import zlib
from urllib.parse import urlencode

from hypothesis import given
from hypothesis import strategies as st
from playwright.async_api import async_playwright
from publish.conftest import events, orders_batch
from websockets.asyncio.client import connect

from penstock_publish.topics.framing import Encoding, frame

LONG = "fresh from the field " * 30
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update"]  # fmt: skip


def messages(data: bytes) -> list[tuple[bool, bytes]]:
    """(compressed, text) of each frame in `data`, every one inflated with a window of its own."""
    found, at = [], 0
    while at < len(data):
        size, at = data[at + 1], at + 2
        compressed = bool(data[at - 2] & 0x40)
        if size >= 126:
            width = 2 if size == 126 else 8
            size, at = int.from_bytes(data[at : at + width], "big"), at + width
        payload, at = data[at : at + size], at + size
        if compressed:
            payload = zlib.decompressobj(-12).decompress(payload + b"\x00\x00\xff\xff")
        found.append((compressed, payload))
    return found


@given(st.lists(st.builds(lambda text, times: text.encode() * times, st.text(min_size=1), st.integers(0, 200))))
def test_each_compressed_line_can_be_read_without_those_before_it(lines):
    assert [text for _, text in messages(frame(lines, [b""] * len(lines), Encoding.WS_DEFLATE))] == lines


def test_short_lines_and_those_that_do_not_shrink_stay_as_they_are():
    noise = hashlib.shake_256(b"noise").digest(300)
    lines = [b"short", LONG.encode(), noise, b"x" * 255]
    found = messages(frame(lines, [b""] * 4, Encoding.WS_DEFLATE))
    assert [text for _, text in found] == lines
    assert [compressed for compressed, _ in found] == [False, True, False, False]


def subscribe(gateway, *, compression: str | None, **query: str):
    url = f"{gateway.url.replace('http', 'ws', 1)}/v1/topics/orders?{urlencode(query)}"
    return connect(url, additional_headers=gateway.headers(), compression=compression)


async def test_subscribers_with_and_without_compression_get_the_same_events_live_and_from_the_log(gateway):
    await gateway.commit(orders_batch([(LONG, 0, "old"), ("short", 1, "old")]))
    async with (
        subscribe(gateway, compression="deflate", after="earliest") as compressed,
        subscribe(gateway, compression="deflate", after="earliest") as another,
        subscribe(gateway, compression=None, after="earliest") as plain,
    ):
        assert compressed.response.headers["Sec-WebSocket-Extensions"].startswith("permessage-deflate")
        assert "Sec-WebSocket-Extensions" not in plain.response.headers
        for first in range(2, 20, 2):
            await gateway.commit(orders_batch([(LONG, first, "new"), ("short", first + 1, "new")]))
        got = [await events(ws, 20) for ws in (compressed, another, plain)]
        assert [event["d"]["n"] for event in got[0]] == list(range(20))
        assert got[0] == got[1] == got[2]
        assert got[0][0]["k"] == LONG
    async with subscribe(gateway, compression="deflate", after=got[0][9]["c"]) as resumed:
        assert await events(resumed, 10) == got[0][10:]


async def test_the_compressed_bytes_are_the_same_for_all_who_agreed_on_them(gateway):
    port = int(gateway.url.rsplit(":", 1)[1])
    lines = []
    for offer in ("permessage-deflate", "permessage-deflate; client_max_window_bits", None):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        extension = "" if offer is None else f"Sec-WebSocket-Extensions: {offer}\r\n"
        writer.write(
            f"GET /v1/topics/orders HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{extension}"
            f"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
            f"Authorization: Bearer {gateway.token()}\r\n\r\n".encode()
        )
        await reader.readuntil(b"\r\n\r\n")
        await reader.readuntil(b"}")  # the open notice
        lines.append((reader, writer))
    await gateway.commit(orders_batch([(LONG, 7, "x"), ("end", 8, "x")]))
    first, second, plain = [await asyncio.wait_for(reader.readuntil(b'"region":"x"}}'), 5) for reader, _ in lines]
    assert first == second, "up to the short event at the end, which is not compressed"
    assert len(first) < len(plain) / 2 + 200
    assert json.loads(messages(first)[0][1])["k"] == LONG
    for _, writer in lines:
        writer.close()


async def test_the_client_of_aiohttp_reads_compressed_events(gateway, http):
    url = f"{gateway.url}/v1/topics/orders"
    async with http.ws_connect(url, headers=gateway.headers(), compress=15) as ws:
        assert ws.compress
        await ws.receive_json()
        await ws.send_str("x" * 2_000)  # compressed by the client, without a word that we know
        for n in range(3):
            await gateway.commit(orders_batch([(LONG, n, "x")]))
        got = [await ws.receive_json(timeout=5) for _ in range(3)]
    assert [event["d"]["n"] for event in got] == [0, 1, 2]


async def test_chromium_reads_compressed_events(gateway, need):
    program = shutil.which("chromium")
    need("chromium", program is not None, "install chromium")
    await gateway.commit(orders_batch([(LONG, 1, "x"), ("short", 2, "x"), (LONG, 3, "x")]))
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=FLAGS)
        page = await browser.new_page()
        await page.goto(f"{gateway.url}/oauth/jwks.json")  # any page of the same origin
        found = await page.evaluate(
            """async token => {
                const headers = {authorization: "Bearer " + token, "content-type": "application/json"};
                const body = JSON.stringify({topic: "orders"});
                const {ticket} = await (await fetch("/v1/tickets", {method: "POST", headers, body})).json();
                const ws = new WebSocket(`ws://${location.host}/v1/topics/orders?after=earliest&ticket=${ticket}`);
                const got = [];
                await new Promise((done, failed) => {
                    ws.onmessage = m => { got.push(JSON.parse(m.data)); if (got.length === 4) done(); };
                    ws.onclose = e => failed(new Error(e.code + e.reason));
                });
                return {extensions: ws.extensions, got: got.slice(1)};
            }""",
            gateway.token(),
        )
        await browser.close()
    assert "permessage-deflate" in found["extensions"]
    assert [(event["k"], event["d"]["n"]) for event in found["got"]] == [(LONG, 1), ("short", 2), (LONG, 3)]
