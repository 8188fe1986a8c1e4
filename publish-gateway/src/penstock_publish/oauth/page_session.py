"""The page's session: an access token in a cookie that scripts cannot read and other sites cannot send.

`POST /session` trades a client's id and secret for it; visitors from loopback get one unasked where
`auth.page_open` allows it. It is a token like any other: it expires, it can be revoked, it has scopes.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

import msgspec
from aiohttp import web

from penstock.errors import PenstockError
from penstock.http.credentials import SESSION_COOKIE, refuse_foreign_origin
from penstock.http.problem import guarded
from penstock_publish.authority import Authority, EmbeddedServer
from penstock_publish.bodies import read_json
from penstock_publish.oauth.client_credentials import is_visible_ascii
from penstock_publish.oauth.clients import PAGE_CLIENT

__all__ = ["is_loopback_request", "is_open_to", "open_session", "page_session_routes", "set_session_cookie"]

#: Headers of proxies: behind one on the same machine everybody comes from loopback, and Host may be the proxy's own.
_OF_PROXIES = ("Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP")


class _Credentials(msgspec.Struct):
    client_id: str
    client_secret: str


def page_session_routes(authority: Authority) -> Sequence[web.AbstractRouteDef]:
    """`POST /session` and `DELETE /session`, where the authorization server is embedded."""
    if authority.embedded is None:
        return []
    sessions = _Sessions(authority, authority.embedded)
    return [web.post("/session", guarded(sessions.create)), web.delete("/session", guarded(sessions.delete))]


def open_session(authority: Authority, request: web.Request, *, response: web.StreamResponse) -> bool:
    """Set the session cookie on a reply to `GET /`; False where the visitor must log in.

    A valid session is kept. `loopback` asks for both a loopback peer and a loopback name in Host: a foreign name
    that was pointed at 127.0.0.1 (DNS rebinding) gets nothing.
    """
    if _has_session(authority, request):
        return True
    embedded = authority.embedded
    if embedded is None or not is_open_to(authority, request):
        return False
    set_session_cookie(authority, response, embedded.issuer.issue(PAGE_CLIENT, authority.settings.page_scope))
    return True


def is_open_to(authority: Authority, request: web.Request) -> bool:
    """True if `auth.page_open` lets this visitor in without a secret."""
    mode = authority.settings.page_open
    return mode == "always" or (mode == "loopback" and is_loopback_request(request))


def is_loopback_request(request: web.Request) -> bool:
    """True if both the peer and the Host header are loopback, and no proxy says that it speaks for somebody else."""
    if any(name in request.headers for name in _OF_PROXIES):
        return False
    host = request.host.rsplit(":", 1)[0].strip("[]") if not request.host.endswith("]") else request.host.strip("[]")
    return _is_loopback(request.remote or "") and (host == "localhost" or _is_loopback(host))


def set_session_cookie(authority: Authority, response: web.StreamResponse, token: str) -> None:
    """Make an access token the session of the page."""
    response.set_cookie(
        SESSION_COOKIE,
        token,
        max_age=authority.settings.token_lifetime_s,
        path="/",
        httponly=True,
        samesite="Strict",
        secure=authority.public_url.startswith("https:"),
    )


class _Sessions:
    def __init__(self, authority: Authority, embedded: EmbeddedServer) -> None:
        self._authority = authority
        self._embedded = embedded

    async def create(self, request: web.Request) -> web.Response:
        """Log in with a client's id and secret."""
        limit = self._authority.settings.form_bytes_max
        credentials = await read_json(request, limit, shape=_Credentials)
        refuse_foreign_origin(
            request, own=(self._authority.public_url,), needs_proof=False
        )  # JSON: no simple request
        for name, text in msgspec.structs.asdict(credentials).items():
            if not is_visible_ascii(text):
                raise PenstockError("bad_request", f"{name} has characters that it cannot have")
        client = await self._embedded.client(credentials.client_id, credentials.client_secret, request.remote or "")
        if client is None:
            raise PenstockError(
                "unauthorized", "no such client, or not its secret; see client.json in the data folder"
            )
        response = _json({"scope": client.scope, "expires_in": self._embedded.issuer.lifetime_s})
        set_session_cookie(self._authority, response, self._embedded.issuer.issue(client.client_id, client.scope))
        return response

    async def delete(self, request: web.Request) -> web.Response:
        """Log out: the token behind the cookie is revoked."""
        if "Authorization" in request.headers:
            raise PenstockError("bad_request", "this ends the session of a cookie; POST /oauth/revoke ends a token")
        principal = self._authority.access.identify(request)
        await self._embedded.remember_revoked(principal)
        self._authority.revoked_now(principal)
        response = web.Response(status=204)
        response.del_cookie(SESSION_COOKIE, path="/")
        return response


def _has_session(authority: Authority, request: web.Request) -> bool:
    if SESSION_COOKIE not in request.cookies or "Authorization" in request.headers:
        return False
    try:
        authority.access.identify(request)
    except PenstockError:
        return False
    return True


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _json(document: object) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(document), content_type="application/json", headers={"Cache-Control": "no-store"}
    )
