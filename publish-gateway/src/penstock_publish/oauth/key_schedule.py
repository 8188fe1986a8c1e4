"""Signing keys and when each of them counts. Pure but for the clock that is passed in.

A new key is published before it signs, so that who fetches the key set now and then knows it in time; the one before
it stays published until the last token that it has signed is no longer taken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from joserfc.jwk import ECKey

from penstock.ports.clock import Clock

__all__ = ["KeyRules", "SigningKey", "SigningKeys", "keys_after", "keys_needed", "signing_at"]

_CLOCKS_S = 300.0  # how far clocks may differ (the bound of `auth.leeway_s`)
_PUBLIC = ("kty", "crv", "x", "y")


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key; it signs from `signs_from_s` (epoch seconds) until the next one does."""

    kid: str
    key: ECKey
    signs_from_s: float


@dataclass(frozen=True, slots=True)
class KeyRules:
    """`rotation_s`: life of a key as the signing one, None for ever. `publish_s`: how long it is shown before.

    `lifetime_s`: how long a token holds at most.
    """

    rotation_s: float | None
    publish_s: float
    lifetime_s: float


class SigningKeys:
    """The keys of the embedded issuer as this process knows them. Read by several threads, replaced by one."""

    def __init__(self, keys: Sequence[SigningKey], clock: Clock) -> None:
        self._clock = clock
        self._keys: tuple[SigningKey, ...] = ()
        self._verifying: dict[str, ECKey] = {}
        self.replace(keys)

    @property
    def verifying(self) -> Mapping[str, ECKey]:
        """Every published key by `kid`; the same mapping for ever, which `replace` changes."""
        return self._verifying

    @property
    def known(self) -> Sequence[SigningKey]:
        """Every published key with its time."""
        return self._keys

    @property
    def signing(self) -> SigningKey:
        """The key that signs now."""
        return signing_at(self._keys, self._clock.now_ms() / 1000)

    def replace(self, keys: Sequence[SigningKey]) -> None:
        """Take over what was read; a key that is known stays the same object, by which verified tokens are kept."""
        for key in keys:
            self._verifying.setdefault(key.kid, key.key)
        self._keys = tuple(keys)
        for kid in self._verifying.keys() - {key.kid for key in keys}:
            del self._verifying[kid]

    def public_jwks(self) -> dict[str, Any]:
        """The public half, as `/oauth/jwks.json` shows it (RFC 7517), the key that signs last first."""
        shown = []
        for one in sorted(self._keys, key=_order, reverse=True):
            values = one.key.as_dict(private=False)
            public = {name: values[name] for name in _PUBLIC}
            shown.append({**public, "kid": one.kid, "use": "sig", "alg": "ES256"})
        return {"keys": shown}


def signing_at(keys: Sequence[SigningKey], now_s: float) -> SigningKey:
    """The last that has begun to sign; the first where none has."""
    ordered = sorted(keys, key=_order)
    begun = [key for key in ordered if key.signs_from_s <= now_s]
    return begun[-1] if begun else ordered[0]


def keys_needed(keys: Sequence[SigningKey], now_s: float, rules: KeyRules) -> list[SigningKey]:
    """Without those whose last token has expired."""
    ordered = sorted(keys, key=_order)
    gone_s = rules.lifetime_s + _CLOCKS_S
    return [
        key
        for key, follower in zip(ordered, [*ordered[1:], None], strict=True)
        if follower is None or now_s < follower.signs_from_s + gone_s
    ]


def keys_after(
    keys: Sequence[SigningKey],
    now_s: float,
    rules: KeyRules,
    *,
    make: Callable[[float], SigningKey],
    asked: bool = False,
    compromised: bool = False,
) -> list[SigningKey]:
    """The keys as they should be: without old ones, with a new one where it is time or `asked` for.

    `make(signs_from_s)` makes a key. While one waits for its turn there is no other. `compromised`: a new key alone.
    """
    if compromised:
        return [make(now_s)]
    needed = keys_needed(keys, now_s, rules)
    newest_s = max(key.signs_from_s for key in needed)
    if newest_s > now_s:
        return needed
    due = rules.rotation_s is not None and now_s >= newest_s + rules.rotation_s - rules.publish_s
    return [*needed, make(now_s + rules.publish_s)] if asked or due else needed


def _order(key: SigningKey) -> tuple[float, str]:
    return key.signs_from_s, key.kid
