"""Revoked tokens as one process knows them, in the order in which it learned of them. Pure."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping

from penstock.http.followed_issuer import Revoked, RevokedToken

__all__ = ["RevokedTokens"]


def _random_name() -> str:
    return secrets.token_hex(4)


class RevokedTokens:
    """`expiries`: id (or mark, `http.revocation`) → expiry in epoch seconds, for those who check tokens."""

    def __init__(self, known: Mapping[str, float], *, new_name: Callable[[], str] = _random_name) -> None:
        self.expiries: dict[str, float] = {}
        self.version = 0
        """How many were added."""
        self._name = new_name()  # numbers are of this process, and a cursor may come to another one
        self._numbers: dict[str, int] = {}
        for token_id, expires_at_s in known.items():
            self.add(token_id, expires_at_s)

    def add(self, token_id: str, expires_at_s: float) -> None:
        """From now on it is refused; for one that is known the later expiry counts."""
        known = self.expiries.get(token_id)
        self.expiries[token_id] = expires_at_s if known is None else max(known, expires_at_s)
        if known is None or expires_at_s > known:
            self.version += 1
            self._numbers.pop(token_id, None)
            self._numbers[token_id] = self.version

    def forget(self, before_s: float) -> None:
        """Forget those that expired before."""
        for token_id in [known for known, expires_at_s in self.expiries.items() if expires_at_s < before_s]:
            del self.expiries[token_id], self._numbers[token_id]

    def listed(self, *, still_s: float, after: str = "") -> Revoked:
        """Those that expire after `still_s`: what is new since the cursor `after`; without one of ours, all."""
        number = self._number(after)
        found = [
            RevokedToken(token_id, self.expiries[token_id])
            for token_id in self._newer(number or 0)
            if self.expiries[token_id] > still_s
        ]
        return Revoked(sorted(found, key=lambda token: token.jti), f"{self._name}-{self.version}", number is None)

    def _newer(self, number: int) -> Iterator[str]:
        for token_id, own in reversed(self._numbers.items()):
            if own <= number:
                return
            yield token_id

    def _number(self, cursor: str) -> int | None:
        name, _, number = cursor.partition("-")
        digits = number.isascii() and number.isdigit() and len(number) < 20
        return int(number) if name == self._name and digits else None
