"""Rows of drafts: behind the gate, whether the data service runs here or beyond the door.

The data service knows no lifecycle, and need not: what it answers over the public address passes here. For callers
who may not see a draft its relation, and that of its raw events, are not there.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import unquote

from aiohttp import web
from multidict import CIMultiDict

from penstock.errors import PenstockError
from penstock.http.access import Principal
from penstock.http.credentials import JwtAccess
from penstock.http.hidden_relations import HIDDEN_FIELD, write_hidden
from penstock.http.problem import Handler, problem
from penstock_publish.lifecycle.registry import Lifecycles
from penstock_publish.lifecycle.states import sees

__all__ = ["DraftGate", "relation_of"]

_PATHS = ("/v1/data/", "/v1/summaries/")
_RAW = "raw."
_TOLD = ("/v1/query", "/v1/data")  # which relations a reply is of is known behind them only
_HIDDEN_BYTES_MAX = 6000  # of the header that tells the data service; servers take 8 KiB


class DraftGate:
    """Wraps the handlers of rows, summaries, queries and the list of relations."""

    def __init__(self, access: JwtAccess, lifecycles: Lifecycles) -> None:
        self._access = access
        self._lifecycles = lifecycles

    def guard(self, routes: Sequence[web.AbstractRouteDef]) -> list[web.AbstractRouteDef]:
        """The routes, those of relations behind the gate."""
        return [self._guarded(route) for route in routes]

    def _guarded(self, route: web.AbstractRouteDef) -> web.AbstractRouteDef:
        if not isinstance(route, web.RouteDef) or not (route.path.startswith(_PATHS) or route.path in _TOLD):
            return route
        handler: Handler = route.handler
        if route.path in _TOLD:
            return web.RouteDef(route.method, route.path, self._told(handler), route.kwargs)

        async def reply(request: web.Request) -> web.StreamResponse:
            try:
                await self._check(request)
            except PenstockError as error:
                return problem(error)
            return await handler(request)

        return web.RouteDef(route.method, route.path, reply, route.kwargs)

    async def _check(self, request: web.Request) -> None:
        """`unknown_relation` for a draft that is not the caller's to see."""
        await self._lifecycles.load()
        relation = relation_of(request.rel_url.raw_path)
        lifecycle = self._lifecycles.of(relation.removeprefix(_RAW))
        if not sees(lifecycle, None) and not sees(lifecycle, await self._principal(request)):
            raise PenstockError(
                "unknown_relation", f"there is no '{relation[:100]}'; GET /v1/data lists what there is"
            )

    def _told(self, handler: Handler) -> Handler:
        """What a query reads, and what there is, only the data service knows: it is told what is not there for this
        caller.
        """

        async def reply(request: web.Request) -> web.StreamResponse:
            try:
                await self._lifecycles.load()
                hidden = self._lifecycles.hidden_from(None)
                if hidden:
                    hidden = self._lifecycles.hidden_from(await self._principal(request))
                fields = CIMultiDict(request.headers)
                fields.popall(HIDDEN_FIELD, None)
                if hidden:
                    fields[HIDDEN_FIELD] = _hidden_value(hidden)
            except PenstockError as error:
                return problem(error)
            return await handler(request.clone(headers=fields))

        return reply

    async def _principal(self, request: web.Request) -> Principal | None:
        try:
            return await self._access.authenticated(request)
        except PenstockError:
            return None


def _hidden_value(hidden: frozenset[str]) -> str:
    value = write_hidden(hidden)
    if len(value) > _HIDDEN_BYTES_MAX:
        raise PenstockError(
            "service_unavailable", f"a query cannot be kept from {len(hidden)} drafts: publish or retire some of them"
        )
    return value


def relation_of(raw_path: str) -> str:
    """The relation that `/v1/data/<relation>` and paths below it are of."""
    return unquote(raw_path.split("/")[3])
