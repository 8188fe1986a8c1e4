"""How many requests read at the same time, how many wait, and that the rest is told to come back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from penstock.errors import PenstockError
from penstock_data.metrics import REFUSED_QUERIES
from penstock_data.settings import QuerySettings, SqlSettings

__all__ = ["Turns"]


class Turns:
    """Bounded concurrency with a bounded queue."""

    def __init__(self, limits: QuerySettings | SqlSettings) -> None:
        self._limits = limits
        self._running = asyncio.Semaphore(limits.running_max)
        self._waiting = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn; `too_many_requests` when too many are waiting already."""
        if self._running.locked() and self._waiting >= self._limits.waiting_max:
            REFUSED_QUERIES.inc()
            raise PenstockError(
                "too_many_requests",
                f"{self._limits.running_max} requests are reading and {self._waiting} are waiting; ask again",
                retry_after_s=self._limits.retry_after_s,
            )
        self._waiting += 1
        try:
            await self._running.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._running.release()
