"""One topic over a WebSocket, as long as somebody wants it: connect, read, renew the token, resume after a break."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from penstock.client.backoff import Backoff
from penstock.client.calls import Calls
from penstock.client.connecting import open_socket
from penstock.client.errors import ClientError, Unauthorized, Unavailable
from penstock.client.model import Event, Gap, Notice
from penstock.client.upkeep import Upkeep
from penstock.client.wire import TOKEN_REFUSED, Closed, Reply, read_close, read_line

__all__ = ["Following", "Wanted"]

OnNotice = Callable[[Notice], None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to subscribe to. `after` None: where the durable subscription is, else `latest`."""

    topic: str
    after: str | None = None
    filter: str | None = None
    slow: str | None = None
    credit: int | None = None
    durable: str | None = None
    auto_ack: bool = True

    def query(self, after: str | None, *, unconsumed: int = 0) -> str:
        """The query of the URL. `unconsumed`: events of earlier connections that the reader has yet to be done with;
        they count against the credit.
        """
        asked = {
            "after": after,
            "filter": self.filter,
            "slow": self.slow,
            "credit": None if self.credit is None else max(0, self.credit - unconsumed),
            "durable": self.durable,
        }
        return urlencode({name: value for name, value in asked.items() if value is not None})


class Following:
    """Events and gaps of a topic over all its connections, each once and in order."""

    def __init__(self, calls: Calls, wanted: Wanted, *, on_notice: OnNotice | None = None) -> None:
        self._calls = calls
        self._wanted = wanted
        self._on_notice = on_notice
        self._after = wanted.after
        self._backoff = Backoff(calls.limits, calls.chance)
        self._was_open = False
        self._refused = False  # the last token that was shown
        self._token: str | None = None
        self._upkeep: Upkeep | None = None
        self._unconsumed = 0  # events that have come and that the reader is not done with
        self._stopped = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    async def items(self) -> AsyncGenerator[list[Event | Gap], None]:
        """What comes, as it comes; ends with `stop`. Raises when another try would end the same way, and when the
        limits on tries are reached.
        """
        while not self._stopped.is_set():
            unconsumed = self._unconsumed
            try:
                socket = await self._connected(unconsumed)
            except ClientError as error:
                wait_s = self._after_failure(error)
            else:
                self._was_open = True
                opened_at_s = self._calls.clock.monotonic_s()
                ack = None if self._upkeep is None else self._upkeep.unsent_ack
                self._upkeep = Upkeep(socket, self._calls, token=self._token, credit=self._wanted.credit, ack=ack)
                self._upkeep.consumed(unconsumed - self._unconsumed)  # while it was being connected
                try:
                    while (items := await self._received(socket, self._upkeep)) is not None:
                        if items:
                            yield items
                finally:
                    await self._upkeep.end()
                if self._calls.clock.monotonic_s() - opened_at_s > self._calls.limits.backoff_max_s:
                    self._backoff.reset()
                wait_s = self._after_close(socket, self._upkeep)
            await self._pause(wait_s)

    def consumed(self, item: Event | Gap) -> None:
        """The reader has asked for what comes after `item`, so it is done with it."""
        if self._upkeep is not None and isinstance(item, Event):
            self._unconsumed -= 1
            self._upkeep.consumed(1)
            if self._wanted.durable and self._wanted.auto_ack:
                self._upkeep.acknowledge(item.cursor)

    async def stop(self) -> None:
        """End `items`, whoever waits in it."""
        self._stopped.set()
        if self._upkeep is not None:
            await self._upkeep.end()

    async def _connected(self, unconsumed: int) -> ClientConnection:
        self._token = None
        token = self._token = await self._calls.tokens.current()
        query = self._wanted.query(self._after, unconsumed=unconsumed)
        return await open_socket(self._calls, f"/v1/topics/{quote(self._wanted.topic, safe='')}?{query}", token)

    async def _received(self, socket: ClientConnection, upkeep: Upkeep) -> list[Event | Gap] | None:
        """What the next message brings, perhaps nothing; None once the socket is closed."""
        upkeep.waiting = True
        try:
            message = await socket.recv()
        except ConnectionClosed:
            return None
        upkeep.heard()
        text = message if isinstance(message, str) else message.decode()
        acknowledge = self._acknowledged_from_anywhere if self._wanted.durable else None
        items: list[Event | Gap] = []
        for line in text.split("\n"):  # not splitlines: JSON text may hold U+2028
            if line and (item := self._taken(read_line(line, self._wanted.topic, acknowledge), upkeep)) is not None:
                items.append(item)
        if items:
            self._backoff.reset()
            self._refused = False
        return items

    def _taken(self, item: Event | Gap | Notice | Reply, upkeep: Upkeep) -> Event | Gap | None:
        if isinstance(item, Event):
            self._after = item.cursor
            self._unconsumed += 1
            return item
        if isinstance(item, Gap):
            self._after = item.to_cursor
            return item
        if isinstance(item, Reply):
            if not upkeep.answered(item) and not item.ok:  # an acknowledgement or credit, say
                fields = {"sys": "refused", "code": item.code, "detail": item.detail}
                self._tell(Notice(self._wanted.topic, "refused", fields))
            return None
        self._after = item.fields.get("c", self._after)
        if item.kind == "expiring":
            upkeep.renew(float(item.fields.get("in", 0.0)))
        self._tell(item)
        return None

    def _after_failure(self, error: ClientError) -> float:
        """Seconds until the next try; raises `error` where the tries are used up or no other one would do."""
        limits = self._calls.limits
        tries_max = limits.connects_in_a_row_max if self._was_open else limits.first_connects_max
        again = error.retry or (self._was_open and error.status >= 500)  # it has worked, so it may again
        if isinstance(error, Unauthorized) and self._token is not None:  # of the topic, not of the token's endpoint
            self._calls.tokens.forget()
            again, self._refused = not self._refused, True
        too_long = (error.retry_after_s or 0.0) > limits.retry_after_max_s
        if not again or too_long or self._backoff.failures + 1 >= tries_max:
            raise error
        self._tell(Notice(self._wanted.topic, "unreachable", {"sys": "unreachable", "detail": error.detail}))
        return self._backoff.next_s(error.retry_after_s)

    def _after_close(self, socket: ClientConnection, upkeep: Upkeep) -> float:
        if self._stopped.is_set():
            return 0.0
        if upkeep.wants_new_connection:
            self._tell(Notice(self._wanted.topic, "renewed", {"sys": "renewed"}))
            return 0.0
        closed: Closed = read_close(socket.close_code or 1006, socket.close_reason or "", self._wanted.topic)
        if closed.error is not None:
            raise closed.error
        if closed.code == TOKEN_REFUSED:
            self._calls.tokens.forget()
        if self._after in (None, "latest"):
            self._after = closed.after or self._after
        fields = {"sys": "closed", "code": closed.code}
        self._tell(Notice(self._wanted.topic, "closed", fields | ({"reason": closed.name} if closed.name else {})))
        if (closed.retry_s or 0.0) > self._calls.limits.retry_after_max_s:
            detail = f"topic '{self._wanted.topic}' is closed to this client for {closed.retry_s:.0f} s"
            raise Unavailable(closed.name or "not_ready", detail, retry=True, retry_after_s=closed.retry_s)
        return self._backoff.next_s(closed.retry_s)

    async def _pause(self, seconds: float) -> None:
        """Sleep, or less where it is told to stop."""
        if seconds <= 0 or self._stopped.is_set():
            return
        waits = [asyncio.ensure_future(self._calls.clock.sleep(seconds)), asyncio.ensure_future(self._stopped.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    def _acknowledged_from_anywhere(self, cursor: str) -> None:
        """`Event.ack`, which may be called in another thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._acknowledged, cursor)

    def _acknowledged(self, cursor: str) -> None:
        if self._upkeep is not None:
            self._upkeep.acknowledge(cursor)

    def _tell(self, notice: Notice) -> None:
        if self._on_notice is not None:
            self._on_notice(notice)
