"""Grants of people, as Authlib wants them: authorization code with PKCE, and refresh tokens with rotation.

RFC 6749, RFC 7636 (S256 only, asked of every client), RFC 8707, RFC 9700. Blocking: run in the worker thread.
Decisions about who was first are the store's (`oauth.grant_store`), in the transaction that keeps the tokens.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

# Authlib ships no type information; what it returns is checked where it leaves this file or oauth.server.
from authlib.oauth2.base import OAuth2Error  # type: ignore[import-untyped]
from authlib.oauth2.rfc6749 import (  # type: ignore[import-untyped]
    AuthorizationCodeGrant,
    InvalidGrantError,
    InvalidRequestError,
    RefreshTokenGrant,
)
from authlib.oauth2.rfc7636 import CodeChallenge  # type: ignore[import-untyped]

from penstock.errors import PenstockError
from penstock.ports.clock import Clock
from penstock_publish.oauth.clients import new_secret
from penstock_publish.oauth.grant_store import CodeRequest, Grant, GrantLimits, GrantStore, Reused
from penstock_publish.oauth.issuer import IssuedToken, TokenIssuer
from penstock_publish.oauth.people import Person, Rights, granted_scope
from penstock_publish.oauth.revocation_rows import AccessToken, RevocationLimits
from penstock_publish.settings import AuthSettings

__all__ = ["ALL_AUTH_METHODS", "CodeGrant", "GrantContext", "InvalidTargetError", "Pkce", "RefreshGrant",
           "grant_limits"]  # fmt: skip

ALL_AUTH_METHODS = ["client_secret_basic", "client_secret_post", "none"]
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")  # the base64url text of a SHA-256


class InvalidTargetError(OAuth2Error):  # type: ignore[misc]  # Authlib is untyped
    """RFC 8707, 2: a resource that is not ours."""

    error = "invalid_target"


class GrantContext:
    """What the grants work with; Authlib hands it to them as `server.context`. `revoked` is told of dead tokens."""

    def __init__(
        self, store: GrantStore, issuer: TokenIssuer, rights: Rights, *, settings: AuthSettings, clock: Clock
    ) -> None:
        self.store = store
        self.issuer = issuer
        self.rights = rights
        self.settings = settings
        self.limits = grant_limits(settings)
        self._clock = clock
        self.revoked: list[AccessToken] = []

    def now_s(self) -> float:
        """Epoch seconds."""
        return self._clock.now_ms() / 1000

    def monotonic_s(self) -> float:
        """Seconds of a clock that does not go back."""
        return self._clock.monotonic_s()

    def revoke_family(self, grant: Grant) -> None:
        """End a grant and all tokens made from it."""
        self.revoked += self.store.revoke(grant.grant_id)

    def check_resource(self, resource: str | None) -> None:
        """RFC 8707: none, or the address under which this gateway is known."""
        if resource and resource.rstrip("/") != self.issuer.url:
            raise InvalidTargetError(f"the resource here is {self.issuer.url}")


def grant_limits(settings: AuthSettings) -> GrantLimits:
    """What the settings say of logins and of revoked tokens."""
    return GrantLimits(
        per_person_max=settings.logins_per_person_max,
        tokens_max=settings.tokens_per_login_max,
        revocations=RevocationLimits(settings.revocations_per_holder_max, settings.revocations_max),
    )


class Pkce(CodeChallenge):  # type: ignore[misc]  # Authlib is untyped
    """S256 and nothing else (RFC 9700, 2.1.1): without `code_challenge_method` the method would be plain."""

    DEFAULT_CODE_CHALLENGE_METHOD = None
    SUPPORTED_CODE_CHALLENGE_METHOD = ("S256",)

    def validate_code_challenge(self, grant: CodeGrant, redirect_uri: str) -> None:
        """Every client must send a challenge; a resource must be ours."""
        data = grant.request.payload.data
        if data.get("code_challenge_method") != "S256":
            raise InvalidRequestError("PKCE is required: send code_challenge and code_challenge_method=S256")
        if not _CHALLENGE.fullmatch(data.get("code_challenge", "")):
            raise InvalidRequestError("code_challenge is not the base64url text of a SHA-256 (43 characters)")
        if data.get("response_mode") not in (None, "", "query"):
            raise InvalidRequestError("response_mode can be query only")
        grant.server.context.check_resource(data.get("resource"))

    def get_authorization_code_challenge(self, authorization_code: _Credential) -> str:
        """The challenge that the code is bound to."""
        return authorization_code.grant.code_challenge

    def get_authorization_code_challenge_method(self, authorization_code: _Credential) -> str:
        """Always the one."""
        return "S256"


class _Credential:
    """A code or a refresh token, as Authlib asks about it."""

    def __init__(self, text: str, grant: Grant) -> None:
        self.text = text
        self.grant = grant

    def get_redirect_uri(self) -> str:
        return self.grant.redirect_uri

    def get_scope(self) -> str:
        return self.grant.scope

    def check_client(self, client: Any) -> bool:
        return bool(self.grant.client_id == client.get_client_id())


class _OfPerson(ABC):
    """Both grants: tokens for a person, kept with their family."""

    server: Any  # Authlib's, untyped; `server.context` is a `GrantContext`
    request: Any
    issued: IssuedToken

    def generate_token(self, user: Person, scope: str, include_refresh_token: bool) -> dict[str, object]:
        """The reply of the token endpoint: what is asked for, as far as client and person may have it today."""
        context: GrantContext = self.server.context
        client = self.request.client
        allowed = granted_scope(granted_scope(scope, client.scopes()), user.scopes)
        if not allowed:
            raise InvalidGrantError("nothing that was granted is allowed any more")
        grant = self._credential().grant
        context.check_resource(self.request.payload.data.get("resource"))
        self.issued = context.issuer.sign(
            client.get_client_id(), allowed, subject=user.subject, resource=grant.resource or None
        )
        token: dict[str, object] = {
            "token_type": "Bearer",
            "access_token": self.issued.text,
            "expires_in": context.issuer.lifetime_s,
            "scope": allowed,
        }
        if include_refresh_token:
            token["refresh_token"] = new_secret()
        return token

    def authenticate_user(self, credential: _Credential) -> Person:
        """The person behind a code or refresh token, as far as known today."""
        scopes = self.server.context.rights(credential.grant.subject)
        if scopes is None:
            raise InvalidGrantError("who granted this is not known any more")
        return Person(credential.grant.subject, scopes)

    @abstractmethod
    def _credential(self) -> _Credential:
        """The code or refresh token that is being redeemed."""


class CodeGrant(_OfPerson, AuthorizationCodeGrant):  # type: ignore[misc]  # Authlib is untyped
    """Authorization code (RFC 6749, 4.1). A code that is used twice ends what was made from it."""

    TOKEN_ENDPOINT_AUTH_METHODS: Sequence[str] = ALL_AUTH_METHODS

    def generate_authorization_code(self) -> str:
        """256 random bits."""
        return new_secret()

    def save_authorization_code(self, code: str, request: object) -> None:
        """Bind it to client, redirect address, challenge, and what the person grants."""
        context: GrantContext = self.server.context
        data = self.request.payload.data
        person: Person = self.request.user
        asked = CodeRequest(
            client_id=self.request.client.get_client_id(),
            subject=person.subject,
            scope=granted_scope(self.request.scope, person.scopes),
            redirect_uri=data["redirect_uri"],
            code_challenge=data["code_challenge"],
            resource=(data.get("resource") or "").rstrip("/"),
        )
        try:
            context.revoked += context.store.begin(
                code,
                asked,
                now_s=context.now_s(),
                code_lifetime_s=context.settings.code_lifetime_s,
                lifetime_s=context.settings.refresh_lifetime_s,
                session=person.session,
            )
        except Reused:
            raise PenstockError("invalid_token", "this session has ended; log in again") from None

    def query_authorization_code(self, code: str, client: Any) -> _Credential | None:
        """None for a code that is unknown, somebody else's, expired or used."""
        context: GrantContext = self.server.context
        grant = context.store.by_code(code)
        if grant is None or not (credential := _Credential(code, grant)).check_client(client):
            return None
        if grant.used:
            context.revoke_family(grant)  # RFC 6749, 4.1.2
            return None
        return None if grant.revoked or grant.expires_at_s <= context.now_s() else credential

    def save_token(self, token: dict[str, object]) -> None:
        """Use the code and keep the tokens, if nobody was first."""
        context: GrantContext = self.server.context
        credential = self._credential()
        refresh = token.get("refresh_token")
        try:
            context.store.use_code(
                credential.text,
                access=AccessToken(self.issued.token_id, self.issued.expires_at_s),
                refresh=None if refresh is None else str(refresh),
                now_s=context.now_s(),
                idle_s=context.settings.refresh_idle_s,
            )
        except Reused:
            context.revoke_family(credential.grant)
            raise InvalidGrantError("Invalid 'code' in request.") from None

    def delete_authorization_code(self, authorization_code: _Credential) -> None:
        """It is kept as used, so that a second use is noticed."""

    def _credential(self) -> _Credential:
        found = self.request.authorization_code
        assert isinstance(found, _Credential), "made by query_authorization_code"
        return found


