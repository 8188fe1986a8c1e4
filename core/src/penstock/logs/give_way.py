"""Letting other threads have the interpreter while the event loop is busy."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType

__all__ = ["GiveWay"]

#: While threads work for the log, the event loop lets go of the interpreter lock this often, for this long.
_EVERY_S = 0.002
_FOR_S = 0.00005


class GiveWay:
    """Entered for as long as a thread works for a caller in the event loop.

    A loop that never idles but turns faster than `sys.getswitchinterval()` takes the interpreter lock back before a
    thread that waits for it has woken up, and so starves it for seconds (measured: a commit of 0.4 ms took 11 s).
    A pause of 50 µs every 2 ms bounds that to some milliseconds, and costs nothing when no thread works.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._threads = 0
        self._scheduled = False

    def __enter__(self) -> None:
        self.enter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    def enter(self) -> None:
        """A thread has been given work."""
        self._threads += 1
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_later(_EVERY_S, self._pause)

    def leave(self, count: int = 1) -> None:
        """Pieces of work are done."""
        self._threads -= count

    def _pause(self) -> None:
        self._scheduled = self._threads > 0
        if self._scheduled:
            time.sleep(_FOR_S)
            self._loop.call_later(_EVERY_S, self._pause)
