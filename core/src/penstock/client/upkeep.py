"""What an open socket needs beside being read: pings, a new token in time, acknowledgements and credit."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import msgspec
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from penstock.client.calls import Calls
from penstock.client.errors import ClientError
from penstock.client.wire import Reply

__all__ = ["Upkeep"]

_AUTH_ID = 1  # the only line that asks for a reply


class Upkeep:
    """Beside one socket, until `end`. What it says goes out as lines (contract: `{"auth"}`, `{"ack"}`, `{"credit"}`).

    `wants_new_connection`: it has closed the socket because only a new one can carry the new token.
    """

    def __init__(
        self, socket: ClientConnection, calls: Calls, *, token: str | None, credit: int | None, ack: str | None = None
    ) -> None:
        self._socket = socket
        self._calls = calls
        self._token = token
        self._credit_step = max(1, credit // 2) if credit else 0
        self._consumed = 0
        self.unsent_ack = ack
        self._due = asyncio.Event()
        self._answer: asyncio.Future[Reply] | None = None
        self._seen = 0
        self.waiting = False
        self.wants_new_connection = False
        self._renewing: asyncio.Task[None] | None = None
        self._tasks = {self._spawn(self._ping_on()), self._spawn(self._say_on())}
        if ack is not None:
            self._due.set()

    def heard(self) -> None:
        """A message has come."""
        self.waiting = False
        self._seen += 1

    def acknowledge(self, cursor: str) -> None:
        """Tell the server soon that everything up to `cursor` is done with."""
        self.unsent_ack = cursor
        self._due.set()

    def consumed(self, events: int) -> None:
        """The reader is done with so many events: the server may send as many more, where it counts credit."""
        if self._credit_step:
            self._consumed += events
            if self._consumed >= self._credit_step:
                self._due.set()

    def renew(self, in_s: float) -> None:
        """The token ends in `in_s` seconds."""
        if self._renewing is None or self._renewing.done():
            self._renewing = self._spawn(self._renew(in_s))
            self._tasks.add(self._renewing)

    def answered(self, reply: Reply) -> bool:
        """True if the reply was awaited: the one to a new token."""
        if reply.id != _AUTH_ID or self._answer is None or self._answer.done():
            return False
        self._answer.set_result(reply)
        return True

    async def end(self) -> None:
        """Say what is left to say, close the socket, leave nothing behind."""
        tasks, self._tasks = self._tasks, set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with suppress(ConnectionClosed):
            await self._say()
        await self._socket.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(work)

    async def _ping_on(self) -> None:
        """Keep the link alive; break it where nothing comes any more though somebody is reading."""
        clock, limits = self._calls.clock, self._calls.limits
        with suppress(ConnectionClosed):
            while True:
                await clock.sleep(limits.ping_s)
                seen, pong = self._seen, await self._socket.ping()
                await clock.sleep(limits.pong_wait_s)
                if self.waiting and seen == self._seen and not getattr(pong, "done", lambda: True)():
                    self._socket.transport.abort()

    async def _say_on(self) -> None:
        with suppress(ConnectionClosed):
            while True:
                await self._due.wait()
                await self._say()
                await self._calls.clock.sleep(self._calls.limits.ack_every_s)

    async def _say(self) -> None:
        self._due.clear()
        if self.unsent_ack is not None:
            ack = self.unsent_ack
            await self._send({"ack": ack})
            if self.unsent_ack == ack:
                self.unsent_ack = None
        if self._credit_step and self._consumed:
            credit, self._consumed = self._consumed, 0
            await self._send({"credit": credit})

    async def _renew(self, in_s: float) -> None:
        """A new token on the open socket; where the server does not answer, over a new connection.

        Half of the time that is left goes by first, so that short-lived tokens are not renewed all the time.
        """
        calls = self._calls
        await calls.clock.sleep(in_s / 2)
        try:
            token = await calls.tokens.other_than(self._token)
        except ClientError:
            return  # the server closes when the token ends; what connecting again says is then told
        if token == self._token:
            return
        self._answer = asyncio.get_running_loop().create_future()
        waiting: list[asyncio.Future[Any]] = [
            self._answer,
            asyncio.ensure_future(calls.clock.sleep(calls.limits.auth_reply_s)),
        ]
        try:
            with suppress(ConnectionClosed):
                await self._send({"id": _AUTH_ID, "auth": token})
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if self._answer.done() and self._answer.result().ok:
                self._token = token
                return
        finally:
            for one in waiting:
                one.cancel()
        self.wants_new_connection = True
        await self._socket.close()

    async def _send(self, line: dict[str, object]) -> None:
        await self._socket.send(msgspec.json.encode(line), text=True)
