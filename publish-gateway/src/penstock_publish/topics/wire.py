"""A WebSocket on its transport: the protocol object that takes over after the handshake, and all that are open.

aiohttp reads the request and is then let go of: a subscriber keeps neither request nor parser. Shared frames go
straight to the transport, one write a flush; whatever is written is whole frames, so pongs and the close frame can
come in between.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from itertools import chain
from typing import Any

import structlog
from aiohttp import web

from penstock.errors import PenstockError
from penstock.http.socket_life import Close, close_reason
from penstock_publish.metrics import CLOSED_CONNECTIONS
from penstock_publish.settings import PublishSettings
from penstock_publish.topics.frame_reader import CloseFrame, FrameReader, Inbound, Message, Ping, Refusal
from penstock_publish.topics.framing import PING_FRAME, Encoding, close_frame, pong_frame
from penstock_publish.topics.upgrade import shake_hands

__all__ = ["UPGRADED", "Wire", "Wires", "take_over"]

_log = structlog.get_logger(__name__)

#: What the other side did wrong, by close code (RFC 6455, 7.4.1).
_REASONS = {1002: "bad_request", 1003: "bad_request", 1007: "bad_request", 1009: "too_large"}


class Wires:
    """All open WebSockets of a process; at the end they are waited for."""

    def __init__(self, settings: PublishSettings) -> None:
        self.settings = settings
        self._open: set[Wire] = set()
        self._none = asyncio.Event()
        self._none.set()

    def __len__(self) -> int:
        return len(self._open)

    def add(self, wire: Wire) -> None:
        """A wire was opened."""
        self._open.add(wire)
        self._none.clear()

    def discard(self, wire: Wire) -> None:
        """Its transport is closed."""
        self._open.discard(wire)
        if not self._open:
            self._none.set()

    def close_all(self, close: Close) -> None:
        """Close those that are not closing yet."""
        for wire in tuple(self._open):
            wire.close(close, None if wire.resume is None else wire.resume())

    async def closed(self) -> None:
        """Wait until those that are closing are through, or out of patience."""
        await self._none.wait()


class Wire(asyncio.Protocol):
    """Implements `Outlet`. `receive` gives what comes in; the end comes after everything before it was taken."""

    __slots__ = ("_closing", "_ends", "_held", "_inbox", "_patience", "_reader", "_task", "_transport", "_unread",
                 "_waiter", "_wires", "encoding", "heard", "resume", "unsent_bytes")  # fmt: skip

    def __init__(self, transport: asyncio.Transport, wires: Wires, *, inflates: bool, deflates: bool) -> None:
        settings = wires.settings
        self.encoding = Encoding.WS_DEFLATE if deflates else Encoding.WS
        #: Called for every frame that comes in: the other side is alive.
        self.heard: Callable[[], None] | None = None
        #: The cursor after what was sent, for closes that are made here.
        self.resume: Callable[[], str | None] | None = None
        self.unsent_bytes = transport.get_write_buffer_size
        self._transport = transport
        self._wires = wires
        self._reader: FrameReader | None = FrameReader(limit_bytes=settings.inbound_bytes_max, inflates=inflates)
        self._inbox: deque[str | bytes] | None = None  # made with the first message: most subscribers send none
        self._held = 0  # characters or bytes in the inbox
        self._unread: Iterator[Inbound] | None = None  # what has come and has yet to be looked at
        self._ends: CloseFrame | Refusal | None = None  # what comes after the inbox
        self._waiter: asyncio.Future[None] | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    # ---------------------------------------------------------------- from the event loop

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self._reader is None:
            return  # after a close frame nothing counts
        found = self._reader.feed(data)
        self._unread = found if self._unread is None else chain(self._unread, found)
        self._read_on()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._reader = None
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        self._wires.discard(self)
        self._wake()

    # ---------------------------------------------------------------- for those who serve it

    def serve(self, serving: Coroutine[Any, Any, None]) -> None:
        """Run this until the wire is closed."""
        self._task = asyncio.create_task(self._guarded(serving))

    async def receive(self) -> str | bytes | None:
        """The next message: `str` of a text message, `bytes` of a binary one; None once there will be no more."""
        while not self._inbox:
            if self._ends is not None or self._closing or self._transport.is_closing():
                self._answer_end()
                return None
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        was_full = self._full
        message = self._inbox.popleft()
        self._held -= len(message)
        if was_full and not self._full:
            self._read_on()
            if self._unread is None and not self._transport.is_closing():
                self._transport.resume_reading()
        return message

    def write(self, data: bytes) -> None:
        """See `Outlet`."""
        if not self._closing and not self._transport.is_closing():
            self._transport.write(data)

    def ping(self) -> None:
        """See `Outlet`."""
        self.write(PING_FRAME)

    def gone(self) -> bool:
        """See `Outlet`."""
        return self._transport.is_closing()

    def close(self, close: Close, after: str | None) -> None:
        """See `Outlet`."""
        self._close(close.code, close_reason(close.error, retry_ms=close.retry_ms, after=after))

    # ---------------------------------------------------------------- inside

    async def _guarded(self, serving: Coroutine[Any, Any, None]) -> None:
        try:
            await serving
        except PenstockError as error:
            self.close(Close(4503, error.code, retry_ms=1_000), self._resume_text())
        except Exception:  # outermost loop of a connection: it must not stay open when nobody serves it
            _log.exception("websocket_failed")
            self.close(Close(4503, "internal", retry_ms=1_000), self._resume_text())
        else:
            self._close(1000, b"")

    @property
    def _full(self) -> bool:
        """True while the inbox holds as many messages as it may, or as much as one message may be long."""
        settings = self._wires.settings
        return len(self._inbox or ()) >= settings.inbound_messages_max or self._held >= settings.inbound_bytes_max

    def _read_on(self) -> None:
        """Look at what has come, as far as the inbox has room: a few bytes can be many messages, or long ones."""
        try:
            while self._unread is not None and (self._closing or not self._full):
                found = next(self._unread, None)
                if found is None:
                    self._unread = None
                    return
                if self.heard is not None:
                    self.heard()
                if isinstance(found, Message):
                    self._put(found.data)
                elif isinstance(found, Ping):
                    self._pong(found.payload)
                elif isinstance(found, CloseFrame):
                    self._end(found)
        except Refusal as refusal:
            self._end(refusal)

    def _put(self, message: str | bytes) -> None:
        if self._closing:
            return  # nobody will do what it says
        if self._inbox is None:
            self._inbox = deque()
        self._inbox.append(message)
        self._held += len(message)
        if self._full and not self._transport.is_closing():
            self._transport.pause_reading()
        self._wake()

    def _end(self, end: CloseFrame | Refusal) -> None:
        self._reader = self._unread = None
        if self._closing:
            self._hang_up(end)
            return
        self._ends = end
        self._wake()

    def _answer_end(self) -> None:
        """The other side closed, or did something that must be refused: say so."""
        end, self._ends = self._ends, None
        if isinstance(end, Refusal):
            reason = close_reason(_REASONS[end.code], retry_ms=None, after=self._resume_text())
            self._close(end.code, reason)
            self._end_line()
        elif isinstance(end, CloseFrame):
            self._close(end.code, b"")
            self._hang_up(end)

    def _close(self, code: int | None, reason: bytes) -> None:
        if self._closing:
            return
        if not self._transport.is_closing():
            if code is not None:
                CLOSED_CONNECTIONS.labels(str(code)).inc()
            self._transport.write(close_frame(code, reason))
            loop, wait_s = asyncio.get_running_loop(), self._wires.settings.close_wait_s
            self._patience = loop.call_later(wait_s, self._lose_patience, wait_s)
        self._closing = True
        self._wake()

    def _end_line(self) -> None:
        """Nothing more comes from here, and we read no more of its frames: its end of the line is the answer."""
        if not self._transport.can_write_eof() or self._transport.is_closing():
            return
        try:
            self._transport.write_eof()
        except OSError:  # it has gone since
            self._transport.abort()

    def _hang_up(self, end: CloseFrame | Refusal) -> None:
        """Both have closed: it is for the server to end the line (RFC 6455, 7.1.1)."""
        if isinstance(end, CloseFrame):
            self._transport.close()

    def _lose_patience(self, more_s: float) -> None:
        self._patience = None
        if more_s and self.unsent_bytes():  # it is slow: it gets as long again to read what lies before the close
            self._patience = asyncio.get_running_loop().call_later(more_s, self._lose_patience, 0.0)
        else:
            self._transport.abort()

    def _pong(self, payload: bytes) -> None:
        # Of many pings only the last needs an answer (RFC 6455, 5.5.3): none is queued for one that does not read.
        if self.unsent_bytes() <= self._wires.settings.send_buffer_bytes:
            self.write(pong_frame(payload))

    def _resume_text(self) -> str | None:
        return None if self.resume is None else self.resume()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class _Upgraded(web.StreamResponse):
    """What a handler returns once the wire has the transport: aiohttp has nothing left to send."""

    async def prepare(self, request: web.BaseRequest) -> None:
        """See aiohttp."""

    async def write_eof(self, data: bytes = b"") -> None:
        """See aiohttp."""


UPGRADED = _Upgraded(status=101)


class _Leftover:
    """Catches what came in the same segment as the request; aiohttp hands it to whoever reads after an upgrade."""

    def __init__(self) -> None:
        self.data = b""

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """See aiohttp's payload parsers."""
        self.data += data
        return False, b""

    def feed_eof(self) -> None:
        """See aiohttp's payload parsers."""


def take_over(request: web.Request, wires: Wires, *, subprotocol: str | None = None) -> Wire:
    """Answer the handshake and take the transport from aiohttp; the handler then returns `UPGRADED`.

    `bad_request` where the request is no WebSocket handshake. `draining` if the caller has gone already.
    """
    offered = request.headers.getall("Sec-WebSocket-Extensions", ())
    shaken = shake_hands(
        request.headers, subprotocol=subprotocol, extensions=tuple(offered), deflate=wires.settings.compression
    )
    protocol, transport = request.protocol, request.transport
    if transport is None or transport.is_closing():
        raise PenstockError("draining", "the caller has gone", retry_after_s=1.0)
    leftover = _Leftover()
    protocol.set_parser(leftover)  # type: ignore[arg-type]  # it asks for no more than these two methods
    wire = Wire(transport, wires, inflates=shaken.inflates, deflates=shaken.deflates)
    transport.set_protocol(wire)
    protocol.transport = None  # so that aiohttp's farewell does not close it
    protocol.connection_lost(None)
    wires.add(wire)
    transport.write(shaken.reply)
    if leftover.data:
        wire.data_received(leftover.data)  # now: more may have come that the loop is about to hand over
    return wire
