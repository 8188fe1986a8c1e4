"""Events that one WebSocket sends into streams: in the order in which they came, answered when they are durable."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from penstock.errors import PenstockError
from penstock.http.access import Principal
from penstock.ports.intake import Intake
from penstock_publish.topics.lines import Pub, refusal, reply

__all__ = ["Publisher"]

_log = structlog.get_logger(__name__)

_Waiting = tuple[Pub, bytes, Principal, str | None]


class Publisher:
    """One WebSocket's. `say` writes a line to it; at most `waiting_max` lines wait for their reply.

    Each is submitted when the one before has been answered: this is what keeps the order.
    """

    def __init__(self, intake: Intake, say: Callable[[dict[str, object]], None], *, waiting_max: int) -> None:
        self._intake = intake
        self._say = say
        self._waiting: asyncio.Queue[_Waiting | None] = asyncio.Queue(waiting_max)
        self._working = asyncio.create_task(self._work())

    async def put(self, line: Pub, body: bytes, principal: Principal, bearer: str | None) -> None:
        """Send it on; waits while as many wait as may."""
        await self._waiting.put((line, body, principal, bearer))

    async def close(self, wait_s: float) -> None:
        """Let what has come in be accepted, for so long, although nobody hears the replies."""
        try:
            async with asyncio.timeout(wait_s):
                await self._waiting.put(None)
                await self._working
        except TimeoutError:
            self._working.cancel()
            await asyncio.gather(self._working, return_exceptions=True)

    async def _work(self) -> None:
        while (waiting := await self._waiting.get()) is not None:
            line, body, principal, bearer = waiting
            try:
                found = await self._intake.submit(line.pub, body, principal=principal, bearer=bearer)
            except PenstockError as error:
                self._say(refusal(error, line.id))
            except Exception:  # outermost loop of the sending: the lines behind this one wait for it
                _log.exception("publishing_failed", stream=line.pub)
                detail = "the event was not answered for; it is not known whether it was taken"
                self._say(refusal(PenstockError("internal", detail), line.id))
            else:
                if line.id is not None:
                    self._say(reply(line.id, **found))
