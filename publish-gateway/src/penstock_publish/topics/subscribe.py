"""From a request to a live connection: check, find the start, replay from the log, meet the ring.

Everything that can be refused is refused in `prepare`, before the handshake, as an HTTP problem.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import structlog

from penstock.errors import PenstockError
from penstock.http.access import Principal
from penstock.model.position import Cursor
from penstock.model.stream import StreamSpec
from penstock.ports.clock import Clock
from penstock.ports.log import Log
from penstock.ports.store import Store
from penstock_publish.lifecycle.registry import Lifecycles
from penstock_publish.lifecycle.states import deprecated_notice
from penstock_publish.plans.fields import QuotaExceeded
from penstock_publish.plans.metering import Flow, Metering
from penstock_publish.settings import PublishSettings
from penstock_publish.topics.connection import Connection, Outlet
from penstock_publish.topics.filters import Filters, filter_identity
from penstock_publish.topics.framing import envelopes, frame, frame_notice, gap_notice, open_notice
from penstock_publish.topics.history import History, Piece, Start
from penstock_publish.topics.hub import Hub, Subscription
from penstock_publish.topics.live import LiveTopic
from penstock_publish.topics.render import Filter, Kind
from penstock_publish.topics.request import TopicRequest
from penstock_publish.topics.ring import Place
from penstock_publish.topics.session import Close, Pace, Session
from penstock_publish.topics.wire import Wires

__all__ = ["Prepared", "Subscriber"]

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request that will be served."""

    spec: StreamSpec
    wanted: TopicRequest
    principal: Principal
    filter: Filter
    history: History
    start: Start


