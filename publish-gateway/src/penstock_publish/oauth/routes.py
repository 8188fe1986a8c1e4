"""HTTP side of OAuth2 for programs: token, revocation, introspection, keys, metadata (RFC 6749, 7009, 7662, 8414)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from urllib.parse import parse_qsl

import msgspec
from aiohttp import web

from penstock.http.problem import guarded
from penstock.http.resource_metadata import resource_metadata_routes
from penstock_publish.authority import Authority, EmbeddedServer
from penstock_publish.bodies import read_body
from penstock_publish.metrics import TOKENS_ISSUED
from penstock_publish.oauth.clients import GRANTS
from penstock_publish.oauth.person_grants import ALL_AUTH_METHODS
from penstock_publish.oauth.server import OAuthReply
from penstock_publish.oauth.token_endpoints import SECRET_METHODS

__all__ = ["SCOPES", "oauth_routes"]

SCOPES = ("*:read", "data:read", "data:query", "ingest:write", "apps:admin", "applications:write")
#: Pages of other origins log people in, too. Nothing here looks at a cookie, so they learn nothing by it.
_ANY_ORIGIN = {"Access-Control-Allow-Origin": "*"}
_FORM = "application/x-www-form-urlencoded"


def oauth_routes(authority: Authority) -> Sequence[web.AbstractRouteDef]:
    """Routes of the authorization server where it is embedded, and of the protected resource's metadata always."""
    resource = resource_metadata_routes(
        authority.public_url, issuers=lambda: authority.access.issuers.names, scopes=SCOPES
    )
    if authority.embedded is None:
        return resource
    endpoints = _Endpoints(authority, authority.embedded)
    return [
        *resource,
        web.get("/.well-known/oauth-authorization-server", endpoints.server_metadata),
        web.get("/oauth/jwks.json", endpoints.jwks),
        web.get("/oauth/revocations", endpoints.revocations),
        web.post("/oauth/token", guarded(endpoints.token)),
        web.post("/oauth/revoke", guarded(endpoints.revoke)),
        web.post("/oauth/introspect", guarded(endpoints.introspect)),
    ]


class _Endpoints:
    def __init__(self, authority: Authority, embedded: EmbeddedServer) -> None:
        self._authority = authority
        self._embedded = embedded
        self._listed: tuple[object, bytes, str] = (None, b"", "")  # what the list was made of, its body and tag

    async def token(self, request: web.Request) -> web.Response:
        form = await self._form(request)
        if isinstance(form, web.Response):
            return form
        reply = await self._embedded.token(form, _client_headers(request), request.remote or "")
        TOKENS_ISSUED.labels(str(reply.status)).inc()
        self._authority.end_tokens(reply.revoked)  # of a code or refresh token that was used twice
        return _respond(reply)

    async def revoke(self, request: web.Request) -> web.Response:
        form = await self._form(request)
        if isinstance(form, web.Response):
            return form
        reply = await self._embedded.revoke(form, _client_headers(request), request.remote or "")
        self._authority.end_tokens(reply.revoked)
        return _respond(reply)

    async def introspect(self, request: web.Request) -> web.Response:
        form = await self._form(request)
        if isinstance(form, web.Response):
            return form
        headers = _client_headers(request)
        return _respond(await self._embedded.introspect(form, headers, request.remote or ""))

    async def jwks(self, request: web.Request) -> web.Response:
        return _json(self._embedded.keys.public_jwks(), cache="public, max-age=300")

    async def revocations(self, request: web.Request) -> web.Response:
        """`{"revoked": [{"jti", "exp"}], "next", "whole"}` for the other services, as public as the keys: ids are no
        credentials. `?after=` with `next` of the reply before: what is new since then, `whole` false.

        The tag is that of the whole list. It stands for the keys, too, so that who follows the list learns of keys
        that were replaced.
        """
        keys = " ".join(sorted(self._embedded.keys.verifying))
        made_of = (self._authority.revocations_version, keys)
        if self._listed[0] != made_of:  # kept: who asks needs no right, and the list may be long
            whole = self._authority.revocations()
            named = msgspec.json.encode(whole.revoked) + keys.encode()
            self._listed = made_of, msgspec.json.encode(whole), f'"{hashlib.sha256(named).hexdigest()[:32]}"'
        _, body, tag = self._listed
        headers = {"ETag": tag, "Cache-Control": "no-cache"}
        if request.headers.get("If-None-Match") == tag:
            return web.Response(status=304, headers=headers)
        if (news := self._authority.revocations_after(request.query.get("after", ""))) is not None:
            body = msgspec.json.encode(news)
        return web.Response(body=body, content_type="application/json", headers=headers)

    async def server_metadata(self, request: web.Request) -> web.Response:
        """RFC 8414, section 2."""
        url = self._authority.public_url
        return _json(
            {
                "issuer": url,
                "authorization_endpoint": f"{url}/oauth/authorize",
                "token_endpoint": f"{url}/oauth/token",
                "revocation_endpoint": f"{url}/oauth/revoke",
                "introspection_endpoint": f"{url}/oauth/introspect",
                "jwks_uri": f"{url}/oauth/jwks.json",
                "scopes_supported": SCOPES,
                "response_types_supported": ["code"],
                "response_modes_supported": ["query"],
                "grant_types_supported": sorted(GRANTS),
                "code_challenge_methods_supported": ["S256"],
                "authorization_response_iss_parameter_supported": True,
                "token_endpoint_auth_methods_supported": ALL_AUTH_METHODS,
                "revocation_endpoint_auth_methods_supported": ALL_AUTH_METHODS,
                "introspection_endpoint_auth_methods_supported": SECRET_METHODS,
                "service_documentation": f"{url}/docs",
            },
            cache="public, max-age=300",
        )

    async def _form(self, request: web.Request) -> dict[str, str] | web.Response:
        """The form's fields; errors as RFC 6749, 5.2 wants them, not as problem details."""
        if request.content_type != _FORM:
            return _bad_form(f"send the parameters as {_FORM}")
        body = await read_body(request, self._authority.settings.form_bytes_max)
        try:
            pairs = parse_qsl(body.decode(), keep_blank_values=True)
        except ValueError:
            return _bad_form("the form cannot be read as UTF-8")
        fields = dict(pairs)
        if len(fields) < len(pairs):
            return _bad_form("a parameter was sent twice")
        return {name: value for name, value in fields.items() if value}  # RFC 6749, 3.2: empty is left out


def _client_headers(request: web.Request) -> dict[str, str]:
    authorization = request.headers.get("Authorization")
    return {} if authorization is None else {"Authorization": authorization}


def _bad_form(description: str) -> web.Response:
    return _respond(OAuthReply(400, {"error": "invalid_request", "error_description": description}, {}))


def _respond(reply: OAuthReply) -> web.Response:
    headers = {"Cache-Control": "no-store", "Pragma": "no-cache", **_ANY_ORIGIN, **reply.headers}
    headers.pop("Content-Type", None)
    return web.Response(
        status=reply.status, body=msgspec.json.encode(reply.body), headers=headers, content_type="application/json"
    )


def _json(document: object, *, cache: str) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(document),
        content_type="application/json",
        headers={"Cache-Control": cache, **_ANY_ORIGIN},
    )
