"""An echo on the WebSocket edge: the same reader, writer and limits as subscribers have."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from aiohttp import web
from publish.conftest import loopback_socket, serving

from penstock_publish.settings import PublishSettings
from penstock_publish.topics.framing import frame
from penstock_publish.topics.wire import UPGRADED, Wire, Wires, take_over

__all__ = ["ECHO_PATH", "echo_edge"]

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


async def _echo(wire: Wire) -> None:
    while (message := await wire.receive()) is not None:
        if isinstance(message, str):
            wire.write(frame([message.encode()], (), wire.encoding))
        else:  # subscribers are sent text only: the same frame but for its opcode, which is one more
            sent = frame([message], (), wire.encoding)
            wire.write(bytes([sent[0] + 1]) + sent[1:])
