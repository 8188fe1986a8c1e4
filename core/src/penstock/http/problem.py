"""Errors on the wire: RFC 9457 problem details. The only place where codes become HTTP replies."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping

import msgspec
from aiohttp import web

from penstock.errors import PenstockError

__all__ = ["Handler", "guarded", "members_of", "problem"]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def problem(error: PenstockError) -> web.Response:
    """`application/problem+json` with `type` = `/errors/<code>`, plus the members of `error.extra`."""
    extra = dict(error.extra)
    headers = {}
    authenticate = extra.pop("www_authenticate", None)
    if isinstance(authenticate, str):
        headers["WWW-Authenticate"] = authenticate
    allow = extra.pop("allow", None)
    if isinstance(allow, str):
        headers["Allow"] = allow
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    return web.Response(
        status=error.status,
        body=msgspec.json.encode(members_of(error, extra)),
        headers=headers,
        content_type="application/problem+json",
    )


def members_of(error: PenstockError, extra: Mapping[str, object]) -> dict[str, object]:
    """Problem details as JSON: `type`, `title`, `status`, `code`, `detail`, and the members of `extra`."""
    return {
        "type": f"/errors/{error.code}",
        "title": error.code.replace("_", " "),
        "status": error.status,
        "code": error.code,
        "detail": error.detail,
        **extra,
    }


def guarded(handler: Handler) -> Handler:
    """Wrap a handler: a PenstockError becomes its problem reply. (A wrapper, not a middleware: it costs nothing.)

    A resuming event stream that can be had later is told when to come back: an EventSource gives up for ever on any
    status but 200 (HTML standard, 9.2.3), also on a server that is just starting.
    """

    async def reply(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except PenstockError as error:
            resumes = "Last-Event-ID" in request.headers and "text/event-stream" in request.headers.get("Accept", "")
            if error.retry_after_s is not None and resumes:
                return _come_back(error.retry_after_s)
            return problem(error)

    return reply


def _come_back(after_s: float) -> web.Response:
    """An event stream that ends at once, with the pause before the next try; the client keeps its last event id."""
    return web.Response(
        text=f"retry: {math.ceil(after_s * 1000)}\n\n",
        content_type="text/event-stream",
        headers={"Cache-Control": "no-store"},
    )
