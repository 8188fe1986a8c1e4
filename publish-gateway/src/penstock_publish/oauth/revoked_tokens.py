"""Revoked tokens as one process knows them, in the order in which it learned of them. Pure."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping

from penstock.http.followed_issuer import Revoked, RevokedToken

__all__ = ["NEWS_MAX", "RevokedTokens"]

#: Who is further behind gets the whole list, which is kept: anybody may ask, so no request makes much work.
NEWS_MAX = 1_000


def _random_name() -> str:
    return secrets.token_hex(4)


class RevokedTokens:
    """`expiries`: id (or mark, `http.revocation`) → expiry in epoch seconds, for those who check tokens."""

    def __init__(self, known: Mapping[str, float], *, new_name: Callable[[], str] = _random_name) -> None:
        self.expiries: dict[str, float] = {}
        self.version = 0  # how many were added
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

    def whole(self, still_s: float) -> Revoked:
        """All that expire after `still_s`."""
        return self._listed(0, still_s, whole=True)

    def news(self, after: str, still_s: float) -> Revoked | None:
        """What is new since the cursor `after`; None where it is none of ours, or that is much: ask for all."""
        number = self._number(after)
        if number is None or self.version - number > NEWS_MAX:
            return None
        return self._listed(number, still_s, whole=False)

    def _listed(self, number: int, still_s: float, *, whole: bool) -> Revoked:
        found = [
            RevokedToken(token_id, self.expiries[token_id])
            for token_id in self._newer(number)
            if self.expiries[token_id] > still_s
        ]
        return Revoked(sorted(found, key=lambda token: token.jti), f"{self._name}-{self.version}", whole)

    def _newer(self, number: int) -> Iterator[str]:
        for token_id, own in reversed(self._numbers.items()):
            if own <= number:
                return
            yield token_id

    def _number(self, cursor: str) -> int | None:
        name, _, number = cursor.partition("-")
        digits = number.isascii() and number.isdigit() and len(number) < 20
        return int(number) if name == self._name and digits else None
