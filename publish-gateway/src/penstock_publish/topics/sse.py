"""Server-sent events (HTML standard, 9.2): the same lines with the cursor as `id`, so that browsers can resume."""

from __future__ import annotations

import asyncio

from aiohttp import web

from penstock.http.socket_life import Close
from penstock_publish.metrics import CLOSED_CONNECTIONS
from penstock_publish.rest.outgoing import begin
from penstock_publish.topics.entrance import Entrance
from penstock_publish.topics.framing import Encoding
from penstock_publish.topics.limits import Seat
from penstock_publish.topics.subscribe import Prepared, Subscriber

__all__ = ["serve_sse"]

_HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # proxies of the nginx family would otherwise hold events back
}


async def serve_sse(
    request: web.Request,
    prepared: Prepared,
    subscriber: Subscriber,
    entrance: Entrance,
    *,
    seat: Seat,
    cors_origin: str | None,
) -> web.StreamResponse:
    """Stream until one side closes. `cors_origin`: the page of another origin that a ticket was bound to."""
    response = web.StreamResponse(headers=_HEADERS)
    if cors_origin is not None:
        response.headers["Access-Control-Allow-Origin"] = cors_origin
        response.headers["Vary"] = "Origin"
    begin(request, response)
    response.force_close()
    await response.prepare(request)
    transport = request.transport
    if transport is None:
        return response
    wait_s = subscriber.wires.settings.close_wait_s
    outlet = _SseOutlet(transport, chunked=request.version >= (1, 1), close_wait_s=wait_s)
    caller = subscriber.enter(outlet, prepared.principal, seat)
    try:
        entrance.admitted(caller)
        await subscriber.begin(caller, prepared)
        await outlet.ended.wait()
    finally:
        await subscriber.leave(caller)
    return response


class _SseOutlet:
    """Implements `Outlet`. HTTP chunks (RFC 9112, 7.1) are put around the shared bytes here, not in the ring."""

    encoding = Encoding.SSE

    def __init__(self, transport: asyncio.Transport, *, chunked: bool, close_wait_s: float) -> None:
        self._transport = transport
        self._close_wait_s = close_wait_s
        self._chunked = chunked
        self.ended = asyncio.Event()
        self.unsent_bytes = transport.get_write_buffer_size

    def write(self, data: bytes) -> None:
        """See `Outlet`."""
        if self._transport.is_closing():
            self.ended.set()
        elif self._chunked:
            self._transport.writelines((b"%x\r\n" % len(data), data, b"\r\n"))
        else:
            self._transport.write(data)

    def ping(self) -> None:
        """A comment, which no client shows; there is no reply to it, so being silent is no fault here."""
        self.write(b":\n\n")

    def gone(self) -> bool:
        """See `Outlet`."""
        return self._transport.is_closing()

    def close(self, close: Close, after: str | None) -> None:
        """The stream ends; what clients understand of the reason is when to come back."""
        if not self.ended.is_set():
            CLOSED_CONNECTIONS.labels(str(close.code)).inc()
            if close.retry_ms is not None:
                self.write(b"retry: %d\n\n" % max(1, close.retry_ms))
            self.ended.set()
            if self._transport.get_write_buffer_size() == 0:
                return
            if close.error == "slow":
                self._transport.abort()
            else:  # who does not read would otherwise keep what is unsent, and its handler, for ever
                asyncio.get_running_loop().call_later(2 * self._close_wait_s, self._transport.abort)
