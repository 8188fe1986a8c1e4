"""Revocation (RFC 7009) and introspection (RFC 7662), as Authlib wants them. Blocking: run in the worker thread."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

# Authlib ships no type information.
from authlib.oauth2.rfc7009 import RevocationEndpoint  # type: ignore[import-untyped]
from authlib.oauth2.rfc7662 import IntrospectionEndpoint  # type: ignore[import-untyped]

from penstock.errors import PenstockError
from penstock.http.access import Principal
from penstock.http.tokens import TokenVerifier
from penstock_publish.oauth.clients import Clients
from penstock_publish.oauth.grant_store import Grant
from penstock_publish.oauth.person_grants import ALL_AUTH_METHODS, GrantContext
from penstock_publish.oauth.revocation_rows import token_of

__all__ = ["SECRET_METHODS", "Introspection", "Revocation"]

SECRET_METHODS = ["client_secret_basic", "client_secret_post"]


class _Token:
    """An access token that is valid, or a refresh token with its grant."""

    def __init__(self, client_id: str, *, principal: Principal | None = None, grant: Grant | None = None) -> None:
        self.client_id = client_id
        self.principal = principal
        self.grant = grant

    def check_client(self, client: Any) -> bool:
        return bool(self.client_id == client.get_client_id())

    def is_expired(self) -> bool:
        """Looked at when it was found."""
        return False

    def is_revoked(self) -> bool:
        """Looked at when it was found."""
        return False


class _Tokens(ABC):
    """What both endpoints look up. None for what is no valid token any more, which is no error (RFC 7009, 2.2)."""

    verifier: TokenVerifier
    clients: Clients
    context: GrantContext

    def query_token(self, token_string: str, token_type_hint: str | None) -> _Token | None:
        """The hint is not needed: a refresh token of ours is no JWT."""
        try:
            principal = self.verifier.verify(token_string)
        except PenstockError:
            return self._refresh_token(token_string)
        return _Token(principal.client_id, principal=principal)

    @abstractmethod
    def _refresh_token(self, text: str) -> _Token | None:
        """The refresh token of this text, where it is one."""


class Revocation(_Tokens, RevocationEndpoint):  # type: ignore[misc]  # Authlib is untyped
    """An access token alone, or with a refresh token its whole family."""

    CLIENT_AUTH_METHODS: Sequence[str] = ALL_AUTH_METHODS

    def _refresh_token(self, text: str) -> _Token | None:
        """A used one, too: who sends it wants this to end."""
        grant = self.context.store.by_refresh_token(text)
        return None if grant is None or grant.revoked else _Token(grant.client_id, grant=grant)

    def revoke_token(self, token: _Token, request: object) -> None:
        """Keep it, and say so to who listens."""
        if token.grant is not None:
            self.context.revoke_family(token.grant)
        if token.principal is not None:
            revoked = token_of(token.principal)
            self.clients.revoke(revoked, self.context.limits.revocations)
            self.context.revoked.append(revoked)


class Introspection(_Tokens, IntrospectionEndpoint):  # type: ignore[misc]  # Authlib is untyped
    """For clients with a secret: any access token, since who holds it can read it; refresh tokens of one's own."""

    CLIENT_AUTH_METHODS: Sequence[str] = SECRET_METHODS

    def _refresh_token(self, text: str) -> _Token | None:
        grant = self.context.store.by_refresh_token(text)
        if grant is None or grant.used or grant.revoked or grant.expires_at_s <= self.context.now_s():
            return None
        return _Token(grant.client_id, grant=grant)

    def check_permission(self, token: _Token, client: object, request: object) -> bool:
        return token.principal is not None or token.check_client(client)

    def introspect_token(self, token: _Token) -> dict[str, object]:
        """RFC 7662, 2.2."""
        shown: dict[str, object] = {"active": True, "client_id": token.client_id, "iss": self.context.issuer.url}
        if token.grant is not None:
            return shown | {
                "sub": token.grant.subject,
                "scope": token.grant.scope,
                "exp": int(token.grant.expires_at_s),
                "iat": int(token.grant.issued_at_s),
            }
        assert token.principal is not None, "one of both"
        return shown | {
            "token_type": "Bearer",
            "sub": token.principal.subject,
            "scope": " ".join(sorted(token.principal.scopes)),
            "aud": self.context.issuer.audience,
            "exp": int(token.principal.expires_at_s),
            "jti": token.principal.token_id,
        }