class RefreshGrant(_OfPerson, RefreshTokenGrant):  # type: ignore[misc]  # Authlib is untyped
    """Refresh tokens (RFC 6749, 6), rotated at each use; an old one that comes back ends the family."""

    TOKEN_ENDPOINT_AUTH_METHODS: Sequence[str] = ALL_AUTH_METHODS
    INCLUDE_NEW_REFRESH_TOKEN = True

    def authenticate_refresh_token(self, refresh_token: str) -> _Credential | None:
        """None for one that is unknown, expired or used; a used one of this client ends the family."""
        context: GrantContext = self.server.context
        grant = context.store.by_refresh_token(refresh_token)
        if grant is None:
            return None
        credential = _Credential(refresh_token, grant)
        if grant.used and credential.check_client(self.request.client):
            context.revoke_family(grant)  # RFC 9700, 4.14.2
        if grant.used or grant.revoked or grant.expires_at_s <= context.now_s():
            return None
        return credential

    def save_token(self, token: dict[str, object]) -> None:
        """Use the old token and keep the new ones, if nobody was first."""
        context: GrantContext = self.server.context
        credential = self._credential()
        try:
            context.store.rotate(
                credential.text,
                access=AccessToken(self.issued.token_id, self.issued.expires_at_s),
                refresh=str(token["refresh_token"]),
                now_s=context.now_s(),
                idle_s=context.settings.refresh_idle_s,
            )
        except Reused:
            context.revoke_family(credential.grant)
            raise InvalidGrantError from None

    def revoke_old_credential(self, refresh_token: _Credential) -> None:
        """Done with keeping the new one."""

    def _credential(self) -> _Credential:
        found = self.request.refresh_token
        assert isinstance(found, _Credential), "made by authenticate_refresh_token"
        return found
