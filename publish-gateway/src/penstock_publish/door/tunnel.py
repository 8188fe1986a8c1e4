"""A WebSocket through the door: messages both ways, one at a time, so that whoever is slow slows the other side."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp
from aiohttp import WSMsgType, web

from penstock.errors import PenstockError
from penstock.http.socket_life import close_reason
from penstock_publish.door.forward import target_of
from penstock_publish.door.headers import headers_on
from penstock_publish.door.replicas import Replicas
from penstock_publish.door.service_link import ServiceLink
from penstock_publish.settings import DoorSettings

__all__ = ["Delivered", "Tunnel", "open_tunnel"]

#: Called with the data of a message.
Delivered = Callable[[str | bytes], Awaitable[None]]

_CODES = {400: "bad_request", 401: "invalid_token", 403: "insufficient_scope", 404: "not_found"}
#: Close codes that say what became of a connection and may not be sent (RFC 6455, 7.4.1).
_NOT_SENT = (1005, 1006, 1015)


async def open_tunnel(
    request: web.Request, replicas: Replicas, *, bearer: str | None, settings: DoorSettings
) -> Tunnel:
    """Connect to the service first, so that its refusal is an HTTP reply to the caller; then upgrade the caller.

    A replica that is away or refuses with 503 has not begun anything: the next one is asked.
    """
    *before, last = replicas.in_turn()
    for link in before:
        try:
            return await _open(request, link, bearer=bearer, settings=settings)
        except PenstockError as error:
            if error.code != "service_unavailable":
                raise
    return await _open(request, last, bearer=bearer, settings=settings)


async def _open(request: web.Request, link: ServiceLink, *, bearer: str | None, settings: DoorSettings) -> Tunnel:
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
        compress=False,
    )
    try:
        await outer.prepare(request)
    except BaseException:
        await inner.close()
        raise
    return Tunnel(outer, inner, retry_after_s=settings.retry_after_s)


class Tunnel:
    """Two sockets joined; `outer` is the caller's."""

    def __init__(
        self,
        outer: web.WebSocketResponse,
        inner: aiohttp.ClientWebSocketResponse,
        *,
        retry_after_s: float,
        delivered: Delivered | None = None,
    ) -> None:
        """`delivered`: told of each message that the caller got; the next one waits until it is done."""
        self.outer, self._inner, self._retry_after_s, self._delivered = outer, inner, retry_after_s, delivered

    async def run(self) -> None:
        """Until one side closes; the other is closed with the same code, or 4503 where the service went away."""
        on, back = (
            asyncio.create_task(_pump(self.outer, self._inner)),
            asyncio.create_task(_pump(self._inner, self.outer, self._delivered)),
        )
        try:
            await asyncio.wait({on, back}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (on, back):
                task.cancel()
            await asyncio.gather(on, back, return_exceptions=True)
            await self._close_both()

    async def close(self, code: int, reason: bytes) -> None:
        """Close the caller's side; `run` sees it and ends."""
        await self.outer.close(code=code, message=reason)

    async def _close_both(self) -> None:
        outer_code, inner_code = self.outer.close_code, self._inner.close_code
        if outer_code is None and inner_code in (None, *_NOT_SENT):
            hint_ms = round(self._retry_after_s * 1000)
            await self.outer.close(code=4503, message=close_reason("service_unavailable", retry_ms=hint_ms, after=""))
        elif outer_code is None and inner_code is not None:
            await self.outer.close(code=inner_code)
        await self._inner.close(code=1001 if outer_code is None or outer_code in _NOT_SENT else outer_code)


async def _pump(
    source: web.WebSocketResponse | aiohttp.ClientWebSocketResponse,
    sink: web.WebSocketResponse | aiohttp.ClientWebSocketResponse,
    delivered: Delivered | None = None,
) -> None:
    async for message in source:
        if message.type is WSMsgType.TEXT:
            await sink.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await sink.send_bytes(message.data)
        else:
            return
        if delivered is not None:
            await delivered(message.data)


def _refusal(link: ServiceLink, error: aiohttp.WSServerHandshakeError) -> PenstockError:
    if error.status not in _CODES:
        return link.away(f"it answers {error.status}")
    extra: dict[str, object] = {}
    if error.headers is not None and (challenge := error.headers.get("WWW-Authenticate")):
        extra["www_authenticate"] = challenge
    return PenstockError(_CODES[error.status], f"{link.role} refuses the connection: {error.message}", extra=extra)
