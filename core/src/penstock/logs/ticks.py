"""Ticks: who waits for a change of which stream. Lives in the event loop; no threads, no polling."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable

__all__ = ["CATALOG", "Ticks"]

#: Name under which waiters ask for changes of the catalog.
CATALOG = ""


class Ticks:
    """Counts changes; remembers the last tick of each stream; wakes those that wait for it."""

    def __init__(self) -> None:
        self._now = 0
        self._last: dict[str, int] = {}
        self._waiters: dict[str, set[asyncio.Future[None]]] = {}

    @property
    def now(self) -> int:
        """The current tick."""
        return self._now

    def bump(self, streams: Iterable[str]) -> None:
        """One tick for a change of these streams (none if there are none)."""
        changed = set(streams)
        if not changed:
            return
        self._now += 1
        for stream in changed:
            self._last[stream] = self._now
            _wake(self._waiters.get(stream, ()))

    def wake_all(self) -> None:
        """Let every waiter return: the log closes or has failed."""
        for waiters in self._waiters.values():
            _wake(waiters)

    async def wait(self, streams: Collection[str], since: int, timeout_s: float) -> int:
        """See `Log.wait`. The timeout is real time, as that of a socket would be, not the clock port's."""
        if timeout_s <= 0 or any(self._last.get(stream, 0) > since for stream in streams):
            return self._now
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        for stream in streams:
            self._waiters.setdefault(stream, set()).add(waiter)
        try:
            await asyncio.wait((waiter,), timeout=timeout_s)
        finally:
            for stream in streams:
                self._leave(stream, waiter)
        return self._now

    def _leave(self, stream: str, waiter: asyncio.Future[None]) -> None:
        waiters = self._waiters.get(stream)
        if waiters is not None:
            waiters.discard(waiter)
            if not waiters:
                del self._waiters[stream]


def _wake(waiters: Iterable[asyncio.Future[None]]) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)
