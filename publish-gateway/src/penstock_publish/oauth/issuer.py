"""Signs access tokens (RFC 9068)."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from joserfc import jwt

from penstock.http.tokens import ALGORITHM, TOKEN_TYPE
from penstock.ports.clock import Clock
from penstock_publish.oauth.key_schedule import SigningKeys

__all__ = ["IssuedToken", "TokenIssuer"]


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A signed token with its id (`jti`) and its expiry in epoch seconds."""

    text: str
    token_id: str
    expires_at_s: float


class TokenIssuer:
    """Signs access tokens for one issuer and audience. `url` is the issuer, and what `resource` may name."""

    def __init__(self, keys: SigningKeys, *, issuer: str, audience: str, lifetime_s: int, clock: Clock) -> None:
        self._keys = keys
        self.url = issuer
        self.audience = audience
        self.lifetime_s = lifetime_s
        self._clock = clock

    def issue(self, client_id: str, scope: str, *, subject: str | None = None) -> str:
        """A token of the client for `scope` (separated by spaces); `subject` is the client where no person is."""
        return self.sign(client_id, scope, subject=subject).text

    def sign(
        self, client_id: str, scope: str, *, subject: str | None = None, resource: str | None = None
    ) -> IssuedToken:
        """As `issue`. A `resource` that the client asked for (RFC 8707) is one more audience."""
        now_s = self._clock.now_ms() // 1000
        token_id = secrets.token_urlsafe(16)
        claims: dict[str, object] = {
            "iss": self.url,
            "aud": [self.audience, resource] if resource else self.audience,
            "sub": subject or client_id,
            "client_id": client_id,
            "scope": scope,
            "iat": now_s,
            "exp": now_s + self.lifetime_s,
            "jti": token_id,
        }
        signing = self._keys.signing
        header = {"alg": ALGORITHM, "typ": TOKEN_TYPE, "kid": signing.kid}
        text = jwt.encode(header, claims, signing.key, algorithms=[ALGORITHM])
        return IssuedToken(text, token_id, float(now_s + self.lifetime_s))
