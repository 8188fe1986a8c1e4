"""Close codes through the tunnel to a service: none passes that may not be sent, in either direction."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from multidict import CIMultiDict
from publish.autobahn_cases import CLOSE, TEXT, client_frame
from publish.conftest import loopback_socket, serving
from publish.raw_client import Client, code_of

from penstock_publish.door.tunnel import Tunnel
from penstock_publish.topics.frame_reader import CloseFrame, FrameReader, Message, Refusal
from penstock_publish.topics.framing import Encoding, close_frame, frame
from penstock_publish.topics.upgrade import shake_hands


class Service:
    """Sends what it is told to on the first message, and keeps the code with which the tunnel closes."""

    def __init__(self, says: bytes = b"") -> None:
        self.says = says
        self.heard: asyncio.Future[int | str | None] = asyncio.get_running_loop().create_future()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = CIMultiDict(line.split(": ", 1) for line in head[1:] if line)
        writer.write(shake_hands(headers).reply)
        frames = FrameReader(limit_bytes=1_000)
        try:
            while not self.heard.done() and (data := await reader.read(1_000)):
                for found in frames.feed(data):
                    if isinstance(found, Message):
                        writer.write(self.says)
                    elif isinstance(found, CloseFrame):
                        self.heard.set_result(found.code)
        except Refusal as refusal:
            self.heard.set_result(str(refusal))
        writer.write(close_frame(1000, b""))
        writer.close()


@asynccontextmanager
async def caller_of(service: Service) -> AsyncIterator[Client]:
    """A caller on the other side of the tunnel."""
    server = await asyncio.start_server(service.serve, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def join(request: web.Request) -> web.StreamResponse:
        inner = await session.ws_connect(address)
        outer = web.WebSocketResponse(autoclose=False, compress=False, timeout=1)
        await outer.prepare(request)
        await Tunnel(outer, inner, retry_after_s=1.0).run()
        return outer

    sock = loopback_socket()
    async with server, aiohttp.ClientSession() as session, serving(sock, [web.get("/echo", join)]):
        client = await Client.connect(sock.getsockname()[1])
        try:
            async with asyncio.timeout(5):
                yield client
        finally:
            await client.close()


@pytest.mark.parametrize(
    ("sent", "answer", "heard"),
    [
        (1000, 1000, 1000),
        (1001, 1001, 1001),
        (4999, 4999, 4999),
        (None, 1000, 1000),
        (1006, 1002, 1001),
        (5000, 1002, 1001),
        (65_535, 1002, 1001),
    ],
)
async def test_a_caller_is_answered_with_its_code_which_the_service_hears_if_it_may_be_sent(sent, answer, heard):
    service = Service()
    async with caller_of(service) as client:
        await client.send(client_frame(CLOSE, b"" if sent is None else sent.to_bytes(2, "big")))
        [(first, payload)] = await client.rest()
        assert (first, code_of(payload)) == (CLOSE, answer)
        assert await service.heard == heard


@pytest.mark.parametrize(
    ("sent", "wanted"), [(1000, 1000), (4000, 4000), (None, 1000), (1006, 4503), (5000, 4503), (65_535, 4503)]
)
async def test_a_code_of_the_service_reaches_the_caller_if_it_may_be_sent(sent, wanted):
    service = Service(frame([b"before"], (), Encoding.WS) + close_frame(sent, b""))
    async with caller_of(service) as client:
        await client.send(client_frame(TEXT, b"go on"))
        (_, text), (first, payload) = await client.rest()
        assert (text, first, code_of(payload)) == (b"before", CLOSE, wanted)
