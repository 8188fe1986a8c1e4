"""Checks of access tokens: JWTs after RFC 9068, signed with ES256. Pure but for the clock that is passed in.

A token that was checked once costs a dictionary lookup until it expires: results are kept under the SHA-256 of the
token, never under the token itself. Revocation is looked up at each use.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Mapping
from typing import Any

from joserfc import jwt
from joserfc.errors import ExpiredTokenError, JoseError
from joserfc.jwk import ECKey, GuestProtocol

from penstock.errors import PenstockError
from penstock.http.access import Principal
from penstock.ports.clock import Clock

__all__ = ["ALGORITHM", "AUDIENCE", "TOKEN_BYTES_MAX", "TOKEN_TYPE", "TokenVerifier", "UnknownKey"]

ALGORITHM = "ES256"
AUDIENCE = "penstock"
TOKEN_TYPE = "at+jwt"
#: Longer ones are refused unread; ours have about 700 bytes, and HTTP headers end at 8 KiB anyway.
TOKEN_BYTES_MAX = 8_000

_TYPES = (TOKEN_TYPE, f"application/{TOKEN_TYPE}")  # RFC 9068, 4: both forms, compared without case


class UnknownKey(PenstockError):
    """`invalid_token`: signed with a key that is not known here; whoever follows the issuer may ask for it."""

    def __init__(self, detail: str, *, extra: dict[str, object] | None = None) -> None:
        super().__init__("invalid_token", detail, extra=extra)


class TokenVerifier:
    """Turns the text of a token into a `Principal`.

    `keys` maps `kid` to a public key, `issuer` and `audience` must match exactly, `leeway_s` covers clocks that
    differ (exp, nbf and iat), `revoked` holds the `jti` of revoked tokens, `cache_max` bounds what is remembered.
    """

    def __init__(
        self,
        keys: Mapping[str, ECKey],
        *,
        issuer: str,
        audience: str,
        clock: Clock,
        revoked: Container[str],
        leeway_s: int,
        cache_max: int,
    ) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._clock = clock
        self._revoked = revoked
        self._leeway_s = leeway_s
        self._cache_max = cache_max
        self._cache: dict[bytes, Principal] = {}

    def verify(self, token: str) -> Principal:
        """The principal of a valid token; `invalid_token` otherwise, with what is wrong and how to get a new one."""
        now_s = self._clock.now_ms() / 1000
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        principal = self._cache.get(digest)
        if principal is None:
            principal = self._check(token, now_s)
            self._remember(digest, principal)
        elif principal.expires_at_s <= now_s - self._leeway_s:
            del self._cache[digest]
            raise _invalid("the token has expired")
        if principal.token_id in self._revoked:
            raise _invalid("the token was revoked")
        return principal

    def _remember(self, digest: bytes, principal: Principal) -> None:
        while len(self._cache) >= self._cache_max:
            del self._cache[next(iter(self._cache))]
        self._cache[digest] = principal

    def _check(self, token: str, now_s: float) -> Principal:
        if len(token) > TOKEN_BYTES_MAX:
            raise _invalid(f"the token is longer than {TOKEN_BYTES_MAX} bytes")
        try:
            decoded = jwt.decode(token, self._key_of, algorithms=[ALGORITHM])
            if str(decoded.header.get("typ", "")).lower() not in _TYPES:
                raise _invalid(f"its 'typ' is not {TOKEN_TYPE} (RFC 9068)")
            self._claims_registry(int(now_s)).validate(decoded.claims)
        except ExpiredTokenError:
            raise _invalid("the token has expired") from None
        except (JoseError, ValueError, TypeError, RecursionError) as error:
            # What is wrong goes to the caller without the token; joserfc's messages name claims and headers only.
            raise _invalid(f"the token was not accepted ({type(error).__name__})") from None
        return _principal(decoded.claims)

    def _key_of(self, signature: GuestProtocol) -> ECKey:
        key = self._keys.get(str(signature.headers().get("kid")))
        if key is None:
            raise UnknownKey("the token was signed with a key that is not known here (kid)")
        return key

    def _claims_registry(self, now_s: int) -> jwt.JWTClaimsRegistry:
        return jwt.JWTClaimsRegistry(
            now=now_s,
            leeway=self._leeway_s,
            iss={"essential": True, "value": self._issuer},
            aud={"essential": True, "value": self._audience},
            exp={"essential": True},
            iat={"essential": True},
            jti={"essential": True},
            sub={"essential": True},
            client_id={"essential": True},
        )


def _principal(claims: dict[str, Any]) -> Principal:
    client_id, scope = claims["client_id"], claims.get("scope", "")
    if not isinstance(client_id, str) or not isinstance(scope, str):
        raise _invalid("'client_id' and 'scope' must be strings")
    return Principal(
        subject=claims["sub"],
        client_id=client_id,
        scopes=frozenset(scope.split()),
        expires_at_s=float(claims["exp"]),
        token_id=claims["jti"],
    )


def _invalid(what: str) -> PenstockError:
    return PenstockError("invalid_token", f"{what}; get a new one from the token endpoint (`penstock token`)")
