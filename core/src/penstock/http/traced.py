"""A span around a handler, where somebody follows the request."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from penstock.http.problem import Handler
from penstock.observe.traces import SpanKind, Traces, within

__all__ = ["NAME_MAX_CHARS", "traced"]

#: Names come from paths, which callers write.
NAME_MAX_CHARS = 100
_SERVER_ERROR = 500


def traced(handler: Handler, traces: Traces, name: Callable[[web.Request], str]) -> Handler:
    """Wrap a handler that turns errors into replies. Paths only, never the query: it may hold what is secret.

    A WebSocket gets no span: it would end with the connection.
    """

    async def reply(request: web.Request) -> web.StreamResponse:
        parent = traces.of_request(request.headers)
        if parent is None or "Upgrade" in request.headers:
            return await handler(request)
        resource = request.match_info.route.resource
        attributes = {
            "http.request.method": request.method,
            "http.route": "" if resource is None else resource.canonical,
            "url.path": request.path[:NAME_MAX_CHARS],
        }
        span = traces.begin(name(request)[:NAME_MAX_CHARS], parent, kind=SpanKind.SERVER, attributes=attributes)
        with within(span):
            response = await handler(request)
            span.set_attribute("http.response.status_code", response.status)
            if response.status >= _SERVER_ERROR:
                span.set_attribute("error.type", str(response.status))
            return response

    return reply
