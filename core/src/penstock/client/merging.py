"""Several sources as one, read ahead up to a limit: each is read by a task of its own."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Generic, TypeVar

__all__ = ["Merged"]

T = TypeVar("T")


class Merged(Generic[T]):
    """Batches of several sources in the order in which they come; order within a source is kept.

    `items_max`: so many items are read ahead of the caller, all sources together; then none is read.
    """

    def __init__(self, sources: Sequence[AsyncGenerator[list[T], None]], *, items_max: int) -> None:
        self._sources = sources
        self._items: deque[T] = deque()
        self._room = asyncio.Semaphore(items_max)
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def batches(self) -> AsyncGenerator[list[T], None]:
        """All that is there, as soon as there is something; raises what a source raises, after what came before."""
        self._tasks = [asyncio.create_task(self._pump(source)) for source in self._sources]
        for task in self._tasks:
            task.add_done_callback(lambda _: self._wake.set())
        try:
            while True:
                self._wake.clear()
                running = any(not task.done() for task in self._tasks)
                failed = [task for task in self._tasks if task.done() and not task.cancelled() and task.exception()]
                if batch := self._drained():
                    yield batch
                if failed:
                    failed[0].result()
                if not running and not batch:
                    return
                if running and not batch:
                    await self._wake.wait()
        finally:
            await self.stop()

    async def stop(self) -> None:
        """End the reading of all sources; `batches` ends with what is there."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _drained(self) -> list[T]:
        batch = list(self._items)
        self._items.clear()
        for _ in batch:
            self._room.release()
        return batch

    async def _pump(self, source: AsyncGenerator[list[T], None]) -> None:
        async with aclosing(source):
            async for items in source:
                for item in items:
                    await self._room.acquire()
                    self._items.append(item)
                    self._wake.set()
