"""An echo on the WebSocket edge, as subscribers have it, and the same behind the tunnel of forwarded sockets."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web
from publish.conftest import loopback_socket, serving

from penstock_publish.door.tunnel import Tunnel
from penstock_publish.settings import PublishSettings
from penstock_publish.topics.framing import frame
from penstock_publish.topics.wire import UPGRADED, Wire, Wires, take_over

__all__ = ["ECHO_PATH", "echo_edge", "forwarded_echo"]

ECHO_PATH = "/echo"


@asynccontextmanager
async def echo_edge(settings: Mapping[str, object]) -> AsyncIterator[int]:
    """The port of an edge that sends back what it is sent, at `ECHO_PATH`; `settings` of `PublishSettings`."""
    wires = Wires(PublishSettings.model_validate(settings))

    async def upgrade(request: web.Request) -> web.StreamResponse:
        wire = take_over(request, wires)
        wire.serve(_echo(wire))
        return UPGRADED

    sock = loopback_socket()
    async with serving(sock, [web.get(ECHO_PATH, upgrade)]):
        yield sock.getsockname()[1]
        async with asyncio.timeout(5):
            await wires.closed()


@asynccontextmanager
async def forwarded_echo(settings: Mapping[str, object]) -> AsyncIterator[int]:
    """The port of a place that forwards to an `echo_edge`, as the door and upstreams do."""
    async with echo_edge(settings) as port, aiohttp.ClientSession() as session:

        async def join(request: web.Request) -> web.StreamResponse:
            inner = await session.ws_connect(f"http://127.0.0.1:{port}{ECHO_PATH}")
            outer = web.WebSocketResponse(autoclose=False, compress=False, timeout=2)
            await outer.prepare(request)
            await Tunnel(outer, inner, retry_after_s=1.0).run()
            return outer

        sock = loopback_socket()
        async with serving(sock, [web.get(ECHO_PATH, join)]):
            yield sock.getsockname()[1]


async def _echo(wire: Wire) -> None:
    while (message := await wire.receive()) is not None:
        if isinstance(message, str):
            wire.write(frame([message.encode()], (), wire.encoding))
        else:  # subscribers are sent text only: the same frame but for its opcode, which is one more
            sent = frame([message], (), wire.encoding)
            wire.write(bytes([sent[0] + 1]) + sent[1:])
