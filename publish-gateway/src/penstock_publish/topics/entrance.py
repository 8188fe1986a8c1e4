"""Who comes in and what they may read: the credentials of an upgrade, and a topic's scope and mandatory filter.

A token comes to a WebSocket in a header, in a subprotocol, in a cookie of our own page, or in the first message; a
one-time ticket stands for one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from aiohttp import web

from penstock.errors import PenstockError
from penstock.http.access import Principal
from penstock.http.authorization_details import TopicGrant
from penstock.http.credentials import SESSION_COOKIE, origin_of, refuse_token_in_url
from penstock.http.socket_life import Close
from penstock.http.subprotocol import offered
from penstock.model.stream import Relation, StreamSpec
from penstock.ports.log import Log
from penstock_publish.authority import Authority
from penstock_publish.lifecycle.states import ADMIN_SCOPE
from penstock_publish.ticket_office import TicketOffice
from penstock_publish.topics.caller import Caller

__all__ = ["ANY_TOPIC", "Entrance", "Entry", "confined", "may_read", "scope_of"]

#: What a ticket for a WebSocket without a first topic is bound to; no topic has this name.
ANY_TOPIC = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """Who wants to come in. `bearer`: the token, for services that check it themselves; None with a ticket.

    `principal` None: the token comes in the first message. `subprotocol`: what to answer.
    """

    principal: Principal | None
    bearer: str | None
    subprotocol: str | None


class Entrance:
    """Checks callers and what they ask for; one per process."""

    def __init__(self, authority: Authority, log: Log, tickets: TicketOffice) -> None:
        self._authority = authority
        self._log = log
        self._tickets = tickets

    async def admit(self, request: web.Request, topic: str | None) -> Entry:
        """The caller of an upgrade; the errors are those of `JwtAccess.authenticated`, and `bad_request`."""
        refuse_token_in_url(request)
        subprotocol, bearer = offered(request)
        ticket = request.query.get("ticket")
        if "Authorization" in request.headers:
            if bearer is not None or ticket is not None:
                raise PenstockError("bad_request", "send one credential: the header, a subprotocol or a ticket")
            _, _, token = request.headers["Authorization"].partition(" ")
            return Entry(await self._authority.access.authenticated(request), token.strip(), subprotocol)
        if bearer is not None:
            if ticket is not None:
                raise PenstockError("bad_request", "send one credential: a subprotocol or a ticket")
            return Entry(await self._authority.access.verified(bearer), bearer, subprotocol)
        if ticket is not None:
            return Entry(await self.redeem(request, ticket, topic), None, subprotocol)
        if "auth" in request.query:
            if request.query["auth"] != "message":
                raise PenstockError("bad_request", "auth is 'message': the token comes in the first message")
            return Entry(None, None, subprotocol)  # a cookie does not count: who asks for this brings a token
        principal = await self._authority.access.authenticated(request)
        return Entry(principal, request.cookies.get(SESSION_COOKIE), subprotocol)

    async def redeem(self, request: web.Request, ticket: str, topic: str | None) -> Principal:
        """The caller behind a ticket; one for a topic opens that topic only, until a token says more."""
        name = ANY_TOPIC if topic is None else topic
        try:
            principal = await self._tickets.redeem(ticket, name, origin=origin_of(request))
            self._authority.check_current(principal)
        except PenstockError as error:
            raise self._authority.access.challenged(error) from None
        return principal

    async def verified(self, token: str) -> Principal:
        """The caller of a token that came in a message."""
        principal = await self._authority.access.verified(token)
        self._authority.check_current(principal)
        return principal

    def check_current(self, principal: Principal) -> None:
        """`invalid_token` for a caller whose token has been revoked since it was checked, or has expired."""
        try:
            self._authority.check_current(principal)
        except PenstockError as error:
            raise self._authority.access.challenged(error) from None

    def admitted(self, caller: Caller) -> None:
        """Close a transport whose token was revoked after its check, before the hub looked after it."""
        try:
            self._authority.check_current(caller.principal)
        except PenstockError as error:
            caller.close(Close.of(error))

    async def topic(self, principal: Principal, name: str) -> StreamSpec:
        """The topic, if the caller may read it; `unknown_topic`, `insufficient_scope`."""
        spec = (await self._log.catalog()).streams.get(name)
        if spec is None or not spec.publish:
            raise PenstockError("unknown_topic", f"there is no topic '{name[:100]}'; GET /v1/topics lists them")
        if not may_read(principal, spec):
            raise self._authority.access.scope_error(scope_of(spec))
        return spec

    async def stream(self, name: str) -> StreamSpec:
        """A stream that takes events; `unknown_stream`."""
        spec = (await self._log.catalog()).streams.get(name)
        if spec is None or spec.relation is not Relation.SOURCE:
            raise PenstockError("unknown_stream", f"there is no stream '{name[:100]}' that takes events")
        return spec


def scope_of(spec: StreamSpec) -> str:
    """The scope that a subscriber needs."""
    return spec.read_scope


def may_read(principal: Principal, spec: StreamSpec) -> bool:
    """True if the caller may read some rows of the topic."""
    return principal.allows(scope_of(spec))


def confined(principal: Principal, spec: StreamSpec) -> Principal:
    """The caller with nothing but this topic, and as much of it as before: also while it is a draft."""
    scope = scope_of(spec)
    filters = principal.row_filters(scope)
    details = tuple(TopicGrant(frozenset({"read"}), (scope.removesuffix(":read"),), text) for text in filters)
    scopes = principal.scopes & {ADMIN_SCOPE}
    return replace(principal, scopes=scopes if filters else scopes | {scope}, details=details)
