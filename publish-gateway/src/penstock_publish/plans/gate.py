"""Requests held against plans: one place, whether the service behind a path runs here or beyond the door.

A wrapper around handlers. Live connections pass it: they are counted where they are opened (`topics.subscribe`),
those into streams once it is known whose they are (`plans.entering`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from aiohttp import web

from penstock.errors import PenstockError
from penstock.http.problem import Handler, problem
from penstock_publish.authority import Authority
from penstock_publish.plans.entering import counted
from penstock_publish.plans.fields import LIMIT_FIELD, limit_fields
from penstock_publish.plans.meter import Meter
from penstock_publish.plans.metering import Metering
from penstock_publish.plans.passage import PASSAGE, Passage
from penstock_publish.topics.request import Transport, transport_of

__all__ = ["Gate"]

#: The first two parts of metered paths → what their replies deliver beside counting as queries.
_METERED: dict[str, tuple[str, ...]] = {
    "/v1/topics": (),
    "/v1/tickets": (),
    "/v1/data": ("bytes",),
    "/v1/summaries": ("bytes",),
    "/v1/query": ("bytes",),
    "/v1/upstreams": ("bytes",),
}
_PAGES = "/v1/topics/{topic}"
#: Where a request may open a live connection.
_LIVE = frozenset({_PAGES, "/v1/topics"})
_UPSTREAMS = "/v1/upstreams/"
#: Where WebSockets into streams are opened, here or beyond the door.
_CONNECTS = frozenset({"/v1/streams/{stream}/connect", "/v1/streams/{rest:.*}"})
_TOO_MANY = 429


class Gate:
    """Wraps the handlers of metered paths."""

    def __init__(self, authority: Authority, metering: Metering, sockets: Collection[str] = ()) -> None:
        """`sockets`: names of the upstreams that are WebSockets."""
        self._sockets = frozenset(sockets)
        self._authority = authority
        self._metering = metering

    def guard(self, routes: Sequence[web.AbstractRouteDef]) -> list[web.AbstractRouteDef]:
        """The routes, those of metered paths behind the gate."""
        return [self._guarded(route) for route in routes]

    def _guarded(self, route: web.AbstractRouteDef) -> web.AbstractRouteDef:
        if not isinstance(route, web.RouteDef):
            return route
        if route.path in _CONNECTS:
            return web.RouteDef(route.method, route.path, counted(route.handler, self._metering), route.kwargs)
        delivers = _METERED.get("/".join(route.path.split("/")[:3]))
        if delivers is None:
            return route
        if route.path == _PAGES:
            delivers = ("messages", "bytes")
        handler: Handler = route.handler

        async def reply(request: web.Request) -> web.StreamResponse:
            meter = await self._meter_of(request)
            if meter is None:
                return await handler(request)
            if self._opens(request, route.path):
                return await self._passed(request, meter, handler)
            return await self._metered(request, meter, handler, delivers)

        return web.RouteDef(route.method, route.path, reply, route.kwargs)

    async def _meter_of(self, request: web.Request) -> Meter | None:
        """None for callers without a meter, and for those who will be refused by the handler."""
        try:
            principal = await self._authority.access.authenticated(request)
        except PenstockError:
            return None
        return self._metering.of(principal)

    def _opens(self, request: web.Request, path: str) -> bool:
        """Whether the request opens a live connection, which is counted as one."""
        if path.startswith(_UPSTREAMS):
            upgrades = request.headers.get("Upgrade", "").lower() == "websocket"
            return upgrades and request.match_info["upstream"] in self._sockets
        return path in _LIVE and _is_live(request, path)

    async def _passed(self, request: web.Request, meter: Meter, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        if response.status == _TOO_MANY and not response.prepared:
            response.headers.update(limit_fields(meter.standing(self._metering.now_s())))
        return response

    async def _metered(
        self, request: web.Request, meter: Meter, handler: Handler, delivers: tuple[str, ...]
    ) -> web.StreamResponse:
        metering = self._metering
        now_s = metering.now_s()
        hold = meter.query(now_s, delivers)
        if hold is not None:
            error = metering.refusal(meter, hold)
            refusal = problem(error)
            refusal.headers.update(limit_fields(meter.standing(now_s), error))
            return refusal
        passage = request[PASSAGE] = Passage(limit_fields(meter.standing(now_s)))
        response = await handler(request)
        if "bytes" in delivers:
            meter.delivered(passage.events, passage.size_bytes or _size_of(response), metering.now_s())
        if not response.prepared and LIMIT_FIELD not in response.headers:
            response.headers.update(passage.fields)
        return response


def _is_live(request: web.Request, path: str) -> bool:
    """As the handlers of topics find out: a header alone makes no request a free one."""
    try:
        transport = transport_of(request)
    except PenstockError:
        return False
    return transport.live if path == _PAGES else transport is Transport.WEBSOCKET


def _size_of(response: web.StreamResponse) -> int:
    """Bytes of the body before compression."""
    body = response.body if isinstance(response, web.Response) else None
    return len(body) if isinstance(body, bytes) else 0
