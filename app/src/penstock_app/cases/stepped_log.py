"""A log in memory that knows when its readers have seen everything: how a case goes step by step without timings."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from penstock.logs.memory import MemoryLog
from penstock.ports.clock import Clock

__all__ = ["SteppedLog"]


class SteppedLog(MemoryLog):
    """A memory log whose `wait` lasts until there is news or somebody says `look_again`, however long that takes.

    A task of an app waits only when it has committed all that it has read and found nothing more. So once as many
    readers wait as there are, and the log has not changed since they looked, everything has been processed.
    """

    def __init__(self, *, clock: Clock) -> None:
        super().__init__(clock=clock)
        self._resting: dict[asyncio.Future[None], int] = {}  # reader -> the tick up to which it has seen everything
        self._came_to_rest = asyncio.Event()

    async def wait(self, streams: Collection[str], since: int, timeout_s: float) -> int:
        """See `Log.wait`; any change of the log counts, and time does not."""
        if (now := await self._tick()) > since:
            return now
        reader: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._resting[reader] = since
        self._came_to_rest.set()
        try:
            await reader
        finally:
            self._resting.pop(reader, None)
        return await self._tick()

    async def rest(self, readers: int) -> None:
        """Return when this many readers wait for news and there is none."""
        while True:
            if len(self._resting) >= readers:
                now = await self._tick()
                behind = [reader for reader, since in self._resting.items() if since < now]
                if not behind:
                    return
                self._wake(behind)
            self._came_to_rest.clear()
            await self._came_to_rest.wait()

    def look_again(self) -> None:
        """Let every reader look, though the log has not changed: time has."""
        self._wake(list(self._resting))

    def _wake(self, readers: Collection[asyncio.Future[None]]) -> None:
        for reader in readers:
            self._resting.pop(reader, None)
            if not reader.done():
                reader.set_result(None)

    async def _tick(self) -> int:
        return await super().wait((), 0, 0.0)
