"""One socket: batches are read ahead up to a bound, stored in their order, and answered in it.

A task reads, another one stores and answers. When the inbox is full nothing is read, so that whoever sends too fast
waits. However the socket ends, what was read is stored and, while there is somebody to hear it, answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog
from aiohttp import WSMsgType, web

from penstock.errors import PenstockError
from penstock.http.access import Access, Principal
from penstock.http.socket_life import Close, Life, Pace, close_reason
from penstock.ports.clock import Clock
from penstock_ingest import metrics
from penstock_ingest.body import Form, form_of
from penstock_ingest.gateway import Accepted, Gateway
from penstock_ingest.in_flight import InFlight
from penstock_ingest.settings import IngestSettings
from penstock_ingest.sockets.entrance import WRITE
from penstock_ingest.sockets.inbox import Inbox, Message
from penstock_ingest.sockets.lines import (
    Auth,
    auth_line,
    expiring_line,
    read_auth,
    refusal_line,
    reply_line,
    text_frame,
)

__all__ = ["DRAINING", "Means", "Session"]

DRAINING = "draining"
_NOT_ALLOWED = frozenset({4401, 4403})
#: A socket is to be closed within a second of its token's revocation, whatever the log does.
_LAST_WORDS_S = 0.25
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Means:
    """What all sockets of a process share."""

    gateway: Gateway
    in_flight: InFlight
    access: Access
    clock: Clock
    settings: IngestSettings

    def end_s(self, principal: Principal) -> float:
        """The end of a token in monotonic seconds."""
        return self.clock.monotonic_s() + principal.expires_at_s - self.clock.now_ms() / 1000


class Session:
    """Serves one socket whose caller is known; `run` returns when it is closed."""

    def __init__(
        self,
        socket: web.WebSocketResponse[Any],
        means: Means,
        *,
        stream: str,
        principal: Principal,
        token: str,
        transport: asyncio.Transport | None,
        message_max_bytes: int,
    ) -> None:
        """`transport`: that of the socket, to be cut off where the other side does not read to the end."""
        self._transport, self._message_max_bytes = transport, message_max_bytes
        limits = means.settings.socket
        self._socket, self._means, self._limits, self._stream = socket, means, limits, stream
        self._principal, self._token = principal, token
        pace = Pace(limits.expiring_s, limits.ping_s, limits.pings_missed_max)
        self._life = Life(means.end_s(principal), pace, means.clock.monotonic_s())
        self._inbox = Inbox(messages_max=limits.in_flight_max, max_bytes=limits.in_flight_max_bytes)
        self._close: Close | None = None
        self._reading: asyncio.Task[None] | None = None
        self._saying: set[asyncio.Task[None]] = set()
        self._read_count = 0
        self._held_bytes = 0
        self._answered_count = metrics.SOCKET_BATCHES.labels(stream, "answered")
        self._answered_bytes = metrics.SOCKET_BYTES.labels(stream)
        self._paused = False  # nothing is read, since too much waits
        self._sending = False

    async def run(self, token: Auth | None = None) -> None:
        """`token`: the message that brought it, to be answered."""
        if token is not None:
            await self._send(auth_line(token.id, self._left_s()))
        working = asyncio.create_task(self._guarded(self._work))
        self._reading = asyncio.create_task(self._guarded(self._read))
        if self._close is not None:  # between the check of the token and now
            self._reading.cancel()
        try:
            await asyncio.wait({self._reading})
            self._inbox.end()
            await self._finished(working)
        finally:
            tasks = {self._reading, working, *self._saying}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._means.in_flight.release(self._held_bytes)
            await self._hang_up()

    def close(self, close: Close) -> None:
        """Read no more, answer what was read, then close; later calls do nothing."""
        if self._close is None:
            self._close = close
            if self._reading is not None:
                self._reading.cancel()

    def tick(self, now_s: float) -> None:
        """Warn, ping or close as far as it is due."""
        if self._paused and not self._sending:
            self._life.heard()  # a pong may lie unread behind what we do not read
        due = self._life.tick(now_s)
        if due.close is not None:
            self.close(due.close)
            return
        if due.expiring_in_s is not None:
            self._say(partial(self._send, expiring_line(due.expiring_in_s)))
        if due.ping and not self._saying:
            self._say(self._socket.ping)

    async def check(self) -> None:
        """Close if the token does not count any more; while its issuer is away, what was known goes on to count."""
        token = self._token
        try:
            principal = await self._means.access.require_token(token, WRITE, writes=self._stream)
        except PenstockError as error:
            if token == self._token and error.status in (401, 403):
                self.close(Close.of(error))
            return
        if token == self._token and principal.expires_at_s > self._principal.expires_at_s:
            self._take_token(principal, token)

    async def _finished(self, working: asyncio.Task[None]) -> None:
        """Wait until what was read is answered: at a drain as long as somebody reads replies, else not for long, and
        hardly where the caller may not be here any more.
        """
        wait_s = self._limits.answer_wait_s
        if self._close is not None and self._close.code in _NOT_ALLOWED:
            wait_s = min(wait_s, _LAST_WORDS_S)
        while True:
            done, _ = await asyncio.wait({working}, timeout=wait_s)
            draining = self._close is not None and self._close.error == DRAINING
            if done or self._sending or not draining:
                return

    # ---------------------------------------------------------------- reading

    async def _read(self) -> None:
        while True:
            message = await self._socket.receive()
            self._life.heard()
            kind = message.type
            if kind is WSMsgType.TEXT or kind is WSMsgType.BINARY:
                line = read_auth(message.data) if kind is WSMsgType.TEXT else None
                await (self._take(message.data) if line is None else self._renew(line))
            elif kind is WSMsgType.PING:
                await self._socket.pong(message.data)
            elif kind is not WSMsgType.PONG:
                return

    async def _take(self, body: bytes) -> None:
        """Put a batch into the inbox; return when another one may be read."""
        self._read_count += 1
        limit = self._message_max_bytes
        if len(body) > limit:
            detail = f"the message is longer than {limit} bytes; send fewer events a message"
            self._inbox.put(Message(self._read_count, b"", PenstockError("too_large", detail)))
        else:
            self._paused = True
            await self._means.in_flight.hold_when_possible(len(body))
            self._held_bytes += len(body)
            self._inbox.put(Message(self._read_count, body))
        self._paused = self._inbox.full
        await self._inbox.room()
        self._paused = False

    async def _renew(self, line: Auth) -> None:
        try:
            principal = await self._means.access.require_token(line.auth, WRITE, writes=self._stream)
            if (principal.subject, principal.client_id) != (self._principal.subject, self._principal.client_id):
                detail = "this token is of another caller; a socket can be renewed only by who opened it"
                raise PenstockError("invalid_token", detail)
        except PenstockError as error:  # the token of before goes on to count
            await self._send(refusal_line(error, id=line.id))
            return
        self._take_token(principal, line.auth)
        await self._send(auth_line(line.id, self._left_s()))

    def _take_token(self, principal: Principal, token: str) -> None:
        self._principal, self._token = principal, token
        self._life.renew(self._means.end_s(principal))

    def _left_s(self) -> float:
        return self._life.expires_at_s - self._means.clock.monotonic_s()

    # ---------------------------------------------------------------- storing and answering

    async def _work(self) -> None:
        settings = self._means.settings
        while messages := await self._inbox.some(most=settings.gather_group_max):
            for run in _runs(messages, settings.gather_event_max_bytes):
                outcomes = await self._stored(run)
                await self._send_all([self._line_of(*each) for each in zip(run, outcomes, strict=True)])
                for message in run:
                    self._inbox.answered(message)
                    self._held_bytes -= len(message.body)
                    self._means.in_flight.release(len(message.body))

    async def _stored(self, run: Sequence[Message]) -> Sequence[Accepted | BaseException]:
        """What became of messages: of one batch, or of single events, which may share an append."""
        gateway, first = self._means.gateway, run[0]
        if first.refusal is not None:
            return [first.refusal]
        if len(run) > 1:
            return await gateway.accept_each(self._stream, [message.body for message in run])
        try:
            return [await gateway.accept(self._stream, first.body, form_of(first.body, ""))]
        except Exception as error:  # outermost loop of the storing: the messages behind this one wait for it
            return [error]

    def _line_of(self, message: Message, outcome: Accepted | BaseException) -> bytes:
        if isinstance(outcome, Accepted):
            self._answered_count.inc()
            self._answered_bytes.inc(len(message.body))
            return reply_line(message.number, outcome)
        if not isinstance(outcome, PenstockError):
            _log.error("socket_batch_failed", stream=self._stream, exc_info=outcome)
            detail = "the message was not answered for; it is not known whether it was taken: send it again"
            outcome = PenstockError("internal", detail)
        metrics.SOCKET_BATCHES.labels(self._stream, "refused").inc()
        metrics.REFUSED_REQUESTS.labels(outcome.code).inc()
        if outcome.code == "unknown_stream":
            self.close(Close(4404, outcome.code))
        return refusal_line(outcome, n=message.number)

    # ---------------------------------------------------------------- the wire

    async def _send_all(self, lines: Sequence[bytes]) -> None:
        """Text messages with one write, as a system call costs more than a reply."""
        *before, last = lines
        if before and self._transport is not None and not (self._socket.closed or self._transport.is_closing()):
            self._transport.write(b"".join(map(text_frame, before)))
        await self._send(last)  # waits where too much lies in the transport

    async def _send(self, line: bytes) -> None:
        """One text message; where nobody is there any more it is dropped."""
        self._sending = True
        with suppress(ConnectionError):
            await self._socket.send_frame(line, WSMsgType.TEXT)
        self._sending = False

    def _say(self, saying: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Without waiting for a reader that is slow."""

        async def said() -> None:
            with suppress(ConnectionError):
                await saying()

        task = asyncio.create_task(said())
        self._saying.add(task)
        task.add_done_callback(self._saying.discard)

    async def _guarded(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await work()
        except ConnectionError:
            pass  # whoever was there has gone
        except Exception:  # outermost loop of a connection: it must not stay open when nobody serves it
            _log.exception("socket_failed", stream=self._stream)
            self.close(Close(4503, "internal", retry_ms=1_000))

    async def _hang_up(self) -> None:
        """Close, and lose what the other side does not read within `close_wait_s`."""
        socket, close = self._socket, self._close
        if close is None:  # the other side has closed, or is gone
            metrics.SOCKETS_CLOSED.labels("client").inc()
            code, reason = 1000, b""
        else:
            metrics.SOCKETS_CLOSED.labels(str(close.code)).inc()
            code, reason = close.code, close_reason(close.error, retry_ms=close.retry_ms, after=None)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._limits.close_wait_s):
                await socket.close(code=code, message=reason)
        if self._transport is not None and self._transport.get_write_buffer_size():
            self._transport.abort()


def _runs(messages: Sequence[Message], single_max_bytes: int) -> Iterator[list[Message]]:
    """Neighbours that are short single events together, every other message for itself; in order."""
    run: list[Message] = []
    for message in messages:
        body = message.body
        if message.refusal is None and len(body) <= single_max_bytes and form_of(body, "") is Form.OBJECT:
            run.append(message)
            continue
        if run:
            yield run
            run = []
        yield [message]
    if run:
        yield run
