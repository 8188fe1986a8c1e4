"""WebSocket: aiohttp's handshake and reader, our own writer of frames made beforehand (RFC 6455).

Shared frames go straight to the transport, one write a flush. Whatever is written is whole frames, so pings and the
close frame can come in between. No compression in this version.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import WSCloseCode, WSMsgType, web

from penstock_publish.metrics import CLOSED_CONNECTIONS
from penstock_publish.settings import PublishSettings
from penstock_publish.topics.framing import PING_FRAME, Encoding, close_reason
from penstock_publish.topics.session import Close
from penstock_publish.topics.subscribe import Prepared, Subscriber

__all__ = ["serve_websocket"]

#: What the other side did wrong, by close code (RFC 6455, 7.4.1).
_REASONS = {
    WSCloseCode.PROTOCOL_ERROR: "bad_request",
    WSCloseCode.UNSUPPORTED_DATA: "bad_request",
    WSCloseCode.INVALID_TEXT: "bad_request",
    WSCloseCode.MESSAGE_TOO_BIG: "too_large",
}
_ENDED = (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR)


async def serve_websocket(
    request: web.Request, prepared: Prepared, subscriber: Subscriber, *, settings: PublishSettings
) -> web.StreamResponse:
    """Upgrade and serve until one side closes."""
    socket = _Socket(
        timeout=settings.close_wait_s, autoping=False, compress=False, max_msg_size=settings.inbound_bytes_max
    )
    await socket.prepare(request)
    transport = request.transport
    if transport is None:
        return socket
    outlet = _WebSocketOutlet(socket, transport, close_wait_s=settings.close_wait_s)
    try:
        async with subscriber.serving(prepared, outlet) as connection:
            socket.resume = lambda: connection.session.cursor_text
            while True:
                message = await socket.receive()
                if message.type in _ENDED:
                    break
                connection.session.heard()
                if message.type is WSMsgType.PING and not outlet.gone():
                    await socket.pong(message.data)
    finally:
        await outlet.closed()
    return socket


class _Socket(web.WebSocketResponse):
    """Closes that the library makes by itself, such as 1009, get a reason in the form of ours."""

    resume: Callable[[], str] | None = None  # the cursor after what was sent

    async def close(self, *, code: int = WSCloseCode.OK, message: bytes = b"", drain: bool = True) -> bool:
        """See aiohttp."""
        if not message and code in _REASONS:
            after = None if self.resume is None else self.resume()
            message = close_reason(_REASONS[WSCloseCode(code)], retry_ms=None, after=after)
        return await super().close(code=code, message=message, drain=drain)


class _WebSocketOutlet:
    """Implements `Outlet`."""

    encoding = Encoding.WS

    def __init__(self, socket: web.WebSocketResponse, transport: asyncio.Transport, *, close_wait_s: float) -> None:
        self._socket = socket
        self._transport = transport
        self._close_wait_s = close_wait_s
        self._closing: asyncio.Task[None] | None = None
        self.unsent_bytes = transport.get_write_buffer_size

    def write(self, data: bytes) -> None:
        """See `Outlet`."""
        if not self._transport.is_closing() and self._closing is None:
            self._transport.write(data)

    def ping(self) -> None:
        """See `Outlet`."""
        self.write(PING_FRAME)

    def gone(self) -> bool:
        """See `Outlet`."""
        return self._transport.is_closing()

    def close(self, close: Close, after: str) -> None:
        """See `Outlet`."""
        if self._closing is None:
            CLOSED_CONNECTIONS.labels(str(close.code)).inc()
            reason = close_reason(close.error, retry_ms=close.retry_ms, after=after)
            self._closing = asyncio.create_task(self._close(close.code, reason))

    async def closed(self) -> None:
        """Wait until a close of ours is through."""
        if self._closing is not None:
            await asyncio.gather(self._closing, return_exceptions=True)

    async def _close(self, code: int, reason: bytes) -> None:
        try:
            async with asyncio.timeout(2 * self._close_wait_s):
                await self._socket.close(code=code, message=reason)
        except TimeoutError:
            pass
        finally:
            if self._transport.get_write_buffer_size():  # the other side does not read: it will not get the rest
                self._transport.abort()
