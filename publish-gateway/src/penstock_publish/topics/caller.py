"""Who is at the other end of a transport: the principal, how long its token lasts, and what it is subscribed to."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from penstock.http.access import Principal
from penstock.http.socket_life import Close, Life
from penstock_publish.plans.metering import Flow
from penstock_publish.topics.framing import end_notice, expiring_notice, frame_notice
from penstock_publish.topics.limits import Seat

if TYPE_CHECKING:
    from penstock_publish.topics.connection import Connection, Outlet

__all__ = ["Caller"]


class Caller:
    """One WebSocket or event stream, with a connection for each topic that it is subscribed to.

    The first connection, that of the URL, closes the transport when it is closed; others end with a notice.
    `on_end` is told of those. `seat` is its place among all connections, until the hub forgets it.
    """

    __slots__ = ("_send_buffer_bytes", "_turn", "closed", "connections", "flow", "life", "on_end", "outlet",
                 "principal", "seat")  # fmt: skip

    def __init__(
        self, outlet: Outlet, principal: Principal, life: Life, *, send_buffer_bytes: int, seat: Seat | None = None
    ) -> None:
        self.outlet = outlet
        self.principal = principal
        self.life = life
        self.closed = False
        self.connections: tuple[Connection, ...] = ()
        #: What its application's plan allows; None: no limit.
        self.flow: Flow | None = None
        self.on_end: Callable[[Connection], None] | None = None
        self.seat = seat
        self._turn = 0
        self._send_buffer_bytes = send_buffer_bytes

    @property
    def full(self) -> bool:
        """True while more unsent bytes lie in the transport than the limit."""
        return self.outlet.unsent_bytes() > self._send_buffer_bytes

    def connection(self, topic: str) -> Connection | None:
        """What it is subscribed to by that name."""
        return next((found for found in self.connections if found.topic == topic), None)

    def resume_text(self) -> str | None:
        """Where it can resume without loss; None unless it has exactly one topic."""
        return self.connections[0].session.cursor_text if len(self.connections) == 1 else None

    def tick(self, now_s: float) -> float:
        """Do what is due; the time at which to be asked again."""
        if self.outlet.gone():
            self.close(Close(1001, "gone"))
            return now_s
        due = self.life.tick(now_s)
        if due.close is not None:
            self.close(due.close)
            return due.next_s
        if due.expiring_in_s is not None:
            self.outlet.write(frame_notice(expiring_notice(due.expiring_in_s), self.outlet.encoding))
        if due.ping:
            heartbeats = (
                b""
                if self.full
                else b"".join([each.session.heartbeat(named=not each.of_url) for each in self.connections])
            )
            if heartbeats:
                self.outlet.write(heartbeats)
            self.outlet.ping()
        return due.next_s

    def wake(self) -> None:
        """Go on with every topic after its application's plan had made it wait."""
        first = self._turn % max(1, len(self.connections))
        self._turn += 1  # or the first topic could take everything, each time
        for connection in (*self.connections[first:], *self.connections[:first]):
            connection.live.wake(connection)

    def close(self, close: Close) -> None:
        """Close the transport once; later calls do nothing. Of several topics each is told where to resume."""
        if self.closed:
            return
        self.closed = True
        after = self.resume_text()
        for connection in self.connections:
            if len(self.connections) > 1 and not connection.closed:
                self.say_end(connection, close)
            connection.closed = True
        self.outlet.close(close, after)

    def end(self, connection: Connection, close: Close) -> None:
        """One topic has come to its end: that of the URL takes the transport with it."""
        if connection.of_url:
            self.close(close)
        else:
            self.drop(connection, close)

    def drop(self, connection: Connection, close: Close) -> None:
        """End one topic with a notice and keep the transport."""
        if connection.closed:
            return
        connection.closed = True
        self.say_end(connection, close)
        if self.on_end is not None:  # else the transport is at its end, and all that it still has is let go of there
            self.connections = tuple(other for other in self.connections if other is not connection)
            self.on_end(connection)

    def say_end(self, connection: Connection, close: Close) -> None:
        """Tell why a topic ends, and where it can be resumed."""
        notice = end_notice(
            connection.topic, close.error, after=connection.session.cursor_text, retry_ms=close.retry_ms
        )
        self.outlet.write(frame_notice(notice, self.outlet.encoding))
