"""HTTP side of topics: the list, one URL for every transport, and tickets."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from aiohttp import web

from penstock.errors import PenstockError
from penstock.http.access import Principal
from penstock.http.credentials import origin_of, refuse_token_in_url
from penstock.http.problem import guarded
from penstock.model.stream import Relation, StreamSpec
from penstock.ports.clock import Clock
from penstock.ports.intake import Intake
from penstock.ports.log import Log
from penstock_publish.authority import Authority
from penstock_publish.bodies import read_json
from penstock_publish.lifecycle.registry import Lifecycles
from penstock_publish.lifecycle.states import Lifecycle, page_headers, sees
from penstock_publish.settings import PublishSettings
from penstock_publish.ticket_office import TicketOffice
from penstock_publish.topics.conversation import Means
from penstock_publish.topics.entrance import ANY_TOPIC, Entrance, confined, scope_of
from penstock_publish.topics.pages import serve_page
from penstock_publish.topics.request import (
    Transport,
    read_query,
    read_topic_request,
    refuse_parameters,
    transport_of,
)
from penstock_publish.topics.rows import key_columns
from penstock_publish.topics.sse import serve_sse
from penstock_publish.topics.subscribe import Prepared, Subscriber
from penstock_publish.topics.websocket import WebSockets

__all__ = ["TopicRoutes", "scope_of"]


class _TicketRequest(msgspec.Struct):
    topic: str | None  # None: for a WebSocket without a first topic
    origin: str | None = None


class TopicRoutes:
    """Handlers of `/v1/topics`, `/v1/topics/{topic}` and `/v1/tickets`."""

    def __init__(
        self,
        authority: Authority,
        log: Log,
        subscriber: Subscriber,
        lifecycles: Lifecycles,
        *,
        clock: Clock,
        settings: PublishSettings,
        intake: Intake | None = None,
    ) -> None:
        """`intake`: where events go that subscribers send on their sockets."""
        self._authority = authority
        self._lifecycles = lifecycles
        self._log = log
        self._subscriber = subscriber
        self._settings = settings
        self._tickets = TicketOffice(authority.database, clock=clock, settings=settings)
        self.entrance = self._entrance = Entrance(authority, log, self._tickets)
        self._sockets = WebSockets(Means(subscriber, self._entrance, clock, settings, intake))

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """For the listener."""
        return [
            web.get("/v1/topics", guarded(self._list)),
            web.get("/v1/topics/{topic}", guarded(self._topic), allow_head=False),
            web.post("/v1/tickets", guarded(self._ticket)),
        ]

    async def _list(self, request: web.Request) -> web.StreamResponse:
        if transport_of(request) is Transport.WEBSOCKET:
            self._subscriber.admit()
            return await self._socket(request, None)
        principal = await self._authority.access.authenticated(request)
        catalog = await self._log.catalog()
        await self._lifecycles.load()
        topics = [
            _describe(spec, self._lifecycles.of(name))
            for name, spec in sorted(catalog.streams.items())
            if spec.publish and principal.allows(scope_of(spec)) and sees(self._lifecycles.of(name), principal)
        ]
        return _json({"topics": topics})

    async def _topic(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["topic"]
        transport = transport_of(request)
        if transport.live:
            self._subscriber.admit()
        if transport is Transport.WEBSOCKET:
            return await self._socket(request, name)
        refuse_token_in_url(request)
        ticket = request.query.get("ticket")
        if ticket is not None and not transport.live:
            raise PenstockError("bad_request", "a ticket opens a WebSocket or event stream; send a bearer token here")
        if ticket is None:
            principal = await self._authority.access.authenticated(request)
        else:
            principal = await self._entrance.redeem(request, ticket, name)
        spec = await self._entrance.topic(principal, name)
        wanted = read_topic_request(request, spec, transport=transport, settings=self._settings)
        if not transport.live:
            page = await self._subscriber.look_up(spec, wanted, principal)
            reply = await serve_page(request, page, self._log, transport=transport, settings=self._settings)
            if wanted.wait_s:  # meanwhile its token may have been revoked, or have come to its end
                self._entrance.check_current(principal)
            reply.headers.extend(page_headers(name, self._lifecycles.of(name)))
            return reply
        origin = origin_of(request) if ticket is not None else None
        seat = self._subscriber.seat(principal)
        try:
            prepared = await self._subscriber.prepare(spec, wanted, principal)
            return await serve_sse(request, prepared, self._subscriber, self._entrance, seat=seat, cors_origin=origin)
        finally:
            seat.give_back()

    async def _socket(self, request: web.Request, topic: str | None) -> web.StreamResponse:
        """A WebSocket, with a first topic or without."""
        query = request.query  # what is kept of the request: the token may come later

        async def opening(principal: Principal) -> Prepared | None:
            if topic is None:
                refuse_parameters(query)
                return None
            spec = await self._entrance.topic(principal, topic)
            wanted = read_query(query, spec, transport=Transport.WEBSOCKET, settings=self._settings)
            return await self._subscriber.prepare(spec, wanted, principal)

        return await self._sockets.serve(request, await self._entrance.admit(request, topic), opening)

    async def _ticket(self, request: web.Request) -> web.Response:
        principal = await self._authority.access.authenticated(request)
        wanted = await read_json(request, self._settings.body_bytes_max, shape=_TicketRequest)
        name = ANY_TOPIC
        if wanted.topic is not None:
            spec = await self._entrance.topic(principal, wanted.topic)
            await self._lifecycles.check(spec.name, principal)
            name, principal = spec.name, confined(principal, spec)
        origin = wanted.origin or origin_of(request)
        ticket = await self._tickets.issue(principal, name, origin=origin)
        return _json({"ticket": ticket, "expires_in": self._settings.ticket_lifetime_s})


def _describe(spec: StreamSpec, lifecycle: Lifecycle) -> dict[str, object]:
    return {
        "topic": spec.name,
        "app": spec.app,
        "relation": spec.relation.value,
        "scope": scope_of(spec),
        "columns": [{"name": c.name, "type": str(c.type), "nullable": c.nullable} for c in spec.columns],
        "key": list(key_columns(spec)),
        "time_column": spec.time_column,
        "partitions": spec.partitions,
        "early": spec.relation is Relation.TABLE and spec.emit == "early",
        "lifecycle": lifecycle.as_json(),
    }


def _json(document: object) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(document), content_type="application/json", headers={"Cache-Control": "no-store"}
    )
