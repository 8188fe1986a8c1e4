"""A WebSocket through the door: messages both ways, one at a time, so that whoever is slow slows the other side."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress

import aiohttp
from aiohttp import WSMsgType, web

from penstock.errors import PenstockError
from penstock.http.socket_life import Close, close_reason
from penstock_publish.door.entering import FirstMessage
from penstock_publish.door.forward import target_of
from penstock_publish.door.headers import headers_on
from penstock_publish.door.replicas import Replicas
from penstock_publish.door.service_link import ServiceLink
from penstock_publish.settings import DoorSettings

__all__ = ["Delivered", "Tunnel", "open_tunnel"]

#: Called with the data of a message.
Delivered = Callable[[str | bytes], Awaitable[None]]

_CODES = {
    400: "bad_request",
    401: "invalid_token",
    403: "insufficient_scope",
    404: "not_found",
    429: "too_many_requests",
}
#: Close codes below 3000 that may be sent (RFC 6455, 7.4.1, and the registry that it begins).
_SENT = frozenset((*range(1000, 1004), *range(1007, 1015)))
_NORMAL, _GOING_AWAY, _PROTOCOL_ERROR = 1000, 1001, 1002


async def open_tunnel(
    request: web.Request,
    replicas: Replicas,
    *,
    bearer: str | None,
    settings: DoorSettings,
    first: FirstMessage | None = None,
) -> Tunnel:
    """Connect to the service first, so that its refusal is an HTTP reply to the caller; then upgrade the caller.

    A replica that is away, or refuses with 503 or 429, has not begun anything: the next one is asked.
    """
    *before, last = replicas.in_turn()
    for link in before:
        try:
            return await _open(request, link, bearer=bearer, settings=settings, first=first)
        except PenstockError as error:
            if error.code not in ("service_unavailable", "too_many_requests"):
                raise
    return await _open(request, last, bearer=bearer, settings=settings, first=first)


async def _open(
    request: web.Request,
    link: ServiceLink,
    *,
    bearer: str | None,
    settings: DoorSettings,
    first: FirstMessage | None,
) -> Tunnel:
    asked = [name.strip() for name in request.headers.get("Sec-WebSocket-Protocol", "").split(",") if name.strip()]
    try:
        inner = await link.session.ws_connect(
            target_of(link, request),
            headers=headers_on(request.headers, bearer=bearer),
            protocols=asked,
            max_msg_size=settings.message_max_bytes,
            heartbeat=settings.heartbeat_s,
            timeout=aiohttp.ClientWSTimeout(ws_close=settings.close_wait_s),
        )
    except aiohttp.WSServerHandshakeError as error:
        raise _refusal(link, error) from None
    except (aiohttp.ClientError, TimeoutError) as error:
        raise link.away(str(error) or type(error).__name__) from error
    outer = web.WebSocketResponse(
        protocols=[inner.protocol] if inner.protocol else (),
        max_msg_size=settings.message_max_bytes,
        heartbeat=settings.heartbeat_s,
        timeout=settings.close_wait_s,
        autoclose=False,  # `_close_both` answers, with the code that it was sent
        compress=False,
    )
    try:
        await outer.prepare(request)
    except BaseException:
        await inner.close()
        raise
    return Tunnel(outer, inner, retry_after_s=settings.retry_after_s, close_wait_s=settings.close_wait_s, first=first)


class Tunnel:
    """Two sockets joined; `outer` is the caller's."""

    def __init__(
        self,
        outer: web.WebSocketResponse,
        inner: aiohttp.ClientWebSocketResponse,
        *,
        retry_after_s: float,
        close_wait_s: float = 2.0,
        delivered: Delivered | None = None,
        first: FirstMessage | None = None,
    ) -> None:
        """`delivered`: told of each message that the caller got; the next waits until it is done. `first`: told of
        the caller's first one before it passes. `close_wait_s`: how long the service may still answer what came
        before the caller, or the door, closed.
        """
        self.outer, self._inner, self._retry_after_s, self._delivered = outer, inner, retry_after_s, delivered
        self._first, self._close_wait_s = first, close_wait_s
        self._leaving = asyncio.Event()
        self._farewell: tuple[int, bytes] | None = None

    async def run(self) -> None:
        """Until one side closes; the other is closed with the same code, or 4503 where the service went away."""
        on, back = (
            asyncio.create_task(_pump(self.outer, self._inner, first=self._first)),
            asyncio.create_task(_pump(self._inner, self.outer, self._delivered)),
        )
        leaving = asyncio.create_task(self._leaving.wait())
        try:
            await asyncio.wait({on, back, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not back.done() and not (on.done() and on.exception()):
                await self._hear_out(on, back)
        finally:
            for task in (on, back, leaving):
                task.cancel()
            refused, reason, _ = await asyncio.gather(on, back, leaving, return_exceptions=True)
            if isinstance(refused, PenstockError):
                await self._refuse(Close.of(refused))
            await self._close_both(reason if isinstance(reason, bytes) else b"")

    async def close(self, code: int, reason: bytes) -> None:
        """Close the caller's side; `run` sees it and ends."""
        await self.outer.close(code=code, message=reason)

    def leave(self, code: int, reason: bytes) -> None:
        """Close the caller's side once the service has answered what it got."""
        self._farewell = (code, reason)
        self._leaving.set()

    async def _hear_out(self, on: asyncio.Task[bytes], back: asyncio.Task[bytes]) -> None:
        """Nothing more comes of the caller: tell the service, and pass on what it answers until it closes, too."""
        on.cancel()
        code = self.outer.close_code
        sent = _GOING_AWAY if code is None else _sendable(code) or _GOING_AWAY
        with suppress(ConnectionError):
            await self._inner.send_frame(struct.pack("!H", sent), WSMsgType.CLOSE)
        await asyncio.wait({back}, timeout=self._close_wait_s)

    async def _refuse(self, close: Close) -> None:
        await self.outer.close(
            code=close.code, message=close_reason(close.error, retry_ms=close.retry_ms, after=None)
        )

    async def _close_both(self, reason: bytes) -> None:
        """`reason`: that of the service's close frame."""
        if self._farewell is not None:
            leaves_with, why = self._farewell
            await self.outer.close(code=leaves_with, message=why)
            await self._inner.close(code=_GOING_AWAY)
            return
        outer_code, inner_code = self.outer.close_code, self._inner.close_code
        if outer_code is not None:  # it closed, or was refused: an answer, where it has none yet
            code = _sendable(outer_code)
            await self.outer.close(code=code or _PROTOCOL_ERROR)
            await self._inner.close(code=code or _GOING_AWAY)
            return
        code = None if inner_code is None else _sendable(inner_code)
        if code is None:
            hint_ms = round(self._retry_after_s * 1000)
            await self.outer.close(code=4503, message=close_reason("service_unavailable", retry_ms=hint_ms, after=""))
        else:
            await self.outer.close(code=code, message=reason)
        await self._inner.close(code=_GOING_AWAY)


async def _pump(
    source: web.WebSocketResponse | aiohttp.ClientWebSocketResponse,
    sink: web.WebSocketResponse | aiohttp.ClientWebSocketResponse,
    delivered: Delivered | None = None,
    first: FirstMessage | None = None,
) -> bytes:
    """Until `source` is closed; the reason that its close frame gives."""
    while True:
        message = await source.receive()
        if first is not None and message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
            heard, first = first, None
            await heard(message.data)
        if message.type is WSMsgType.TEXT:
            await sink.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await sink.send_bytes(message.data)
        else:
            return str(message.extra or "").encode() if message.type is WSMsgType.CLOSE else b""
        if delivered is not None:
            await delivered(message.data)


def _refusal(link: ServiceLink, error: aiohttp.WSServerHandshakeError) -> PenstockError:
    if error.status not in _CODES:
        return link.away(f"it answers {error.status}")
    extra: dict[str, object] = {}
    if error.headers is not None and (challenge := error.headers.get("WWW-Authenticate")):
        extra["www_authenticate"] = challenge
    return PenstockError(_CODES[error.status], f"{link.role} refuses the connection: {error.message}", extra=extra)


def _sendable(code: int) -> int | None:
    """The code with which to pass on that a side closed with `code`; None: there is none, it may not be sent."""
    if code == 0:  # aiohttp's word for a close frame without a code
        return _NORMAL
    return code if code in _SENT or 3000 <= code <= 4999 else None
