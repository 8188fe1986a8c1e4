"""Checks of access tokens: JWTs after RFC 9068, or by the profile of an issuer. Pure but for the clock passed in.

A token that was checked once costs a dictionary lookup until it expires: results are kept under the SHA-256 of the
token, never under the token itself. Revocation is looked up at each use, and so is whether its key still counts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Mapping
from dataclasses import replace

from penstock.errors import PenstockError
from penstock.http.access import Principal
from penstock.http.claims import TOKEN_TYPE, BadClaims, TokenProfile, accepts_type, principal_of
from penstock.http.revocation import is_revoked
from penstock.http.signatures import (
    BadToken,
    NoSuchKey,
    VerifyingKey,
    read_json,
    read_signed,
    verify_signed,
)
from penstock.ports.clock import Clock

__all__ = ["ALGORITHM", "AUDIENCE", "TOKEN_BYTES_MAX", "TOKEN_TYPE", "TokenVerifier", "UnknownKey", "digest_of",
           "refused"]  # fmt: skip

ALGORITHM = "ES256"
AUDIENCE = "penstock"
#: Longer ones are refused unread; ours have about 700 bytes, and HTTP headers end at 8 KiB anyway.
TOKEN_BYTES_MAX = 8_000


class UnknownKey(PenstockError):
    """`invalid_token`: signed with the key `kid`, not known here; whoever follows the issuer may ask for it."""

    def __init__(self, detail: str, *, kid: str, extra: dict[str, object] | None = None) -> None:
        super().__init__("invalid_token", detail, extra=extra)
        self.kid = kid


class TokenVerifier:
    """Turns the text of a token of one issuer into a `Principal`.

    `keys` maps `kid` to a public key of this issuer and of no other. `issuer` and `audience` must match exactly,
    `leeway_s` covers clocks that differ (exp, nbf and iat), `revoked` holds the `jti` of revoked tokens, `cache_max`
    bounds what is remembered.
    """

    def __init__(
        self,
        keys: Mapping[str, VerifyingKey],
        *,
        issuer: str,
        audience: str,
        clock: Clock,
        revoked: Container[str],
        leeway_s: int,
        cache_max: int,
        profile: TokenProfile | None = None,
    ) -> None:
        self.issuer = issuer
        self._keys = keys
        self._audience = audience
        self._clock = clock
        self._revoked = revoked
        self._leeway_s = leeway_s
        self._cache_max = cache_max
        self._profile = profile or TokenProfile()
        self._cache: dict[bytes, tuple[Principal, str, VerifyingKey]] = {}

    def verify(self, token: str) -> Principal:
        """The principal of a valid token; `invalid_token` otherwise, with what is wrong and how to get a new one."""
        now_s = self._clock.now_ms() / 1000
        digest = digest_of(token)
        kept = self._cache.get(digest)
        if kept is not None and self._keys.get(kept[1]) is not kept[2]:  # the key was retired or replaced
            del self._cache[digest]
            kept = None
        if kept is None:
            kept = self._check(token, now_s, digest)
            self._remember(digest, kept)
        elif kept[0].expires_at_s <= now_s - self._leeway_s:
            del self._cache[digest]
            raise refused("the token has expired")
        principal = kept[0]
        if is_revoked(principal, self._revoked):
            raise refused("the token was revoked")
        return principal

    def has_key(self, kid: str) -> bool:
        """True if what this key has signed is taken now."""
        return kid in self._keys

    def _remember(self, digest: bytes, kept: tuple[Principal, str, VerifyingKey]) -> None:
        while len(self._cache) >= self._cache_max:
            del self._cache[next(iter(self._cache))]
        self._cache[digest] = kept

    def _check(self, token: str, now_s: float, digest: bytes) -> tuple[Principal, str, VerifyingKey]:
        if len(token) > TOKEN_BYTES_MAX:
            raise refused(f"the token is longer than {TOKEN_BYTES_MAX} bytes")
        profile = self._profile
        try:
            text = read_signed(token, profile.limits)
            key = verify_signed(text, self._keys, profile.algorithms)
            if not accepts_type(text.header, profile):
                raise BadToken(f"its 'typ' is not {TOKEN_TYPE} (RFC 9068)")
            principal = principal_of(
                read_json(text.payload, depth_max=profile.limits.json_depth_max),
                profile,
                issuer=self.issuer,
                audience=self._audience,
                now_s=now_s,
                leeway_s=self._leeway_s,
                fallback_id=digest.hex(),
            )
        except NoSuchKey as error:
            raise UnknownKey(f"{error}; {_REMEDY}", kid=error.kid) from None
        except (BadToken, BadClaims) as error:
            raise refused(f"the token was not accepted: {error}") from None
        return replace(principal, signed_by=(self.issuer, text.kid)), text.kid, key


def digest_of(token: str) -> bytes:
    """SHA-256 of a token: what it is remembered by."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def refused(what: str) -> PenstockError:
    """`invalid_token` with the remedy."""
    return PenstockError("invalid_token", f"{what}; {_REMEDY}")


_REMEDY = "get a new one from the token endpoint (`penstock token`)"
