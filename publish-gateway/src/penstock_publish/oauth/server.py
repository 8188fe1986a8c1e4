"""The embedded authorization server: Authlib's framework-agnostic base behind a small synchronous adapter.

Grants: client credentials (RFC 6749, 4.4), authorization code with PKCE and refresh tokens (`oauth.person_grants`).
Endpoints: authorization, token, revocation (RFC 7009), introspection (RFC 7662). Everything here blocks and runs in
the one worker thread that owns the database; `oauth.routes` and `oauth.authorize` are the asynchronous side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain

# Authlib ships no type information; what it returns is checked where it leaves this file.
from authlib.common.urls import add_params_to_uri  # type: ignore[import-untyped]
from authlib.oauth2.base import OAuth2Error  # type: ignore[import-untyped]
from authlib.oauth2.rfc6749 import AuthorizationServer as AuthlibServer  # type: ignore[import-untyped]
from authlib.oauth2.rfc6749 import ClientCredentialsGrant, ClientMixin, InvalidClientError, OAuth2Request
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload  # type: ignore[import-untyped]
from authlib.oauth2.rfc6750 import BearerTokenGenerator  # type: ignore[import-untyped]

from penstock.errors import PenstockError
from penstock.http.access import Principal
from penstock.http.tokens import TokenVerifier
from penstock_publish.oauth.client_credentials import ClientCredentials, is_visible_ascii, read_credentials
from penstock_publish.oauth.clients import NOBODY, Client, Clients
from penstock_publish.oauth.people import Person
from penstock_publish.oauth.person_grants import (
    CodeGrant,
    GrantContext,
    InvalidTargetError,
    Pkce,
    RefreshGrant,
)
from penstock_publish.oauth.redirects import matches_redirect
from penstock_publish.oauth.revocation_rows import AccessToken
from penstock_publish.oauth.token_endpoints import SECRET_METHODS, Introspection, Revocation

__all__ = ["Answered", "AskedFor", "OAuthReply", "OAuthServer", "Refusal"]

# Authlib refuses http:// outside loopback; whether the listener needs TLS is decided by the command line, once.
_REQUEST_URI = "https://penstock.invalid/oauth"
#: Authlib quotes these in descriptions, which may hold printable ASCII only (RFC 6749, 5.2).
_QUOTED = ("client_id", "redirect_uri", "response_type", "grant_type", "scope")
_PLAIN = ("code", "code_challenge", "code_challenge_method", "code_verifier", "refresh_token", "resource",
          "response_mode", "token", "token_type_hint")  # fmt: skip


@dataclass(frozen=True, slots=True)
class OAuthReply:
    """A reply of the authorization server: status, JSON body, headers; tokens that it has revoked."""

    status: int
    body: Mapping[str, object]
    headers: Mapping[str, str]
    revoked: tuple[AccessToken, ...] = ()


@dataclass(frozen=True, slots=True)
class AskedFor:
    """A valid authorization request: who asks, for what, and where the answer goes."""

    client: Client
    scope: str
    redirect_uri: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """An authorization request that is refused: `location` tells the application, None is for the person's eyes."""

    error: str
    detail: str
    location: str | None


@dataclass(frozen=True, slots=True)
class Answered:
    """Where a person is sent to with the answer; tokens that had to end for it."""

    location: str
    revoked: tuple[AccessToken, ...] = ()


