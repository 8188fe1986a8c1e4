"""Events into one stream over a WebSocket: many batches under way, each acknowledged, what has no reply sent again.

Whatever breaks, a batch is sent until it is answered. Its events have ids, by which the stream tells repetitions.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any
from urllib.parse import quote

import msgspec
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from penstock.client.backoff import Backoff
from penstock.client.calls import Calls
from penstock.client.connecting import open_socket
from penstock.client.errors import ClientError, Refused, Unauthorized, Unavailable, nothing_done, problem_of
from penstock.client.model import Published, Rejection
from penstock.client.publishing import each, event_line
from penstock.client.upkeep import Upkeep
from penstock.client.wire import TOKEN_REFUSED, Reply, read_close

__all__ = ["StreamPublisher"]

_ID = "id"


@dataclass(order=True, slots=True)
class _Batch:
    """Some events that travel as one message; `first` is the number of the first of them and orders batches."""

    first: int
    lines: list[bytes] = field(compare=False)
    size_bytes: int = field(compare=False)
    open: bool = field(default=True, compare=False)  # not sent yet: more events may join it


class StreamPublisher:
    """`async with client.publisher("orders") as publisher: await publisher.send(events)`.

    Leaving the block waits until everything is acknowledged. At most `publisher_in_flight_max` messages wait for
    their reply; then `send` waits. Order is kept as long as the server takes every message; with that limit at 1,
    always.
    """

    def __init__(self, calls: Calls, stream: str, dedupe_of: Callable[[str], Awaitable[list[str]]]) -> None:
        """`dedupe_of`: the columns by which a stream knows an event again."""
        self._calls, self._stream, self._dedupe_of = calls, stream, dedupe_of
        self._backoff = Backoff(calls.limits, calls.chance)
        self._chance: random.Random | None = None
        self._repeatable = True
        self._count = 0
        self._unsent: list[_Batch] = []  # a heap: what comes again goes before what came later
        self._sent: deque[_Batch] = deque()  # on this socket, without a reply
        self._last: _Batch | None = None
        self._total = Published()
        self._failure: ClientError | None = None
        self._rest_until_s = 0.0
        self._spared = 0  # messages that were under way at the last refusal: theirs is no further failure
        self._refused = False  # the last token that was shown
        self._changed = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> StreamPublisher:
        dedupe = await self._dedupe_of(self._stream)
        self._repeatable = bool(dedupe)
        self._chance = self._calls.chance if dedupe == [_ID] else None
        self._running = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                await self.flush()
        finally:
            await self.aclose()

    @property
    def published(self) -> Published:
        """What is answered so far. Rejected events do not raise: look here."""
        return self._total

    async def send(
        self,
        events: Mapping[str, Any]
        | bytes
        | Iterable[Mapping[str, Any] | bytes]
        | AsyncIterator[Mapping[str, Any] | bytes],
    ) -> None:
        """Send one event or many; returns when they are under way, which is not yet durable: see `flush`.

        Raises the error of whatever cannot be sent: nothing behind it is sent either.
        """
        if self._running is None:
            raise Refused(
                "bad_request", "a publisher works within `async with client.publisher(stream) as publisher`"
            )
        if isinstance(events, Mapping | bytes):
            events = [events]
        async for event in each(events):
            line = event_line(event, self._chance)
            while self._failure is None and not self._has_room(len(line)):
                await self._change()
            if self._failure is not None:
                raise self._failure
            self._put(line)
            self._changed.set()

    async def flush(self) -> Published:
        """Wait until everything is durable, or rejected; the result so far."""
        while self._failure is None and (self._unsent or self._sent):
            await self._change()
        if self._failure is not None:
            raise self._failure
        return self._total

    async def aclose(self) -> None:
        """Close at once; what has no reply may be stored or not."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        self._fail(Unavailable("not_ready", "this publisher is closed", status=0))

    # ---------------------------------------------------------------- batches

    def _has_room(self, size_bytes: int) -> bool:
        limits = self._calls.limits
        return self._joins(size_bytes) or len(self._unsent) + len(self._sent) < limits.publisher_in_flight_max

    def _joins(self, size_bytes: int) -> bool:
        last, limits = self._last, self._calls.limits
        return (
            last is not None
            and last.open
            and len(last.lines) < limits.batch_events_max
            and last.size_bytes + size_bytes + 1 <= limits.publisher_message_bytes_max
        )

    def _put(self, line: bytes) -> None:
        if self._last is None or not self._joins(len(line)):
            self._last = _Batch(self._count, [], 0)
            heapq.heappush(self._unsent, self._last)
        self._last.lines.append(line)
        self._last.size_bytes += len(line) + 1
        self._count += 1

    def _fail(self, error: ClientError) -> None:
        self._failure = self._failure or error
        self._changed.set()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    # ---------------------------------------------------------------- connections

    async def _run(self) -> None:
        """Connect again and again, until it is closed or nothing is to be hoped for."""
        token: str | None = None
        try:
            while True:
                while not self._unsent:  # no connection before there is something to send
                    await self._change()
                try:
                    token = None
                    token = await self._calls.tokens.current()
                    path = f"/v1/streams/{quote(self._stream, safe='')}/connect"
                    socket = await open_socket(self._calls, path, token)
                except ClientError as error:
                    await self._calls.clock.sleep(self._after_failure(error, had_token=token is not None))
                    continue
                await self._serve(socket, token)
                await self._calls.clock.sleep(self._after_close(socket))
        except ClientError as error:
            self._fail(error)
        except Exception as error:  # outermost loop: whoever waits for it would wait for ever
            self._fail(ClientError("internal", f"the publisher of stream '{self._stream}' failed: {error!r}"))

    async def _serve(self, socket: ClientConnection, token: str) -> None:
        """Until the socket is closed; what was sent and has no reply is unsent again."""
        upkeep = Upkeep(socket, self._calls, token=token, credit=None)
        sending = asyncio.create_task(self._send_on(socket))
        try:
            await self._receive_on(socket, upkeep)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            await upkeep.end()
            unanswered, self._spared = len(self._sent), 0
            while self._sent:
                heapq.heappush(self._unsent, self._sent.popleft())
        if unanswered and not self._repeatable:
            detail = (
                f"stream '{self._stream}' settles no repeated events, so {unanswered} messages were not sent again"
            )
            raise Unavailable("not_ready", detail, status=0)

    async def _send_on(self, socket: ClientConnection) -> None:
        clock = self._calls.clock
        with suppress(ConnectionClosed):
            while True:
                while not self._unsent:
                    await self._change()
                if (rest_s := self._rest_until_s - clock.monotonic_s()) > 0:
                    await clock.sleep(rest_s)
                    continue
                batch = heapq.heappop(self._unsent)
                batch.open = False
                self._sent.append(batch)
                await socket.send(b"\n".join(batch.lines))

    async def _receive_on(self, socket: ClientConnection, upkeep: Upkeep) -> None:
        while True:
            upkeep.waiting = True
            try:
                line = msgspec.json.decode(await socket.recv(), type=dict[str, Any])
            except ConnectionClosed:
                return
            except msgspec.MsgspecError as error:
                raise ClientError(
                    "bad_json", f"stream '{self._stream}' answered with a line of another kind"
                ) from error
            upkeep.heard()
            if "n" in line:
                self._answered(line)
            elif line.get("sys") == "expiring":
                upkeep.renew(float(line.get("in", 0.0)))
            elif isinstance(line.get("id"), int):
                upkeep.answered(Reply(line["id"], bool(line.get("ok")), str(line.get("code", "")), ""))

    def _answered(self, line: dict[str, Any]) -> None:
        """The reply to the oldest message without one."""
        batch = self._sent.popleft()
        spared, self._spared = self._spared > 0, max(0, self._spared - 1)
        if "accepted" in line:
            self._total = self._added(batch, line)
            self._backoff.reset()
            self._refused = False
        else:
            error = problem_of(int(line.get("status", 500)), {}, line, now_ms=self._calls.clock.now_ms())
            last = not spared and self._backoff.failures + 1 >= self._calls.limits.attempts_max
            if not error.retry or last or not (self._repeatable or nothing_done(error)):
                raise error
            rest_s = float(line.get("retry_ms", 0)) / 1000
            if not spared:
                rest_s, self._spared = self._backoff.next_s(rest_s), len(self._sent)
            self._rest_until_s = max(self._rest_until_s, self._calls.clock.monotonic_s() + rest_s)
            heapq.heappush(self._unsent, batch)
        self._changed.set()

    def _added(self, batch: _Batch, line: dict[str, Any]) -> Published:
        before = self._total
        found = tuple(
            Rejection(batch.first + error["index"], error.get("id"), error["code"], error["detail"])
            for error in line["errors"]
        )
        return replace(
            before,
            accepted=before.accepted + line["accepted"],
            duplicate=before.duplicate + line["duplicate"],
            rejected=before.rejected + line["rejected"],
            rejections=(before.rejections + found)[: self._calls.limits.rejections_kept_max],
        )

    def _after_failure(self, error: ClientError, *, had_token: bool) -> float:
        """Seconds until the next try; raises `error` where no other one would do."""
        limits, again = self._calls.limits, error.retry
        if isinstance(error, Unauthorized) and had_token:  # of the stream, not of the token's endpoint
            self._calls.tokens.forget()
            again, self._refused = not self._refused, True
        too_long = (error.retry_after_s or 0.0) > limits.retry_after_max_s
        if not again or too_long or self._backoff.failures + 1 >= limits.attempts_max:
            raise error
        return self._backoff.next_s(error.retry_after_s)

    def _after_close(self, socket: ClientConnection) -> float:
        closed = read_close(socket.close_code or 1006, socket.close_reason or "", self._stream)
        if closed.error is not None:
            detail = f"the server closed the socket into stream '{self._stream}' with {closed.code} {closed.name}"
            raise type(closed.error)(closed.error.code, detail, status=closed.error.status)
        if closed.code == TOKEN_REFUSED:
            self._calls.tokens.forget()
        if self._backoff.failures + 1 >= self._calls.limits.attempts_max:
            detail = (
                f"the socket into stream '{self._stream}' was closed again and again ({closed.code} {closed.name})"
            )
            raise Unavailable(closed.name or "not_ready", detail, status=0)
        return self._backoff.next_s(closed.retry_s)
