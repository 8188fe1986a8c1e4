"""The embedded authorization server: Authlib's framework-agnostic base behind a small synchronous adapter.

Grants: client credentials (RFC 6749, 4.4). Endpoints: revocation (RFC 7009). Everything here blocks and runs in the
one worker thread that owns `publish.db`; `oauth.routes` is the asynchronous side.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass

# Authlib ships no type information; what it returns is checked where it leaves this file.
from authlib.oauth2.rfc6749 import AuthorizationServer as AuthlibServer  # type: ignore[import-untyped]
from authlib.oauth2.rfc6749 import (
    ClientCredentialsGrant,
    ClientMixin,
    OAuth2Request,
    TokenMixin,
)
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload  # type: ignore[import-untyped]
from authlib.oauth2.rfc6750 import BearerTokenGenerator  # type: ignore[import-untyped]
from authlib.oauth2.rfc7009 import RevocationEndpoint  # type: ignore[import-untyped]
from joserfc import jwt

from penstock.errors import PenstockError
from penstock.http.access import Principal
from penstock.http.tokens import ALGORITHM, TOKEN_TYPE, TokenVerifier
from penstock.ports.clock import Clock
from penstock_publish.oauth.clients import Client, Clients
from penstock_publish.oauth.keys import SigningKeys

__all__ = ["OAuthReply", "OAuthServer", "TokenIssuer"]

_AUTH_METHODS = ["client_secret_basic", "client_secret_post"]
# Authlib refuses http:// outside loopback; whether the listener needs TLS is decided by the command line, once.
_REQUEST_URI = "https://penstock.invalid/oauth"


@dataclass(frozen=True, slots=True)
class OAuthReply:
    """A reply of the authorization server: status, JSON body, headers."""

    status: int
    body: Mapping[str, object]
    headers: Mapping[str, str]


class TokenIssuer:
    """Signs access tokens (RFC 9068)."""

    def __init__(self, keys: SigningKeys, *, issuer: str, audience: str, lifetime_s: int, clock: Clock) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self.lifetime_s = lifetime_s
        self._clock = clock

    def issue(self, client_id: str, scope: str) -> str:
        """A token of the client for `scope` (separated by spaces)."""
        now_s = self._clock.now_ms() // 1000
        claims: dict[str, object] = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": client_id,
            "client_id": client_id,
            "scope": scope,
            "iat": now_s,
            "exp": now_s + self.lifetime_s,
            "jti": secrets.token_urlsafe(16),
        }
        header = {"alg": ALGORITHM, "typ": TOKEN_TYPE, "kid": self._keys.signing_kid}
        return jwt.encode(header, claims, self._keys.signing, algorithms=[ALGORITHM])


class OAuthServer:
    """Token and revocation endpoints as functions from form to reply."""

    def __init__(self, clients: Clients, *, issuer: TokenIssuer, verifier: TokenVerifier) -> None:
        self._authlib = _Adapter(clients, issuer)
        self._authlib.register_grant(_Grant)
        revocation = _Revocation(self._authlib)
        revocation.verifier = verifier
        revocation.clients = clients
        self._authlib.register_endpoint(revocation)
        self._revocation = revocation

    def token(self, form: Mapping[str, str], headers: Mapping[str, str]) -> OAuthReply:
        """`POST /oauth/token`."""
        return self._reply(self._authlib.create_token_response(_request(form, headers)))

    def revoke(self, form: Mapping[str, str], headers: Mapping[str, str]) -> tuple[OAuthReply, Principal | None]:
        """`POST /oauth/revoke`: the reply, and the token's principal if one was revoked now."""
        self._revocation.last = None
        reply = self._reply(self._authlib.create_endpoint_response("revocation", _request(form, headers)))
        return reply, self._revocation.last

    def _reply(self, reply: object) -> OAuthReply:
        if not isinstance(reply, OAuthReply):
            raise PenstockError("internal", "the authorization server gave no reply")
        return reply


def _request(form: Mapping[str, str], headers: Mapping[str, str]) -> _Request:
    request = _Request("POST", _REQUEST_URI, headers=dict(headers))
    request.payload = BasicOAuth2Payload(dict(form))
    return request


class _Request(OAuth2Request):  # type: ignore[misc]  # Authlib is untyped
    @property
    def form(self) -> dict[str, str]:
        """The form fields; Authlib reads them under this name, too."""
        return dict(self.payload.data)


class _Adapter(AuthlibServer):  # type: ignore[misc]  # Authlib is untyped
    """What Authlib asks a framework integration for."""

    def __init__(self, clients: Clients, issuer: TokenIssuer) -> None:
        super().__init__()
        self._clients = clients

        def sign(client: _AuthlibClient, grant_type: str, user: object, scope: str) -> str:
            return issuer.issue(client.get_client_id(), scope)

        self.register_token_generator("default", BearerTokenGenerator(sign, expires_generator=issuer.lifetime_s))

    def query_client(self, client_id: str) -> _AuthlibClient | None:
        client = self._clients.find(client_id)
        return None if client is None else _AuthlibClient(client)

    def save_token(self, token: object, request: object) -> None:
        """Nothing to save: tokens prove themselves, only revocations are kept."""

    def send_signal(self, name: str, *args: object, **kwargs: object) -> None:
        """No listeners: the asynchronous side acts on the reply."""

    def create_oauth2_request(self, request: _Request) -> _Request:
        return request

    def handle_response(self, status: int, body: object, headers: list[tuple[str, str]]) -> OAuthReply:
        fields = body if isinstance(body, dict) else dict(body) if isinstance(body, list) else {}
        return OAuthReply(status, fields, dict(headers))


class _AuthlibClient(ClientMixin):  # type: ignore[misc]  # Authlib is untyped
    def __init__(self, client: Client) -> None:
        self._client = client

    def get_client_id(self) -> str:
        return self._client.client_id

    def get_allowed_scope(self, scope: str | None) -> str | None:
        """All that the client may have where it asks for nothing; None (invalid_scope) where it asks for more."""
        if not scope:
            return self._client.scope
        granted = Principal("", "", frozenset(self._client.scope.split()), 0.0, "")
        return scope if all(granted.allows(one) for one in scope.split()) else None

    def check_client_secret(self, client_secret: str) -> bool:
        return self._client.has_secret(client_secret)

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method in _AUTH_METHODS

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type == "client_credentials"


class _Grant(ClientCredentialsGrant):  # type: ignore[misc]  # Authlib is untyped
    TOKEN_ENDPOINT_AUTH_METHODS = _AUTH_METHODS


class _IssuedToken(TokenMixin):  # type: ignore[misc]  # Authlib is untyped
    def __init__(self, principal: Principal) -> None:
        self.principal = principal

    def check_client(self, client: _AuthlibClient) -> bool:
        return bool(self.principal.client_id == client.get_client_id())


class _Revocation(RevocationEndpoint):  # type: ignore[misc]  # Authlib is untyped
    CLIENT_AUTH_METHODS = _AUTH_METHODS
    verifier: TokenVerifier
    clients: Clients
    last: Principal | None = None

    def query_token(self, token_string: str, token_type_hint: str | None) -> _IssuedToken | None:
        """None for what is no valid token any more: the reply is 200 all the same (RFC 7009, 2.2)."""
        try:
            return _IssuedToken(self.verifier.verify(token_string))
        except PenstockError:
            return None

    def revoke_token(self, token: _IssuedToken, request: object) -> None:
        self.clients.revoke(token.principal.token_id, expires_at_s=token.principal.expires_at_s)
        self.last = token.principal