class OAuthServer:
    """The endpoints as functions from form or query to reply."""

    def __init__(self, clients: Clients, *, context: GrantContext, verifier: TokenVerifier) -> None:
        self._rooms = context
        self._authlib = _Adapter(clients, context)
        self._authlib.register_grant(_Grant)
        self._authlib.register_grant(CodeGrant, [Pkce(required=True)])
        self._authlib.register_grant(RefreshGrant)
        for endpoint in (Revocation(self._authlib), Introspection(self._authlib)):
            endpoint.verifier, endpoint.clients, endpoint.context = verifier, clients, context
            self._authlib.register_endpoint(endpoint)

    def token(self, form: Mapping[str, str], headers: Mapping[str, str]) -> OAuthReply:
        """`POST /oauth/token`."""
        try:
            self._rooms.check_resource(form.get("resource"))
        except InvalidTargetError as error:
            return OAuthReply(400, {"error": error.error, "error_description": error.description}, {})
        if not form.get("grant_type"):
            return _invalid_request("grant_type is missing")
        return self._reply(form, headers, self._authlib.create_token_response)

    def revoke(self, form: Mapping[str, str], headers: Mapping[str, str]) -> OAuthReply:
        """`POST /oauth/revoke`."""
        return self._endpoint("revocation", form, headers)

    def introspect(self, form: Mapping[str, str], headers: Mapping[str, str]) -> OAuthReply:
        """`POST /oauth/introspect`."""
        return self._endpoint("introspection", form, headers)

    def asked(self, query: Mapping[str, str]) -> AskedFor | Refusal:
        """What an authorization request asks for, before the person is asked."""
        if (odd := _odd(query)) is not None:
            return Refusal("invalid_request", odd, None)
        try:
            grant = self._authlib.get_consent_grant(_request(query, {}, method="GET"))
        except OAuth2Error as error:
            if error.error == "unsupported_response_type" and not query.get("response_type"):
                error.error, error.description = "invalid_request", "response_type is missing"
            return self._refusal(error, query.get("state"))
        return AskedFor(grant.request.client.client, grant.request.scope, grant.redirect_uri)

    def answer(self, query: Mapping[str, str], person: Person | None) -> Answered | Refusal:
        """Where to send the person: with a code, or where `person` is None with the news that access was denied."""
        if isinstance(asked := self.asked(query), Refusal):
            return asked
        request = _request(query, {}, method="GET")
        grant = self._authlib.get_consent_grant(request)
        self._rooms.revoked.clear()
        reply = self._authlib.create_authorization_response(request, grant_user=person, grant=grant)
        if not isinstance(reply, OAuthReply) or "Location" not in reply.headers:
            raise PenstockError("internal", "the authorization server gave no address to go to")
        return Answered(self._with_issuer(reply.headers["Location"]), tuple(self._rooms.revoked))

    def _refusal(self, error: OAuth2Error, state: str | None) -> Refusal:
        detail = str(error.description or error.error)
        if not error.redirect_uri:
            return Refusal(str(error.error), detail, None)
        told = [("error", str(error.error)), ("error_description", detail)]
        told += [("state", state)] if state else []
        return Refusal(str(error.error), detail, self._with_issuer(add_params_to_uri(error.redirect_uri, told)))

    def _with_issuer(self, location: str) -> str:
        """RFC 9207: the application learns whose answer it is."""
        return str(add_params_to_uri(location, [("iss", self._rooms.issuer.url)]))

    def _endpoint(self, name: str, form: Mapping[str, str], headers: Mapping[str, str]) -> OAuthReply:
        # A token is found without a hint, and Authlib refuses those that it does not know (RFC 7009, 2.2: ignored).
        form = {field: value for field, value in form.items() if field != "token_type_hint"}
        return self._reply(form, headers, partial(self._authlib.create_endpoint_response, name))

    def _reply(
        self, form: Mapping[str, str], headers: Mapping[str, str], respond: Callable[[_Request], object]
    ) -> OAuthReply:
        if (odd := _odd(form)) is not None:
            return _invalid_request(odd)
        request = _request(form, headers)
        try:
            request.credentials = read_credentials(form, headers.get("Authorization", ""))
        except ValueError as error:
            return _invalid_request(str(error))
        self._rooms.revoked.clear()
        reply = respond(request)
        if not isinstance(reply, OAuthReply):
            raise PenstockError("internal", "the authorization server gave no reply")
        return OAuthReply(reply.status, reply.body, reply.headers, tuple(self._rooms.revoked))


def _request(form: Mapping[str, str], headers: Mapping[str, str], *, method: str = "POST") -> _Request:
    request = _Request(method, _REQUEST_URI, headers=dict(headers))
    request.payload = BasicOAuth2Payload(dict(form))
    return request


def _invalid_request(description: str) -> OAuthReply:
    return OAuthReply(400, {"error": "invalid_request", "error_description": description}, {})


