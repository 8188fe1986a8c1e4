"""The outlet contract over a real WebSocket server, and what a server that stops reading or refuses does to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from penstock.model.batch import OP_COLUMN
from penstock.model.stream import StreamSpec
from penstock.outlets.options import WebSocketOutletOptions, read_outlet_options
from penstock.outlets.websocket import WebSocketOutlet
from penstock.ports.outlet import BatchRefused, Guarantee, Outlet, OutletUnavailable
from penstock.testing.outlet_contract import STREAM, TABLE, OutletContract, rows


def outlet_to(url: str, spec: StreamSpec = STREAM, **more: str) -> WebSocketOutlet:
    found = read_outlet_options("websocket", {"url": url, "format": "json", **more})
    assert isinstance(found, WebSocketOutletOptions), found
    return WebSocketOutlet(spec, found)


class TestWebSocket(OutletContract):
    guarantee = Guarantee.AT_LEAST_ONCE

    @pytest.fixture(autouse=True)
    async def server(self) -> AsyncIterator[None]:
        self.messages: list[str] = []
        self.headers: list[str | None] = []
        self.connections: list[ServerConnection] = []
        async with serve(self._handle, "127.0.0.1", 0, max_size=100_000) as server:
            self.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/rows"
            yield

    async def _handle(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        self.connections.append(connection)
        self.headers.append(connection.request.headers.get("Authorization"))
        await connection.send("a greeting that nobody asked for")
        async for message in connection:
            self.messages.append(str(message))

    def make(self, spec: StreamSpec) -> Outlet:
        return outlet_to(self.url, spec)

    def away(self, spec: StreamSpec) -> Outlet:
        return outlet_to("ws://127.0.0.1:9/rows", spec)

    async def seen(self, spec: StreamSpec) -> list[Any]:
        found = [json.loads(message) for message in self.messages]
        if spec is not TABLE:
            return found
        left = {}
        for row in found:
            left.pop(row["id"], None)
            if row.pop(OP_COLUMN) != "-D":
                left[row["id"]] = row
        return list(left.values())

    async def test_rows_may_share_a_message_and_headers_are_sent(self):
        for body in ("array", "lines"):
            outlet = outlet_to(self.url, body=body, **{"header.Authorization": "Bearer x"})
            await outlet.open()
            await outlet.deliver(rows(0, 3))
            await outlet.close()
        array, lines = self.messages
        assert [row["id"] for row in json.loads(array)] == [json.loads(line)["id"] for line in lines.split("\n")]
        assert self.headers == ["Bearer x"] * 2

    async def test_a_message_that_is_too_big_is_refused_and_the_next_one_goes_over_a_new_connection(self):
        outlet = self.make(STREAM)
        await outlet.open()
        big = rows(0, 1)
        big.frame[0, "market"] = "x" * 200_000
        with pytest.raises(BatchRefused, match="1009"):
            await outlet.deliver(big)
        await outlet.deliver(rows(1, 1))
        await outlet.close()
        assert [row["id"] for row in await self.seen(STREAM)] == [1]

    async def test_a_server_that_restarts_says_nothing_about_the_rows(self):
        outlet = self.make(STREAM)
        await outlet.open()
        await outlet.deliver(rows(0, 2))
        for connection in self.connections:
            await connection.close(1012)
        with pytest.raises(OutletUnavailable, match="1012"):
            await outlet.deliver(rows(2, 2))
        await outlet.deliver(rows(2, 2))
        await outlet.close()
        assert [row["id"] for row in await self.seen(STREAM)] == [0, 1, 2, 3]

    async def test_a_redirect_is_not_followed_so_that_headers_reach_nobody_else(self):
        def elsewhere(connection: ServerConnection, _: Request) -> Response:
            reply = connection.respond(302, "")
            reply.headers["Location"] = self.url
            return reply

        async with serve(self._handle, "127.0.0.1", 0, process_request=elsewhere) as server:
            url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            outlet = outlet_to(url, **{"header.X-Key": "secret"})
            with pytest.raises(OutletUnavailable, match="302"):
                await outlet.open()
        assert self.connections == []


async def test_a_server_that_stops_reading_is_given_up_in_time():
    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from base64 import b64encode
        from hashlib import sha1

        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        key = next(line.split(": ")[1] for line in head.split("\r\n") if line.startswith("Sec-WebSocket-Key"))
        accept = b64encode(sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()).decode()
        writer.write(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
        )
        await reader.read()
        writer.close()

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    outlet = outlet_to(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/", **{"request.timeout": "100 ms"})
    await outlet.open()
    with pytest.raises(OutletUnavailable, match="no pong"):
        await outlet.deliver(rows(0, 2))
    await outlet.close()
    server.close()
    await server.wait_closed()
