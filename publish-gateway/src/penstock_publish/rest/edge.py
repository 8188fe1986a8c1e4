"""Routes that pages of other origins may use, and whose replies are compressed: one wrapper, whether the service
behind a path runs here or beyond the door.
"""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from penstock.errors import PenstockError
from penstock.http.credentials import origin_of
from penstock.http.problem import Handler, problem
from penstock_publish.rest.origins import Origins
from penstock_publish.rest.outgoing import OUTGOING, Outgoing
from penstock_publish.rest.settings import RestSettings

__all__ = ["RestEdge"]

#: The first two parts of paths for pages of other origins, and whether their replies are compressed. Not those that
#: hold secrets: how well a body compresses says something of what is in it.
_PATHS: dict[str, bool] = {
    "/v1/topics": True,
    "/v1/data": True,
    "/v1/summaries": True,
    "/v1/query": True,
    "/v1/upstreams": True,
    "/v1/streams": False,
    "/v1/subscriptions": False,
    "/v1/tickets": False,
    "/oauth/token": False,
    "/oauth/revoke": False,
}
_ANY = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


class RestEdge:
    """Wraps the handlers of those paths."""

    def __init__(self, settings: RestSettings, *, origins: Sequence[str]) -> None:
        self._settings = settings
        self._origins = Origins(origins, max_age_s=settings.preflight_max_age_s)

    def guard(self, routes: Sequence[web.AbstractRouteDef]) -> list[web.AbstractRouteDef]:
        """The routes, and with origins named one more for the preflights of each path."""
        wrapped: list[web.AbstractRouteDef] = []
        methods: dict[str, list[str]] = {}
        for route in routes:
            compresses = _PATHS.get("/".join(route.path.split("/")[:3])) if isinstance(route, web.RouteDef) else None
            if not isinstance(route, web.RouteDef) or compresses is None:
                wrapped.append(route)
                continue
            wrapped.append(self._wrapped(route, compresses=compresses and self._settings.compression))
            if route.method != "*":
                methods.setdefault(route.path, []).append(route.method)
        if self._origins:
            wrapped += [web.options(path, self._preflights(tuple(found))) for path, found in methods.items()]
        return wrapped

    def _wrapped(self, route: web.RouteDef, *, compresses: bool) -> web.RouteDef:
        handler: Handler = route.handler
        preflight = self._preflights(_ANY) if route.method == "*" and self._origins else None

        async def reply(request: web.Request) -> web.StreamResponse:
            if preflight is not None and request.method == "OPTIONS":
                return await preflight(request)
            fields = self._origins.fields(origin_of(request))
            outgoing = request[OUTGOING] = Outgoing(fields, bool(self._origins), compresses, self._settings)
            response = await handler(request)
            if not response.prepared:
                await outgoing.finish(request, response)
            return response

        return web.RouteDef(route.method, route.path, reply, route.kwargs)

    def _preflights(self, methods: Sequence[str]) -> Handler:
        async def preflight(request: web.Request) -> web.Response:
            asked = request.headers.get("Access-Control-Request-Method")
            try:
                fields = self._origins.preflight(origin_of(request), asked, methods)
            except PenstockError as error:
                return problem(error)
            return web.Response(status=204, headers=fields)

        return preflight
