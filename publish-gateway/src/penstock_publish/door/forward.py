"""One request through the door, body and reply as streams: what comes in is sent on before the rest is here."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
from aiohttp import web
from yarl import URL

from penstock.errors import PenstockError
from penstock.observe.traces import current_trace
from penstock_publish.door.headers import headers_back, headers_on
from penstock_publish.door.service_link import ServiceLink
from penstock_publish.settings import DoorSettings

__all__ = ["forward", "target_of"]

#: Headers that aiohttp would add by itself; the caller's own count.
_AUTOMATIC = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


async def forward(
    request: web.Request, link: ServiceLink, *, bearer: str | None, settings: DoorSettings
) -> web.StreamResponse:
    """The service's reply, status and all. `service_unavailable` while it is away, `too_large` for the body.

    A reply that breaks off breaks off for the caller, too: it is never made to look whole.
    """
    body = _Body(request, settings.body_max_bytes)
    try:
        reply = await link.session.request(
            request.method,
            target_of(link, request),
            headers=headers_on(request.headers, bearer=bearer, trace=current_trace()),
            data=body.chunks() if request.body_exists else None,
            allow_redirects=False,
            skip_auto_headers=_AUTOMATIC,
        )
    except (aiohttp.ClientError, TimeoutError) as error:
        if body.too_large is not None:
            raise body.too_large from None
        raise link.away(str(error) or type(error).__name__) from error
    async with reply:
        response = web.StreamResponse(status=reply.status, reason=reply.reason, headers=headers_back(reply.headers))
        await response.prepare(request)
        try:
            async for chunk in reply.content.iter_any():
                await response.write(chunk)  # waits while the caller does not read
        except (aiohttp.ClientError, TimeoutError, ConnectionResetError):
            if request.transport is not None:
                request.transport.abort()
        return response


def target_of(link: ServiceLink, request: web.Request) -> URL:
    """Where a request goes: the same path and query, byte for byte; `bad_request` for a path with dots."""
    path = request.raw_path.partition("?")[0].lower().replace("%2e", ".")
    if not path.startswith("/") or any(part in (".", "..") for part in path.split("/")):
        raise PenstockError("bad_request", "a path with '.' or '..' in it is not forwarded")
    return URL(link.url + request.raw_path, encoded=True)


class _Body:
    """The caller's body, counted while it passes."""

    def __init__(self, request: web.Request, limit_bytes: int) -> None:
        self._request, self._limit_bytes = request, limit_bytes
        self.too_large: PenstockError | None = None
        if (request.content_length or 0) > limit_bytes:
            raise self._refusal()

    async def chunks(self) -> AsyncIterator[bytes]:
        """As they come; ends with `too_large` beyond the limit, which aiohttp turns into an error of its own."""
        size_bytes = 0
        async for chunk in self._request.content.iter_any():
            size_bytes += len(chunk)
            if size_bytes > self._limit_bytes:
                self.too_large = self._refusal()
                raise self.too_large
            yield chunk

    def _refusal(self) -> PenstockError:
        return PenstockError("too_large", f"the body is longer than {self._limit_bytes} bytes; send it in parts")