class Subscriber:
    """Makes connections; one per process."""

    def __init__(
        self,
        hub: Hub,
        log: Log,
        store: Store,
        lifecycles: Lifecycles,
        *,
        clock: Clock,
        settings: PublishSettings,
        metering: Metering | None = None,
    ) -> None:
        """`metering`: where applications' plans are held against what they take; None: its own."""
        self._hub = hub
        self._lifecycles = lifecycles
        self._log = log
        self._store = store
        self._clock = clock
        self._settings = settings
        self._metering = metering or Metering(settings.plans, clock)
        self._filters = Filters(settings.filters_per_topic_max)

    @property
    def wires(self) -> Wires:
        """The open WebSockets of this process."""
        return self._hub.wires

    def admit(self) -> None:
        """See `Hub.admit`."""
        self._hub.admit()

    async def prepare(self, spec: StreamSpec, wanted: TopicRequest, principal: Principal) -> Prepared:
        """Compile the filter and find the start; errors of the request are raised here."""
        self._metering.check_connection(principal)
        identity = filter_identity(wanted.filter_text, principal.row_filters(spec.read_scope))
        self._hub.check_room(spec.name, identity)
        return await self.look_up(spec, wanted, principal)

    async def look_up(self, spec: StreamSpec, wanted: TopicRequest, principal: Principal) -> Prepared:
        """As `prepare`, for a page: it takes no connection."""
        await self._lifecycles.check(spec.name, principal)
        filter_ = await self._filters.compile(
            spec, wanted.filter_text, mandatory=principal.row_filters(spec.read_scope)
        )
        history = History(self._log, self._store, spec, filter_=filter_, settings=self._settings)
        return Prepared(spec, wanted, principal, filter_, history, await history.start(wanted.after))

    @asynccontextmanager
    async def serving(self, prepared: Prepared, outlet: Outlet) -> AsyncIterator[Connection]:
        """Serve the subscriber until the block is left."""
        live = await self._hub.topic(prepared.spec)
        flow, refused = self._open_flow(prepared.principal)
        connection = self._connect(prepared, outlet, live, flow)
        if flow is not None:
            flow.wake = partial(live.wake, connection)
        kind = Kind(prepared.filter.text, prepared.wanted.form, outlet.encoding)
        subscription = self._hub.subscribe(live, kind, connection, filter_=prepared.filter)
        outlet.write(frame_notice(open_notice(prepared.spec.name, prepared.start.resume), outlet.encoding))
        deprecated = deprecated_notice(prepared.spec.name, self._lifecycles.of(prepared.spec.name))
        if deprecated is not None:
            outlet.write(frame_notice(deprecated, outlet.encoding))
        if prepared.start.notice is not None:
            outlet.write(frame_notice(prepared.start.notice, outlet.encoding))
        if prepared.start.cursor.epoch != live.cursor.epoch:
            connection.close(Close(1001, "topic_changed", retry_ms=0))
        if refused is not None:
            connection.close(refused)
        replay = None
        if not connection.closed and not self._joins_at_once(prepared, subscription):
            replay = asyncio.create_task(self._replay(prepared, subscription))
        try:
            yield connection
        finally:
            if replay is not None:
                replay.cancel()
                await asyncio.gather(replay, return_exceptions=True)
            if flow is not None:
                flow.close()
            await self._hub.unsubscribe(subscription)

    def _joins_at_once(self, prepared: Prepared, subscription: Subscription) -> bool:
        """The usual case, `latest` on a topic at rest: no replay, and no task for it."""
        place, number = subscription.topic.meeting_point(subscription.kind)
        if prepared.start.key_hash is not None or prepared.start.cursor.next != place:
            return False
        return subscription.topic.join(subscription.connection, subscription.kind, number)

    def _open_flow(self, principal: Principal) -> tuple[Flow | None, Close | None]:
        """What the connection is measured by, or the close for the one that came too late for the last place."""
        try:
            return self._metering.open(principal), None
        except QuotaExceeded as error:
            return None, Close(4429, error.code, retry_ms=round((error.retry_after_s or 0) * 1000))

    def _connect(self, prepared: Prepared, outlet: Outlet, live: LiveTopic, flow: Flow | None) -> Connection:
        settings, now_s = self._settings, self._clock.monotonic_s()
        lifetime_s = prepared.principal.expires_at_s - self._clock.now_ms() / 1000
        missed_max = settings.pings_missed_max if outlet.encoding.answers_pings else None
        session = Session(
            live.cursor_of,
            prepared.start.cursor.next,
            encoding=outlet.encoding,
            form=prepared.wanted.form,
            slow=prepared.wanted.slow,
            filtered=bool(prepared.filter.text),
            pace=Pace(now_s + lifetime_s, settings.expiring_s, settings.ping_s, missed_max),
            now_s=now_s,
        )
        if prepared.start.key_hash is not None:
            session.resume = prepared.start.resume  # also of who is sent away before the first row
        return Connection(
            session,
            outlet,
            prepared.principal,
            tally=live.tally,
            send_buffer_bytes=settings.send_buffer_bytes,
            flush_bytes=settings.flush_bytes_max,
            flow=flow,
        )

    async def _replay(self, prepared: Prepared, subscription: Subscription) -> None:
        """Bring a connection from its start to the ring; one that starts at the ring's end is there at once."""
        connection, live, kind = subscription.connection, subscription.topic, subscription.kind
        try:
            cursor = await self._send_current_rows(prepared, connection, kind)
            while not connection.closed:
                place, number = live.meeting_point(kind)
                if any(ours > theirs for ours, theirs in zip(cursor.next, place, strict=True)):
                    await asyncio.sleep(self._settings.lag_poll_ms / 1000)  # the tail has yet to come this far
                    continue
                cursor = await self._send_log(prepared, connection, kind=kind, cursor=cursor, place=place)
                if cursor.next == place and live.join(connection, kind, number):
                    return
        except PenstockError as error:
            _log.warning("replay_failed", topic=live.spec.name, code=error.code, detail=error.detail)
            connection.close(Close(4503, error.code, retry_ms=1_000))

    async def _send_current_rows(self, prepared: Prepared, connection: Connection, kind: Kind) -> Cursor:
        start = prepared.start
        if start.key_hash is None:
            return start.cursor
        async for piece in prepared.history.pieces(start, until=start.cursor.next):
            if not await self._write(prepared, connection, kind=kind, piece=piece):
                break
            connection.session.resume = piece.resume
        connection.session.resume = None if not connection.closed else connection.session.resume
        return start.cursor

    async def _send_log(
        self, prepared: Prepared, connection: Connection, *, kind: Kind, cursor: Cursor, place: Place
    ) -> Cursor:
        """Send the log from `cursor` to `place`; where the send stopped if the connection is closed."""
        if cursor.next == place:
            return cursor
        async for piece in prepared.history.pieces(Start(cursor), until=place):
            if not await self._write(prepared, connection, kind=kind, piece=piece):
                return cursor
            cursor = piece.cursor
            connection.session.place, connection.session.resume = cursor.next, None
        if cursor.next != place:  # retention deleted the rest while we were reading
            end = Cursor(cursor.topic, cursor.epoch, place)
            lost = None if prepared.filter.text else sum(place) - sum(cursor.next)
            connection.outlet.write(frame_notice(gap_notice(cursor, end, events=lost), kind.encoding))
            cursor = end
        return cursor

    async def _write(self, prepared: Prepared, connection: Connection, *, kind: Kind, piece: Piece) -> bool:
        """Write a piece once there is room, in parts where a plan counts; False if the connection is closed."""
        flow = connection.flow
        at_once = max(1, len(piece.rows)) if flow is None else flow.rows_max
        data = b"" if piece.notice is None else frame_notice(piece.notice, kind.encoding)
        for first in range(0, max(1, len(piece.rows)), at_once):
            if not await connection.room(self._settings.lag_poll_ms / 1000):
                connection.close(Close(1001, "gone"))  # or the replay would read the same piece again, for ever
                return False
            rows, cursors = piece.rows[first : first + at_once], piece.cursors[first : first + at_once]
            if rows:
                lines = envelopes(prepared.spec.name, rows, cursors, form=kind.form)
                data += frame(lines, cursors, kind.encoding)
            if data:
                connection.outlet.write(data)
                connection.tally.events += len(rows)
                if flow is not None:
                    flow.sent(len(rows), len(data))
                    connection.session.resume = cursors[-1].decode() if cursors else connection.session.resume
                data = b""
        return True
