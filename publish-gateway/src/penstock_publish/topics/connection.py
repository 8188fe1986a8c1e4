"""A connection: a session of one topic, and the transport that it writes to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from penstock.http.access import Principal
from penstock.http.socket_life import Close
from penstock_publish.plans.metering import Flow
from penstock_publish.topics.caller import Caller
from penstock_publish.topics.framing import Encoding, frame_notice, quota_notice
from penstock_publish.topics.history import After
from penstock_publish.topics.render import Kind
from penstock_publish.topics.session import CreditSession, Session

if TYPE_CHECKING:
    from penstock_publish.topics.live import LiveTopic

__all__ = ["Acks", "Connection", "ManagedConnection", "Outlet", "Tally"]


_POLL_MAX_S = 0.25


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

    def close(self, close: Close, after: str | None) -> None:
        """Say goodbye with the code and the cursor `after`, then close; returns at once."""
        ...


class Acks(Protocol):
    """A sink for what a subscriber has acknowledged."""

    def acknowledge(self, after: After, text: str) -> None:
        """Everything up to the cursor, read and as text, has been dealt with. Kept soon, not at once.

        `store_unavailable` where nobody knows when: it is not forgotten, but cannot be relied on.
        """
        ...

    def release(self) -> None:
        """The connection is gone."""
        ...


class Tally:
    """Deliveries since they were last reported: a counter shared by connections, cheaper than a metric for each."""

    __slots__ = ("events",)

    def __init__(self) -> None:
        self.events = 0


class Connection:
    """One topic of a caller. `pump` writes what there is until the transport is full."""

    __slots__ = ("_flush_bytes", "_send_buffer_bytes", "caller", "closed", "flow", "kind", "live", "of_url", "outlet",
                 "replay", "session")  # fmt: skip

    def __init__(
        self,
        session: Session,
        caller: Caller,
        live: LiveTopic,
        kind: Kind,
        *,
        of_url: bool,
        send_buffer_bytes: int,
        flush_bytes: int,
        flow: Flow | None = None,
    ) -> None:
        """`of_url`: the topic of the URL, with which the transport ends. `flow`: what its application's plan allows;
        None: no limit.
        """
        self.session = session
        self.caller = caller
        self.outlet = caller.outlet
        self.live = live
        self.kind = kind
        self.of_url = of_url
        self.closed = caller.closed
        #: What brings it from its start to the ring, where that takes more than a step.
        self.replay: asyncio.Task[None] | None = None
        self._send_buffer_bytes = send_buffer_bytes
        self._flush_bytes = flush_bytes if flow is None else min(flush_bytes, flow.flush_bytes_max)
        self.flow = flow

    @property
    def topic(self) -> str:
        """The topic's name."""
        return self.live.spec.name

    @property
    def principal(self) -> Principal:
        """Whose it is."""
        return self.caller.principal

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
            self.live.tally.events += events
            if flow is not None:
                flow.sent(events, len(data))
        return False

    def held_back(self, flow: Flow) -> bool:
        """True if the plan lets nothing through now: said once a pause, and before the close when the day's quota is
        used up.
        """
        if flow.paused:
            return True
        hold = flow.pause()
        if hold is None:
            return False
        self.outlet.write(frame_notice(quota_notice(hold.limit, hold.wait_s), self.outlet.encoding))
        if hold.for_today:
            self.caller.close(Close(4429, "quota_exceeded", retry_ms=flow.retry_ms(hold)))
        return True

    def close(self, close: Close) -> None:
        """Close once; later calls do nothing."""
        if not self.closed:
            self.caller.end(self, close)

    async def room(self, poll_s: float) -> bool:
        """Wait until the transport has room and the plan allows it; False if it is closed.

        Looks every `poll_s` at first and then less often: many may wait for long.
        """
        while not self.closed and (self.full or (self.flow is not None and self.held_back(self.flow))):
            if self.outlet.gone():
                return False
            if self.flow is not None and self.flow.paused:
                await self.flow.resumed()
            else:
                await asyncio.sleep(poll_s)
                poll_s = min(2 * poll_s, max(poll_s, _POLL_MAX_S))
        return not self.closed and not self.outlet.gone()


class ManagedConnection(Connection):
    """One that the subscriber manages by lines: with credit, or with acknowledgements that are kept, or both.

    A class of its own, so that the others are no heavier for it.
    """

    __slots__ = ("acks", "again")

    #: Where acknowledged cursors go; None: nowhere.
    acks: Acks | None
    #: Called when what comes next has to be read from the log, and there is credit for some of it.
    again: Callable[[], None]

    @property
    def counts_credit(self) -> bool:
        """True if it is sent only what there is credit for."""
        return isinstance(self.session, CreditSession)

    def pump(self) -> bool:
        """See `Connection`."""
        more = super().pump()
        self.go_on()
        return more

    def grant(self, events: int, *, limit: int) -> bool:
        """Add credit and go on; False without effect where there would be more than `limit`."""
        session = self.session
        if not isinstance(session, CreditSession) or session.credit + events > limit:
            return False
        session.grant(events)
        self.go_on()
        return True

    def go_on(self) -> None:
        """Read on from the log where that is needed and allowed."""
        session = self.session
        if isinstance(session, CreditSession) and session.parked and session.credit and not self.closed:
            session.parked = False
            self.again()
