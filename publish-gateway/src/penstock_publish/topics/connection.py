"""A connection: a session, and the transport that it writes to."""

from __future__ import annotations

import asyncio
from typing import Protocol

from penstock.http.access import Principal
from penstock_publish.plans.metering import Flow
from penstock_publish.topics.framing import Encoding, frame_notice, quota_notice
from penstock_publish.topics.session import Close, Session

__all__ = ["Connection", "Outlet", "Tally"]


class Outlet(Protocol):
    """What a transport can do. Nothing here waits: bytes that do not fit stay in the transport's buffer."""

    encoding: Encoding

    def write(self, data: bytes) -> None:
        """Hand bytes to the transport; nothing happens on a closed one."""
        ...

    def unsent_bytes(self) -> int:
        """Bytes that the other side has not taken yet."""
        ...

    def ping(self) -> None:
        """Ask for a sign of life, or give one."""
        ...

    def gone(self) -> bool:
        """True once the transport is closed."""
        ...

    def close(self, close: Close, after: str) -> None:
        """Say goodbye with the code and the cursor `after`, then close; returns at once."""
        ...


class Tally:
    """Deliveries since they were last reported: a counter shared by connections, cheaper than a metric for each."""

    __slots__ = ("events",)

    def __init__(self) -> None:
        self.events = 0


class Connection:
    """One subscriber. `pump` writes what there is until the transport is full."""

    __slots__ = ("_flush_bytes", "_send_buffer_bytes", "closed", "flow", "outlet", "principal", "session", "tally")

    def __init__(
        self,
        session: Session,
        outlet: Outlet,
        principal: Principal,
        *,
        tally: Tally,
        send_buffer_bytes: int,
        flush_bytes: int,
        flow: Flow | None = None,
    ) -> None:
        """`flow`: what its application's plan allows; None: no limit."""
        self.session = session
        self.outlet = outlet
        self.principal = principal
        self.closed = False
        self.tally = tally
        self._send_buffer_bytes = send_buffer_bytes
        self._flush_bytes = flush_bytes if flow is None else min(flush_bytes, flow.flush_bytes_max)
        self.flow = flow

    @property
    def full(self) -> bool:
        """True while more unsent bytes lie in the transport than the limit."""
        return self.outlet.unsent_bytes() > self._send_buffer_bytes

    def pump(self) -> bool:
        """Write what the session has; True if something is left because the other side is slow.

        While the plan makes its application wait, it stays where it is; the flow wakes it.
        """
        session, outlet, flow = self.session, self.outlet, self.flow
        while not self.closed:
            if outlet.unsent_bytes() > self._send_buffer_bytes:
                session.lagging = True
                return True
            if flow is not None and self.held_back(flow):
                session.lagging = True
                return False
            data, events, close = session.take(limit_bytes=self._flush_bytes)
            if close is not None:
                self.close(close)
                return False
            if not data:
                return False
            outlet.write(data)
            self.tally.events += events
            if flow is not None:
                flow.sent(events, len(data))
        return False

    def held_back(self, flow: Flow) -> bool:
        """True if the plan lets nothing through now: said once a pause; closed when the day's quota is used up."""
        if flow.paused:
            return True
        hold = flow.pause()
        if hold is None:
            return False
        if hold.for_today:
            self.close(Close(4429, "quota_exceeded", retry_ms=round(hold.wait_s * 1000)))
        else:
            self.outlet.write(frame_notice(quota_notice(hold.limit, hold.wait_s), self.outlet.encoding))
        return True

    def tick(self, now_s: float) -> float:
        """Do what is due; the time at which to be asked again."""
        if self.outlet.gone():
            self.close(Close(1001, "gone"))
            return now_s
        due = self.session.tick(now_s)
        if due.data and not self.full:
            self.outlet.write(due.data)
        if due.ping:
            self.outlet.ping()
        if due.close is not None:
            self.close(due.close)
        return due.next_s

    def close(self, close: Close) -> None:
        """Close once; later calls do nothing."""
        if not self.closed:
            self.closed = True
            self.outlet.close(close, self.session.cursor_text)

    async def room(self, poll_s: float) -> bool:
        """Wait until the transport has room and the plan allows it; False if it is closed."""
        while not self.closed and (self.full or (self.flow is not None and self.held_back(self.flow))):
            if self.outlet.gone():
                return False
            if self.flow is not None and self.flow.paused:
                await self.flow.resumed()
            else:
                await asyncio.sleep(poll_s)
        return not self.closed and not self.outlet.gone()
