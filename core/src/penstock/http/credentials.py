"""Finds the caller's credential in a request and checks it: the `Access` port over verified tokens.

Credentials: `Authorization: Bearer <token>` (RFC 6750, 2.1), or the cookie of the page's session, which holds a token
that scripts cannot read. A cookie counts only for requests of our own origin. Tokens in a URL are refused (RFC 9700).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from aiohttp import web

from penstock.errors import PenstockError
from penstock.http.access import Principal
from penstock.http.issuers import Issuers, KeySource, TrustedIssuer
from penstock.http.resource_metadata import metadata_url
from penstock.http.tokens import TokenVerifier, UnknownKey

__all__ = ["SESSION_COOKIE", "JwtAccess", "origin_of", "refuse_foreign_origin", "refuse_token_in_url",
           "request_origins"]  # fmt: skip

SESSION_COOKIE = "penstock_session"
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


class JwtAccess:
    """Implements `Access`. `public_url` is where metadata lives (RFC 9728) and an origin of its own.

    `keys`: where those of a single verifier come from, if its issuer runs elsewhere.
    """

    def __init__(self, verifier: TokenVerifier | Issuers, *, public_url: str, keys: KeySource | None = None) -> None:
        if isinstance(verifier, TokenVerifier):
            verifier = Issuers([TrustedIssuer(verifier.issuer, verifier, keys)])
        self.issuers = verifier
        self._public_url = public_url.rstrip("/")
        self._metadata = metadata_url(self._public_url)

    def trust(self, others: Sequence[TrustedIssuer]) -> None:
        """Take tokens of further issuers, too; errors as `Issuers` raises them."""
        self.issuers = Issuers([*self.issuers.trusted, *others])

    async def require(self, request: web.Request, scope: str, *, writes: str | None = None) -> Principal:
        """The principal if it may use `scope`; the errors are those of `Access.require`."""
        return self._permitted(await self.authenticated(request), scope, writes)

    async def require_token(self, token: str, scope: str, *, writes: str | None = None) -> Principal:
        """See `Access`."""
        return self._permitted(await self.verified(token), scope, writes)

    async def authenticated(self, request: web.Request) -> Principal:
        """The principal of a request, whatever its scopes; its issuer is asked where that is needed.

        `unauthorized`, `invalid_token`, `forbidden_origin`, `bad_request` (a token in the URL), `not_ready`.
        """
        return await self.verified(self._credential(request))

    async def verified(self, token: str) -> Principal:
        """The principal of a token that came in another way than by a header: in a message, or a subprotocol."""
        try:
            return await self.issuers.verified(token)
        except PenstockError as error:
            raise self.challenged(error) from None

    def challenged(self, error: PenstockError) -> PenstockError:
        """A 401 with the challenge that belongs to it (RFC 6750, 3; RFC 9728, 5.1); other errors as they are."""
        if error.code != "invalid_token" or "www_authenticate" in error.extra:
            return error
        extra = self._refused(error)
        if isinstance(error, UnknownKey):
            return UnknownKey(error.detail, kid=error.kid, extra=extra)
        return PenstockError(error.code, error.detail, extra={**error.extra, **extra})

    def identify(self, request: web.Request) -> Principal:
        """As `authenticated`, from what is here: a key that is new, or a token that is opaque, is not asked for."""
        token = self._credential(request)
        try:
            return self.issuers.verify(token)
        except PenstockError as error:
            raise self.challenged(error) from None

    def scope_error(self, scope: str) -> PenstockError:
        """`insufficient_scope` (403) as RFC 6750 and RFC 9728 ask for it."""
        challenge = self._challenge(f'error="insufficient_scope", scope="{_quotable(scope)}"')
        return PenstockError(
            "insufficient_scope",
            f"the token lacks the scope {scope}; ask for it at the token endpoint, or have it granted to the client",
            extra={**self._extra(challenge), "scope": scope},
        )

    def _permitted(self, principal: Principal, scope: str, writes: str | None) -> Principal:
        if not principal.allows(scope) and not (writes is not None and principal.may_write(writes)):
            raise self.scope_error(scope)
        return principal

    def _credential(self, request: web.Request) -> str:
        refuse_token_in_url(request)
        headers = request.headers.getall("Authorization", [])
        if not headers:
            return self._from_cookie(request)
        scheme, _, token = headers[0].partition(" ")
        if len(headers) > 1:
            raise self._unauthorized("send one 'Authorization' header, not several")
        if scheme.lower() != "bearer":
            raise self._unauthorized(f"'{scheme[:20]}' is not supported here; send 'Authorization: Bearer <token>'")
        return token.strip()

    def _from_cookie(self, request: web.Request) -> str:
        token = request.cookies.get(SESSION_COOKIE)
        if not token:
            raise self._unauthorized("send 'Authorization: Bearer <token>'; `penstock token` prints one")
        needs_proof = request.method not in _SAFE_METHODS or "Upgrade" in request.headers
        refuse_foreign_origin(request, own=(self._public_url,), needs_proof=needs_proof)
        return token

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


def origin_of(request: web.Request) -> str | None:
    """`Origin`; no browser sends two, and whoever does gets one that is nobody's."""
    origins = request.headers.getall("Origin", [])
    return ", ".join(origins) if origins else None


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
    origin = origin_of(request)
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
