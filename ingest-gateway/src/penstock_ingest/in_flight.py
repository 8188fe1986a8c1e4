"""Bytes of bodies that are being read or admitted, over all edges of this process: one bound for all of them.

For use in the event loop only.
"""

from __future__ import annotations

import asyncio

from penstock.errors import PenstockError

__all__ = ["InFlight"]


class InFlight:
    """At most `max_bytes` at once; a single body that is longer may be alone."""

    def __init__(self, max_bytes: int, *, retry_after_s: float) -> None:
        self._max_bytes = max_bytes
        self._retry_after_s = retry_after_s
        self._freed = asyncio.Event()
        self.size_bytes = 0

    def hold(self, size_bytes: int, held_bytes: int = 0) -> int:
        """Count `size_bytes` instead of `held_bytes`, and return them; `too_many_requests` where that is too much."""
        if not self._fits(size_bytes, held_bytes):
            raise PenstockError(
                "too_many_requests",
                f"{self.size_bytes} bytes are being admitted; send fewer requests at once",
                retry_after_s=self._retry_after_s,
            )
        self.size_bytes += size_bytes - held_bytes
        return size_bytes

    async def hold_when_possible(self, size_bytes: int) -> None:
        """As `hold`, for who can wait: whoever sent it is not read meanwhile."""
        while not self._fits(size_bytes, 0):
            self._freed.clear()
            await self._freed.wait()
        self.size_bytes += size_bytes

    def release(self, size_bytes: int) -> None:
        """Count them no more."""
        self.size_bytes -= size_bytes
        self._freed.set()

    def _fits(self, size_bytes: int, held_bytes: int) -> bool:
        after_bytes = self.size_bytes + size_bytes - held_bytes
        return size_bytes <= held_bytes or after_bytes <= max(self._max_bytes, size_bytes)
