"""How long to wait before the next try: full jitter over a doubling bound, after what the server asks for. Pure."""

from __future__ import annotations

import random

from penstock.client.limits import ClientLimits

__all__ = ["Backoff"]

_DOUBLINGS_MAX = 30  # beyond, any bound has been passed; and 2**n stays a number that floats can hold


class Backoff:
    """Waits of one row of failures; `reset` after a success."""

    def __init__(self, limits: ClientLimits, chance: random.Random) -> None:
        self._limits = limits
        self._chance = chance
        self.failures = 0

    def next_s(self, asked_s: float | None = None) -> float:
        """Seconds to wait now: those that the server asked for, and a random part of the bound on top.

        Whoever was sent away together does not come back together.
        """
        doubled = self._limits.backoff_first_s * 2.0 ** min(self.failures, _DOUBLINGS_MAX)
        self.failures += 1
        return (asked_s or 0.0) + self._chance.random() * min(self._limits.backoff_max_s, doubled)

    def reset(self) -> None:
        """It worked."""
        self.failures = 0
