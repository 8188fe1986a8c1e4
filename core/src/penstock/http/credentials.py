"""Finds the caller's credential in a request and checks it: the `Access` port over verified tokens.

Credentials: `Authorization: Bearer <token>` (RFC 6750, 2.1), or the cookie of the page's session, which holds a token
that scripts cannot read. A cookie counts only for requests of our own origin. Tokens in a URL are refused (RFC 9700).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from aiohttp import web

from penstock.errors import PenstockError
from penstock.http.access import Principal
from penstock.http.tokens import TokenVerifier, UnknownKey

__all__ = ["SESSION_COOKIE", "JwtAccess", "KeySource", "refuse_foreign_origin", "refuse_token_in_url",
           "request_origins"]  # fmt: skip

SESSION_COOKIE = "penstock_session"
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


class KeySource(Protocol):
    """Where the verifier's keys come from, if the issuer runs elsewhere."""

    @property
    def known(self) -> bool:
        """True once there are keys to check tokens with."""
        ...

    async def renewed(self) -> bool:
        """Ask for the keys again since a token names an unknown one; False where nothing came of it."""
        ...


class JwtAccess:
    """Implements `Access`. `public_url` is where metadata lives (RFC 9728) and an origin of its own."""

    def __init__(self, verifier: TokenVerifier, *, public_url: str, keys: KeySource | None = None) -> None:
        self._verifier = verifier
        self._keys = keys
        self._public_url = public_url.rstrip("/")
        self._metadata = f"{self._public_url}/.well-known/oauth-protected-resource"

    async def require(self, request: web.Request, scope: str) -> Principal:
        """The principal if it may use `scope`; the errors are those of `Access.require`, and `not_ready` (503)
        while the keys of an issuer that runs elsewhere have not been fetched.
        """
        try:
            principal = self.identify(request)
        except UnknownKey:
            if self._keys is None or not await self._keys.renewed():
                raise
            principal = self.identify(request)
        if not principal.allows(scope):
            raise self.scope_error(scope)
        return principal

    def identify(self, request: web.Request) -> Principal:
        """The principal of a request, whatever its scopes."""
        header = request.headers.get("Authorization")
        if header is None:
            return self._from_cookie(request)
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer":
            raise self._unauthorized(f"'{scheme[:20]}' is not supported here; send 'Authorization: Bearer <token>'")
        refuse_token_in_url(request)
        return self._verified(token.strip())

    def scope_error(self, scope: str) -> PenstockError:
        """`insufficient_scope` (403) as RFC 6750 and RFC 9728 ask for it."""
        challenge = self._challenge(f'error="insufficient_scope", scope="{_quotable(scope)}"')
        return PenstockError(
            "insufficient_scope",
            f"the token lacks the scope {scope}; ask for it at the token endpoint, or have it granted to the client",
            extra={**self._extra(challenge), "scope": scope},
        )

    def _from_cookie(self, request: web.Request) -> Principal:
        refuse_token_in_url(request)
        token = request.cookies.get(SESSION_COOKIE)
        if not token:
            raise self._unauthorized("send 'Authorization: Bearer <token>'; `penstock token` prints one")
        needs_proof = request.method not in _SAFE_METHODS or "Upgrade" in request.headers
        refuse_foreign_origin(request, own=(self._public_url,), needs_proof=needs_proof)
        return self._verified(token)

    def _verified(self, token: str) -> Principal:
        if self._keys is not None and not self._keys.known:
            raise PenstockError(
                "not_ready", "tokens cannot be checked before the issuer's keys are here", retry_after_s=1.0
            )
        try:
            return self._verifier.verify(token)
        except UnknownKey as error:
            raise UnknownKey(error.detail, extra=self._refused(error)) from None
        except PenstockError as error:
            raise PenstockError(error.code, error.detail, extra=self._refused(error)) from None

    def _refused(self, error: PenstockError) -> dict[str, object]:
        description = _quotable(error.detail)
        return self._extra(self._challenge(f'error="invalid_token", error_description="{description}"'))

    def _unauthorized(self, detail: str) -> PenstockError:
        # RFC 6750, 3.1: without any credential the challenge names no error.
        return PenstockError("unauthorized", detail, extra=self._extra(self._challenge("")))

    def _extra(self, challenge: str) -> dict[str, object]:
        return {"www_authenticate": challenge, "resource_metadata": self._metadata}

    def _challenge(self, parameters: str) -> str:
        parts = ['realm="penstock"', parameters, f'resource_metadata="{self._metadata}"']
        return "Bearer " + ", ".join(part for part in parts if part)


def request_origins(request: web.Request) -> tuple[str, ...]:
    """The origins that a page served by this very listener has, as the browser would write them in `Origin`."""
    return (f"{request.scheme}://{request.host}",)


def refuse_token_in_url(request: web.Request) -> None:
    """`bad_request` for `?access_token=`: URLs end up in logs, histories and Referer headers (RFC 9700, 4.3.2)."""
    if request.query_string and "access_token" in request.query:
        raise PenstockError(
            "bad_request",
            "a token in the URL is refused because URLs are logged; send 'Authorization: Bearer <token>', "
            "or from a browser POST /v1/tickets and connect with ?ticket=",
        )


def refuse_foreign_origin(request: web.Request, *, own: Collection[str], needs_proof: bool) -> None:
    """`forbidden_origin` unless a request with a cookie comes from a page of this origin.

    Browsers send cookies with cross-site WebSocket upgrades and simple POSTs; `Origin` or `Sec-Fetch-Site` say where
    the request was made (Fetch standard). `needs_proof`: refuse a request that has neither.
    """
    origin = request.headers.get("Origin")
    site = request.headers.get("Sec-Fetch-Site")
    foreign = (origin is not None and origin not in (*own, *request_origins(request))) or (
        site is not None and site not in ("same-origin", "none")
    )
    proven = origin is not None or site == "same-origin"
    if foreign or (needs_proof and not proven):
        raise PenstockError(
            "forbidden_origin",
            "a session cookie is accepted from the page of this server only, not from "
            f"{(origin or 'an unknown origin')[:100]}; use a bearer token or a ticket",
        )


def _quotable(text: str) -> str:
    """Text for a quoted parameter (RFC 6750, 3): printable ASCII without quotes and backslashes."""
    return "".join(c for c in text if 0x20 <= ord(c) <= 0x7E and c not in '"\\')
