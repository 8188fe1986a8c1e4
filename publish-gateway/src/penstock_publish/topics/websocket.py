"""WebSocket: a topic on a wire, until one side closes."""

from __future__ import annotations

from aiohttp import web

from penstock_publish.topics.subscribe import Prepared, Subscriber
from penstock_publish.topics.wire import UPGRADED, Wire, take_over

__all__ = ["serve_websocket"]


async def serve_websocket(request: web.Request, prepared: Prepared, subscriber: Subscriber) -> web.StreamResponse:
    """Upgrade; the socket is served from then on without its request."""
    wire = take_over(request, subscriber.wires)
    wire.serve(_serve(wire, prepared, subscriber))
    return UPGRADED


async def _serve(wire: Wire, prepared: Prepared, subscriber: Subscriber) -> None:
    async with subscriber.serving(prepared, wire) as connection:
        session = connection.session
        wire.heard = session.heard
        wire.resume = lambda: session.cursor_text
        while await wire.receive() is not None:
            pass  # a subscriber has nothing to say yet
