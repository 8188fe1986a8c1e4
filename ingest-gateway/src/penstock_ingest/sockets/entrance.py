"""Who opens a socket: a token in a header, a subprotocol, the page's cookie, or the first message.

As at the publish gateway's sockets, but for tickets: those are bound to a topic.
"""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from penstock.errors import PenstockError
from penstock.http.access import Access, Principal
from penstock.http.credentials import SESSION_COOKIE, refuse_token_in_url
from penstock.http.subprotocol import offered

__all__ = ["WRITE", "Entry", "admit_caller"]

WRITE = "ingest:write"


@dataclass(frozen=True, slots=True)
class Entry:
    """`principal` None: the token comes in the first message. `token`: checked again while the socket is open."""

    principal: Principal | None
    token: str
    subprotocol: str | None


async def admit_caller(request: web.Request, access: Access, stream: str) -> Entry:
    """The caller of an upgrade, who may send events to `stream`; errors as of `Access.require`, and `bad_request`.

    A cookie counts from a page of our own origin only, as browsers send it with upgrades of any page.
    """
    refuse_token_in_url(request)
    if "ticket" in request.query:
        raise PenstockError(
            "bad_request", "tickets are for topics; offer the token as a subprotocol, or ?auth=message"
        )
    subprotocol, bearer = offered(request)
    if "Authorization" in request.headers:
        if bearer is not None:
            raise PenstockError("bad_request", "send one credential: the header or a subprotocol")
        principal = await access.require(request, WRITE, writes=stream)
        _, _, token = request.headers["Authorization"].partition(" ")
        return Entry(principal, token.strip(), subprotocol)
    if bearer is not None:
        return Entry(await access.require_token(bearer, WRITE, writes=stream), bearer, subprotocol)
    if "auth" in request.query:
        if request.query["auth"] != "message":
            raise PenstockError("bad_request", "auth is 'message': the token comes in the first message")
        return Entry(None, "", subprotocol)  # a cookie does not count: who asks for this brings a token
    principal = await access.require(request, WRITE, writes=stream)
    return Entry(principal, request.cookies.get(SESSION_COOKIE, ""), subprotocol)