def _odd(fields: Mapping[str, str]) -> str | None:
    quoted = (name for name in _QUOTED if set(fields.get(name, "")) & set('"\\'))
    odd = (name for name in (*_QUOTED, *_PLAIN) if not is_visible_ascii(fields.get(name, "")))
    # More than RFC 6749 allows: an application may have text of its own in there, and gets it back as it was.
    state = ("state" for char in fields.get("state", "") if char < " " or char == "\x7f")
    name = next(chain(quoted, odd, state), None)
    return None if name is None else f"{name} has characters that it cannot have (RFC 6749, appendix A)"


class _Request(OAuth2Request):  # type: ignore[misc]  # Authlib is untyped
    credentials = ClientCredentials("", "", "none")

    @property
    def form(self) -> dict[str, str]:
        """The form fields; Authlib reads them under this name, too."""
        return dict(self.payload.data)


class _Adapter(AuthlibServer):  # type: ignore[misc]  # Authlib is untyped
    """What Authlib asks a framework integration for."""

    def __init__(self, clients: Clients, context: GrantContext) -> None:
        super().__init__()
        self._clients = clients
        self.context = context

        def sign(client: _AuthlibClient, grant_type: str, user: object, scope: str) -> str:
            return context.issuer.issue(client.get_client_id(), scope)

        lifetime_s = context.issuer.lifetime_s
        self.register_token_generator("default", BearerTokenGenerator(sign, expires_generator=lifetime_s))

    def query_client(self, client_id: str) -> _AuthlibClient | None:
        client = self._clients.find(client_id)
        return None if client is None else _AuthlibClient(client)

    def authenticate_client(
        self, request: _Request, methods: Sequence[str], endpoint: str = "token"
    ) -> _AuthlibClient:
        """Instead of Authlib's: one answer for an unknown client and a wrong secret, and in the same time."""
        said = request.credentials
        found = self.query_client(said.client_id)
        client = _AuthlibClient(NOBODY) if found is None else found
        proven = client.check_client_secret(said.secret) if said.method != "none" else client.client.public
        allowed = said.method in methods and client.check_endpoint_auth_method(said.method, endpoint)
        if found is None or not proven or not allowed:
            detail = f"no such client, or not its secret; methods: {' '.join(methods)}"
            raise InvalidClientError(status_code=401, description=detail)
        request.auth_method = said.method
        return found

    def save_token(self, token: object, request: object) -> None:
        """Nothing to save: tokens of clients prove themselves, only revocations are kept."""

    def send_signal(self, name: str, *args: object, **kwargs: object) -> None:
        """No listeners: the asynchronous side acts on the reply."""

    def create_oauth2_request(self, request: _Request) -> _Request:
        return request

    def handle_response(self, status: int, body: object, headers: list[tuple[str, str]]) -> OAuthReply:
        fields = body if isinstance(body, dict) else dict(body) if isinstance(body, list) else {}
        return OAuthReply(status, fields, dict(headers))


class _AuthlibClient(ClientMixin):  # type: ignore[misc]  # Authlib is untyped
    def __init__(self, client: Client) -> None:
        self.client = client

    def get_client_id(self) -> str:
        return self.client.client_id

    def get_default_redirect_uri(self) -> None:
        """The request must name it, so that it can be compared."""

    def scopes(self) -> frozenset[str]:
        """All that the client may have."""
        return frozenset(self.client.scope.split())

    def get_allowed_scope(self, scope: str | None) -> str | None:
        """All that the client may have where it asks for nothing; None (invalid_scope) where it asks for more."""
        if not scope:
            return self.client.scope
        granted = Principal("", "", self.scopes(), 0.0, "")
        return scope if all(granted.allows(one) for one in scope.split()) else None

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        return matches_redirect(redirect_uri, self.client.redirect_uris, public=self.client.public)

    def check_client_secret(self, client_secret: str) -> bool:
        return self.client.has_secret(client_secret)

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method in (["none"] if self.client.public else SECRET_METHODS)

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code" and self.check_grant_type("authorization_code")

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type in self.client.grants and not (self.client.public and grant_type == "client_credentials")


class _Grant(ClientCredentialsGrant):  # type: ignore[misc]  # Authlib is untyped
    TOKEN_ENDPOINT_AUTH_METHODS = SECRET_METHODS
