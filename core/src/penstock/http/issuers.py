"""Whose tokens are taken: several issuers at once, each with keys, algorithms and rules of its own.

Keys are never pooled: a token is checked with those of the issuer that it names (`iss`), by that issuer's rules. A
text that is no JWT is opaque, and the one issuer that can be asked about such tokens is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec
from joserfc.util import urlsafe_b64decode

from penstock.errors import PenstockError
from penstock.http.access import Principal
from penstock.http.introspection import Introspector
from penstock.http.tokens import TOKEN_BYTES_MAX, TokenVerifier, UnknownKey, refused

__all__ = ["Issuers", "KeySource", "MustAsk", "TrustedIssuer"]


class _Claims(msgspec.Struct):
    iss: str | None = None


_decode = msgspec.json.Decoder(_Claims).decode  # at each use of a token; its issuer's verifier reads strictly


class KeySource(Protocol):
    """Where a verifier's keys come from, if the issuer runs elsewhere."""

    @property
    def known(self) -> bool:
        """True once there are keys to check tokens with."""
        ...

    async def renewed(self, kid: str) -> bool:
        """True if the key `kid` is known, after asking for it where that may help."""
        ...

    def on_retired(self, listener: Callable[[str], None]) -> None:
        """Be told the name of each key that counts no more from now on."""
        ...


class MustAsk(PenstockError):
    """`not_ready`: its issuer has to be asked about this token, which only `Issuers.verified` can do."""

    def __init__(self) -> None:
        super().__init__("not_ready", "the issuer of this token has to be asked; send it again", retry_after_s=1.0)


@dataclass(frozen=True, slots=True)
class TrustedIssuer:
    """One issuer. `verifier` checks its JWTs, with keys of `keys` if they come from elsewhere; `introspector`: its
    opaque tokens, and its JWTs where there is no verifier.
    """

    issuer: str
    verifier: TokenVerifier | None = None
    keys: KeySource | None = None
    introspector: Introspector | None = None


class Issuers:
    """Finds the issuer of a token and has it checked there."""

    def __init__(self, issuers: Sequence[TrustedIssuer]) -> None:
        """`bad_request` for two of the same identifier, and for two that are to be asked about opaque tokens."""
        self.trusted = tuple(issuers)
        self._by_name = {issuer.issuer: issuer for issuer in issuers}
        if len(self._by_name) < len(issuers):
            raise PenstockError("bad_request", "auth.issuers: an issuer is listed twice; take one away")
        asked = [issuer for issuer in issuers if issuer.introspector is not None]
        if len(asked) > 1:
            # Each would be shown the other's tokens, and could use them.
            raise PenstockError("bad_request", "auth.issuers: only one issuer can have introspection")
        self._opaque = asked[0] if asked else None
        self._only = issuers[0] if len(issuers) == 1 and not asked else None

    @property
    def names(self) -> tuple[str, ...]:
        """Their identifiers."""
        return tuple(self._by_name)

    def verify(self, token: str) -> Principal:
        """The principal, from what is here; `invalid_token` (or its UnknownKey), `not_ready` (or its MustAsk)."""
        issuer = self._issuer_of(token)
        if issuer.verifier is None or (issuer is self._opaque and _claimed_issuer(token) is None):
            assert issuer.introspector is not None, "an issuer has one or the other"
            principal = issuer.introspector.remembered(token)
            if principal is None:
                raise MustAsk
            return principal
        if issuer.keys is not None and not issuer.keys.known:
            detail = "tokens cannot be checked before the issuer's keys are here"
            raise PenstockError("not_ready", detail, retry_after_s=1.0)
        return issuer.verifier.verify(token)

    async def verified(self, token: str) -> Principal:
        """As `verify`, asking its issuer where that is needed."""
        try:
            return self.verify(token)
        except UnknownKey as error:
            keys = self._issuer_of(token).keys
            if keys is None or not await keys.renewed(error.kid):
                raise
            return self.verify(token)
        except MustAsk:
            introspector = self._issuer_of(token).introspector
            assert introspector is not None, "only an introspector must be asked"
            return await introspector.ask(token)

    def counts(self, principal: Principal) -> bool:
        """False for a principal of earlier whose key its issuer has taken back since."""
        if principal.signed_by is None:
            return True
        name, kid = principal.signed_by
        issuer = self._by_name.get(name)
        return issuer is None or issuer.verifier is None or issuer.verifier.has_key(kid)

    def _issuer_of(self, token: str) -> TrustedIssuer:
        if self._only is not None:
            return self._only
        if len(token) > TOKEN_BYTES_MAX:
            raise refused(f"the token is longer than {TOKEN_BYTES_MAX} bytes")
        name = _claimed_issuer(token)
        found = self._opaque if name is None else self._by_name.get(name)
        if found is None:
            raise refused("the token was not accepted: its issuer is not trusted here, or it cannot be read")
        return found


def _claimed_issuer(token: str) -> str | None:
    """`iss` of what looks like a JWT, unverified: good for nothing but finding the keys. None: it is opaque."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        return _decode(urlsafe_b64decode(parts[1].encode("ascii"))).iss
    except (ValueError, RecursionError):
        return None
