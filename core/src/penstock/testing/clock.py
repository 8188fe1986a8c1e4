"""A clock that tests move. Sleepers wake in order of their deadline as the clock passes it."""

from __future__ import annotations

import asyncio
import heapq
from itertools import count

__all__ = ["ManualClock"]


class ManualClock:
    """Implements `ports.clock.Clock`; time stands still until `advance`."""

    def __init__(self, now_ms: int = 1_514_764_800_000) -> None:
        self._now_ms = now_ms
        self._monotonic_s = 0.0
        self._order = count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now_ms(self) -> int:
        """Epoch milliseconds as set by the test."""
        return self._now_ms

    def monotonic_s(self) -> float:
        """Seconds advanced so far."""
        return self._monotonic_s

    async def sleep(self, seconds: float) -> None:
        """Wait until the test has advanced the clock by `seconds`."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._monotonic_s + max(0.0, seconds), next(self._order), waiter))
        await waiter

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward or back; nobody has waited meanwhile."""
        self._now_ms += round(seconds * 1000)

    async def advance(self, seconds: float) -> None:
        """Move time forward, waking sleepers in order and letting them run."""
        target = self._monotonic_s + seconds
        while self._sleepers and self._sleepers[0][0] <= target:
            due, _, waiter = heapq.heappop(self._sleepers)
            self._now_ms += round((due - self._monotonic_s) * 1000)
            self._monotonic_s = due
            if not waiter.done():
                waiter.set_result(None)
            await asyncio.sleep(0)
        self._now_ms += round((target - self._monotonic_s) * 1000)
        self._monotonic_s = target
        await asyncio.sleep(0)
