"""A WebSocket to an upstream for as long as its caller's token lasts."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from aiohttp import web

from penstock.http.access import Principal
from penstock_publish.door.tunnel import Tunnel

__all__ = ["Passage"]

#: A caller that does not take a close within this is cut off.
_CLOSE_S = 0.5


class Passage:
    """`run` it; `end` it from elsewhere. `keys`: how often all signing keys had been replaced when it was let in."""

    def __init__(self, tunnel: Tunnel, request: web.Request, principal: Principal, keys: int) -> None:
        self.principal, self.keys = principal, keys
        self._tunnel, self._request = tunnel, request
        self._ending = asyncio.Event()
        self._over = asyncio.Event()
        self._end: tuple[int, bytes] | None = None

    async def run(self) -> None:
        """Until one side closes, or the end."""
        running = asyncio.create_task(self._tunnel.run())
        ending = asyncio.create_task(self._ending.wait())
        try:
            await asyncio.wait((running, ending), return_when=asyncio.FIRST_COMPLETED)
            if self._end is not None and not running.done():
                await self._close(*self._end)
            await running
        finally:
            for task in (running, ending):
                task.cancel()
            await asyncio.gather(running, ending, return_exceptions=True)
            self._over.set()

    def end(self, code: int, reason: bytes) -> None:
        """Have it closed, whether the caller reads or not; does not wait."""
        if self._end is None:
            self._end = code, reason
            self._ending.set()

    async def over(self) -> None:
        """Wait until nothing of it is left."""
        await self._over.wait()

    async def _close(self, code: int, reason: bytes) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await self._tunnel.close(code, reason)
                return
        if self._request.transport is not None:  # it does not read: the close waits behind what it left
            self._request.transport.abort()
