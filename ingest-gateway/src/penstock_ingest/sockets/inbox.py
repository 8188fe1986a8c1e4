"""Messages that were read from one socket and are not answered yet: bounded, in their order. Pure but for waiting."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from penstock.errors import PenstockError

__all__ = ["Inbox", "Message"]


@dataclass(frozen=True, slots=True)
class Message:
    """A batch, the `number`-th of its socket, as it came. `refusal`: it is not looked at, this is the reply."""

    number: int
    body: bytes
    refusal: PenstockError | None = None


class Inbox:
    """`full` counts messages and their bytes until they are `answered`; a single longer message may be alone."""

    def __init__(self, *, messages_max: int, max_bytes: int) -> None:
        self._messages_max = messages_max
        self._max_bytes = max_bytes
        self._waiting: deque[Message] = deque()
        self._count = 0
        self._size_bytes = 0
        self._ended = False
        self._changed = asyncio.Event()
        self._room = asyncio.Event()

    @property
    def full(self) -> bool:
        """No more is to be read for now."""
        return self._count >= self._messages_max or self._size_bytes >= self._max_bytes

    def put(self, message: Message) -> None:
        """One more that waits for its reply."""
        self._waiting.append(message)
        self._count += 1
        self._size_bytes += len(message.body)
        self._changed.set()

    def end(self) -> None:
        """No more will come."""
        self._ended = True
        self._changed.set()

    async def room(self) -> None:
        """Return once it is not full."""
        while self.full:
            self._room.clear()
            await self._room.wait()

    async def some(self, *, most: int) -> list[Message]:
        """The next ones, at most so many, in order; none: it has ended and is empty."""
        while not self._waiting and not self._ended:
            self._changed.clear()
            await self._changed.wait()
        return [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]

    def answered(self, message: Message) -> None:
        """Its reply has been sent, or nobody waits for it."""
        self._count -= 1
        self._size_bytes -= len(message.body)
        self._room.set()
