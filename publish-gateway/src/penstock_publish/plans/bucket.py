"""A token bucket: `rate` units a second, at most `burst` saved. Pure: the time is passed in.

Credit may become a debt: what has been delivered cannot be taken back, so it is paid off by waiting. Over any time
`t` a bucket lets through at most rate × t + burst (`take`), or that and one delivery more (`spend`, while `wait_s` is
zero). A clock that goes back takes nothing away.
"""

from __future__ import annotations

__all__ = ["Bucket"]

#: Part of one unit that sums of floats may be off.
_ROUNDING = 1e-6


class Bucket:
    """Begins full."""

    __slots__ = ("_at_s", "_credit", "burst", "rate")

    def __init__(self, rate: float, burst: float, now_s: float) -> None:
        self.rate = rate
        self.burst = burst
        self._credit = float(burst)
        self._at_s = now_s

    def resize(self, rate: float, burst: float, now_s: float) -> None:
        """Another rate from now on. What was saved beyond the new burst is gone; a debt stays."""
        self._credit = min(burst, self.credit(now_s))
        self.rate, self.burst = rate, burst

    def take(self, amount: float, now_s: float) -> bool:
        """Take it if it is there; False: nothing was taken."""
        if self.credit(now_s) + _ROUNDING < amount:
            return False
        self._credit -= amount
        return True

    def spend(self, amount: float, now_s: float) -> None:
        """Take it, whether it is there or not."""
        self._credit = self.credit(now_s) - amount

    def credit(self, now_s: float) -> float:
        """What there is; below zero a debt."""
        if now_s > self._at_s:
            self._credit = min(self.burst, self._credit + (now_s - self._at_s) * self.rate)
        self._at_s = now_s
        return self._credit

    def wait_s(self, amount: float, now_s: float) -> float:
        """Seconds until `amount` is there."""
        missing = amount - self.credit(now_s)
        return missing / self.rate if missing > _ROUNDING else 0.0

    def full_in_s(self, now_s: float) -> float:
        """Seconds until nothing more is saved."""
        return max(0.0, (self.burst - self.credit(now_s)) / self.rate)
