"""One request through the door, body and reply as streams: what comes in is sent on before the rest is here.

Where a service has several replicas, the next one is asked if a request cannot have had an effect: it was not sent,
its method changes nothing, or the replica said itself that it did not begin.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Mapping

import aiohttp
import msgspec
from aiohttp import web
from yarl import URL

from penstock.errors import PenstockError
from penstock.http.staying import while_caller_stays
from penstock.observe.traces import current_trace
from penstock_publish.door.headers import headers_back, headers_on
from penstock_publish.door.replicas import Replicas
from penstock_publish.door.service_link import ServiceLink
from penstock_publish.plans.passage import PASSAGE, Passage
from penstock_publish.rest.outgoing import begin
from penstock_publish.settings import DoorSettings

__all__ = ["CallerBody", "forward", "pass_back", "target_of"]

#: Headers that aiohttp would add by itself; the caller's own count.
_AUTOMATIC = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_IDEMPOTENT = _SAFE | {"PUT", "DELETE"}
#: A replica that does not run an event's task refuses to replay it before it begins; another one may run it.
_REPLAY_PATH = "/v1/rejected/replay"
#: What goes on for nobody, at some cost, where its caller has gone.
_ENDS_WITH_CALLER = frozenset({"/v1/query"})
_NOT_BEGUN = frozenset({"not_ready", "draining"})


async def forward(
    request: web.Request, replicas: Replicas, *, bearer: str | None, settings: DoorSettings
) -> web.StreamResponse:
    """The service's reply, status and all. `service_unavailable` while it is away, `too_large` for the body.

    A reply that breaks off breaks off for the caller, too: it is never made to look whole.
    """
    body = CallerBody(request, settings.body_max_bytes)
    repeatable = request.method in _IDEMPOTENT or (request.method == "POST" and request.path == _REPLAY_PATH)
    if replicas.several and repeatable:
        await body.keep(settings.body_kept_max_bytes)
    *before, last = replicas.in_turn()
    for link in before:
        try:
            reply = await _send(request, link, body, bearer=bearer, watch_s=settings.caller_watch_s)
        except _NoReplyError as error:
            if body.may_be_sent_again and (error.unsent or request.method in _SAFE):
                continue
            raise link.away(str(error)) from error
        async with reply:
            refusal = await reply.read() if reply.status == 503 and repeatable and body.may_be_sent_again else b""
            if _code(refusal) in _NOT_BEGUN:
                continue
            replicas.answered(link)
            return await pass_back(request, reply, refusal)
    try:
        reply = await _send(request, last, body, bearer=bearer, watch_s=settings.caller_watch_s)
    except _NoReplyError as error:
        raise last.away(str(error)) from error
    async with reply:
        if reply.status != 503:
            replicas.answered(last)
        return await pass_back(request, reply)


def target_of(link: ServiceLink, request: web.Request) -> URL:
    """Where a request goes: the same path and query, byte for byte; `bad_request` for a path with dots."""
    path = request.raw_path.partition("?")[0].lower().replace("%2e", ".")
    if not path.startswith("/") or any(part in (".", "..") for part in path.split("/")):
        raise PenstockError("bad_request", "a path with '.' or '..' in it is not forwarded")
    return URL(link.url + request.raw_path, encoded=True)


async def pass_back(
    request: web.Request,
    reply: aiohttp.ClientResponse,
    begun: bytes = b"",
    *,
    headers: Mapping[str, str] | None = None,
    size_max_bytes: int | None = None,
) -> web.StreamResponse:
    """The reply as it comes; `begun`: what has been read of it. `headers`: those of the reply to pass, if not all.

    One that breaks off, or gets longer than `size_max_bytes`, breaks off for the caller.
    """
    passing = headers_back(reply.headers) if headers is None else headers
    response = web.StreamResponse(status=reply.status, reason=reply.reason, headers=passing)
    passage = request.get(PASSAGE) or Passage({})
    response.headers.update(passage.fields)
    passage.size_bytes = len(begun)
    pieces = begin(request, response)
    await response.prepare(request)
    try:
        if begun:
            await pieces.write(response, begun)
        async for chunk in reply.content.iter_any():
            passage.size_bytes += len(chunk)
            if size_max_bytes is not None and passage.size_bytes > size_max_bytes:
                raise ConnectionResetError("the reply is too long")
            await pieces.write(response, chunk)  # waits while the caller does not read
        await pieces.end(response)
    except (aiohttp.ClientError, TimeoutError, ConnectionResetError):
        if request.transport is not None:
            request.transport.abort()
    return response


class CallerBody:
    """The caller's body, counted while it passes, or kept so that it can pass again."""

    def __init__(self, request: web.Request, limit_bytes: int) -> None:
        """`too_large` for one that says it is."""
        self._request, self._limit_bytes = request, limit_bytes
        self._kept: bytes | None = None
        self._begun = False
        self.too_large: PenstockError | None = None
        if (request.content_length or 0) > limit_bytes:
            raise self._refusal()

    async def keep(self, limit_bytes: int) -> None:
        """Read it whole, if it says that it is no longer than this."""
        length = self._request.content_length
        if length is not None and 0 < length <= limit_bytes:
            self._kept = await self._request.content.readexactly(length)

    @property
    def may_be_sent_again(self) -> bool:
        """Whether nothing of it is gone."""
        return self._kept is not None or not self._begun

    def data(self) -> bytes | AsyncIterator[bytes] | None:
        """What to send."""
        if self._kept is not None:
            return self._kept
        return self._chunks() if self._request.body_exists else None

    async def _chunks(self) -> AsyncIterator[bytes]:
        """As they come; ends with `too_large` beyond the limit, which aiohttp turns into an error of its own."""
        self._begun = True
        size_bytes = 0
        async for chunk in self._request.content.iter_any():
            size_bytes += len(chunk)
            if size_bytes > self._limit_bytes:
                self.too_large = self._refusal()
                raise self.too_large
            yield chunk

    def _refusal(self) -> PenstockError:
        return PenstockError("too_large", f"the body is longer than {self._limit_bytes} bytes; send it in parts")


class _NoReplyError(Exception):
    """No reply came; `unsent`: the request never left, since there was no connection."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error) or type(error).__name__)
        self.unsent = isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError))


async def _send(
    request: web.Request, link: ServiceLink, body: CallerBody, *, bearer: str | None, watch_s: float
) -> aiohttp.ClientResponse:
    asking = link.session.request(
        request.method,
        target_of(link, request),
        headers=headers_on(request.headers, bearer=bearer, trace=current_trace()),
        data=body.data(),
        allow_redirects=False,
        skip_auto_headers=_AUTOMATIC,
    )
    try:
        if request.path in _ENDS_WITH_CALLER:
            return await while_caller_stays(request, _reply_of(asking), watch_s=watch_s)
        return await asking
    except (aiohttp.ClientError, TimeoutError) as error:
        if body.too_large is not None:
            raise body.too_large from None
        raise _NoReplyError(error) from error


async def _reply_of(asking: Awaitable[aiohttp.ClientResponse]) -> aiohttp.ClientResponse:
    return await asking


def _code(problem: bytes) -> str:
    try:
        return str(msgspec.json.decode(problem)["code"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return ""
