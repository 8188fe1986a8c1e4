"""Single events that arrive while an append is under way travel together: one admission, one append for all of them.

An append of one event costs nearly what one of a hundred does, and the log writes one group after the other anyway.
So each stream has at most one append of single events under way, and those that arrive meanwhile share the next one.
An event that comes alone waits for nothing. The order of arrival is kept.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from penstock.errors import PenstockError

__all__ = ["Gatherer"]

Reply = TypeVar("Reply")


class Gatherer(Generic[Reply]):
    """Gathers the single events of one stream. `store` gets the texts of a group, and the trace of each ("": none),
    and returns a reply, or the error, for each; what it raises is the answer to all. For use in the event loop only.
    """

    def __init__(
        self,
        store: Callable[[Sequence[bytes], Sequence[str]], Awaitable[Sequence[Reply | BaseException]]],
        *,
        group_max: int,
        waiting_max: int,
        retry_after_s: float,
    ) -> None:
        self._store = store
        self._group_max = group_max
        self._waiting_max = waiting_max
        self._retry_after_s = retry_after_s
        self._waiting: deque[tuple[bytes, str, asyncio.Future[Reply]]] = deque()
        self._work: asyncio.Task[None] | None = None

    async def room(self) -> None:
        """Return once not too many wait; for who sends many, and can wait itself."""
        while len(self._waiting) >= self._waiting_max:
            await asyncio.wait({self._waiting[0][2]})

    def add(self, text: bytes, trace: str = "") -> asyncio.Future[Reply]:
        """The reply to this event, once its group is durable; `too_many_requests` where too many wait."""
        if len(self._waiting) >= self._waiting_max:
            raise PenstockError(
                "too_many_requests",
                f"{self._waiting_max} events wait for the log; send more slowly or many events a request",
                retry_after_s=self._retry_after_s,
            )
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[Reply] = loop.create_future()
        self._waiting.append((text, trace, reply))
        if self._work is None:
            # A task begins in the next turn of the loop: requests that arrived in this one are in its first group.
            self._work = loop.create_task(self._drain())
        return reply

    async def _drain(self) -> None:
        try:
            while self._waiting:
                count = min(len(self._waiting), self._group_max)
                group = [self._waiting.popleft() for _ in range(count)]
                await self._answer(group)
        finally:
            self._work = None

    async def _answer(self, group: Sequence[tuple[bytes, str, asyncio.Future[Reply]]]) -> None:
        try:
            replies = await self._store([text for text, _, _ in group], [trace for _, trace, _ in group])
        except BaseException as error:
            for _, _, reply in group:
                if not reply.done():
                    reply.set_exception(error if isinstance(error, Exception) else asyncio.CancelledError())
            if not isinstance(error, Exception):
                raise
            return
        for (_, _, reply), outcome in zip(group, replies, strict=True):
            if reply.done():
                continue  # its client has left; the event is stored
            if isinstance(outcome, BaseException):
                reply.set_exception(outcome)
            else:
                reply.set_result(outcome)
