"""From a request to a live connection: check, find the start, replay from the log, meet the ring.

Everything that can be refused is refused in `prepare`: before the handshake as an HTTP problem, or, for a topic that
is asked for by a line, as a reply.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import structlog

from penstock.errors import PenstockError
from penstock.http.access import Principal
from penstock.http.socket_life import Close, Life, Pace
from penstock.model.stream import StreamSpec
from penstock.ports.clock import Clock
from penstock.ports.log import Log
from penstock.ports.store import Store
from penstock_publish.durable.positions import PositionKey
from penstock_publish.durable.registry import DurableSubscriptions, Hold, owner_of
from penstock_publish.lifecycle.registry import Lifecycles
from penstock_publish.lifecycle.states import check_open, deprecated_notice
from penstock_publish.plans.fields import QuotaExceeded
from penstock_publish.plans.metering import Metering
from penstock_publish.settings import PublishSettings
from penstock_publish.topics.caller import Caller
from penstock_publish.topics.connection import Connection, ManagedConnection, Outlet
from penstock_publish.topics.filters import Filters, filter_identity
from penstock_publish.topics.framing import Encoding, frame_notice, open_notice, quota_notice
from penstock_publish.topics.history import History, parse_after
from penstock_publish.topics.hub import Hub
from penstock_publish.topics.limits import Seat
from penstock_publish.topics.live import LiveTopic
from penstock_publish.topics.render import Filter, Kind
from penstock_publish.topics.replay import Prepared, Replay
from penstock_publish.topics.request import TopicRequest
from penstock_publish.topics.session import CreditSession, Session
from penstock_publish.topics.wire import Wires

__all__ = ["Prepared", "Subscriber"]

_log = structlog.get_logger(__name__)


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
        durable: DurableSubscriptions,
        metering: Metering | None = None,
    ) -> None:
        """`metering`: where applications' plans are held against what they take; None: its own."""
        self._durable = durable
        self._hub = hub
        self._lifecycles = lifecycles
        self._log = log
        self._store = store
        self._clock = clock
        self._settings = settings
        self._metering = metering or Metering(settings.plans, clock)
        self._filters = Filters(settings.filters_per_topic_max)
        self._replay = Replay(settings)
        self._paces = {
            answers: Pace(settings.expiring_s, settings.ping_s, settings.pings_missed_max if answers else None)
            for answers in (True, False)
        }

    @property
    def wires(self) -> Wires:
        """The open WebSockets of this process."""
        return self._hub.wires

    def admit(self) -> None:
        """See `Hub.admit`."""
        self._hub.admit()

    def check_open(self, principal: Principal) -> None:
        """`quota_exceeded` or `draining` if one more connection of the caller cannot be taken."""
        self._metering.check_connection(principal)
        self._hub.check_open()

    def seat(self, principal: Principal | None) -> Seat:
        """A place for one connection more, taken before anything is awaited for it; to be given back on every path.

        `principal` None: it is not yet known whose. `too_many_requests`, and as `check_open`.
        """
        if principal is None:
            self._hub.check_open()
        else:
            self.check_open(principal)
        return self._hub.seat()

    async def prepare(self, spec: StreamSpec, wanted: TopicRequest, principal: Principal) -> Prepared:
        """Compile the filter and find the start; errors of the request are raised here."""
        identity = filter_identity(wanted.filter_text, principal.row_filters(spec.read_scope))
        self._hub.check_room(spec.name, identity)
        if wanted.durable is not None and not wanted.after_given:
            wanted = await self._where_acknowledged(spec, wanted, principal)
        return await self.look_up(spec, wanted, principal)

    async def look_up(self, spec: StreamSpec, wanted: TopicRequest, principal: Principal) -> Prepared:
        """As `prepare`, for a page: it takes no connection."""
        await self._lifecycles.check(spec.name, principal)
        filter_ = await self._filters.compile(
            spec, wanted.filter_text, mandatory=principal.row_filters(spec.read_scope)
        )
        history = self._history(spec, filter_)
        return Prepared(spec, wanted, principal, filter_, history, await history.start(wanted.after))

    def enter(self, outlet: Outlet, principal: Principal, seat: Seat) -> Caller:
        """Look after a transport until `leave`, which gives the seat back."""
        pace = self._paces[outlet.encoding.answers_pings]
        life = Life(self._end_s(principal), pace, self._clock.monotonic_s())
        caller = Caller(outlet, principal, life, send_buffer_bytes=self._settings.send_buffer_bytes, seat=seat)
        self._hub.enter(caller)
        try:
            caller.flow = self._metering.open(principal)
        except QuotaExceeded as error:  # another one took the last place since it was checked
            notice = quota_notice(error.hold.limit, error.retry_after_s or 0.0)
            outlet.write(frame_notice(notice, outlet.encoding))
            caller.close(Close.of(error))
        if caller.flow is not None:
            caller.flow.wake = caller.wake
        return caller

    async def leave(self, caller: Caller) -> None:
        """The transport has ended."""
        self._hub.leave(caller)
        if caller.flow is not None:
            caller.flow.close()
        for connection in caller.connections:
            await self.unsubscribe(connection)

    async def begin(self, caller: Caller, prepared: Prepared) -> None:
        """Serve the topic of the URL; what has become impossible since the upgrade closes the transport."""
        if caller.closed:  # it must take nothing over from who is there
            return
        try:
            await self.subscribe(caller, prepared)
        except PenstockError as error:
            caller.close(Close.of(error))

    async def subscribe(
        self, caller: Caller, prepared: Prepared, *, of_url: bool = True, before: bytes = b""
    ) -> Connection:
        """Serve one topic; `before` is written first. `of_url`: the transport ends with it.

        Errors are those of `prepare`, for what has changed since.
        """
        spec, outlet, name = prepared.spec, caller.outlet, prepared.wanted.durable
        hold = None
        if name is not None:
            hold = await self._durable.claim(PositionKey(owner_of(caller.principal), name, spec.name), prepared.start)
        try:
            live = await self._hub.topic(spec)
            # Nothing is awaited from here on: meanwhile another one took the last place, or the topic was retired.
            check_open(spec.name, self._lifecycles.of(spec.name), caller.principal)
            self._hub.check_room(spec.name, prepared.filter.text)
        except PenstockError:
            if hold is not None:
                hold.release()
            raise
        connection = self._connect(prepared, caller, live, of_url=of_url, hold=hold)
        caller.connections = (*caller.connections, connection)
        self._hub.subscribe(connection, prepared.filter)
        outlet.write(before + frame_notice(open_notice(spec.name, prepared.start.resume), outlet.encoding))
        deprecated = deprecated_notice(spec.name, self._lifecycles.of(spec.name))
        if deprecated is not None:
            outlet.write(frame_notice(deprecated, outlet.encoding))
        if hold is not None:
            hold.give_to(connection.close)
        self._begin(prepared, connection)
        return connection

    async def unsubscribe(self, connection: Connection) -> None:
        """End the service of one topic."""
        caller = connection.caller
        connection.closed = True
        caller.connections = tuple(other for other in caller.connections if other is not connection)
        if isinstance(connection, ManagedConnection) and connection.acks is not None:
            connection.acks.release()
        replay, connection.replay = connection.replay, None
        if replay is not None:
            replay.cancel()
            await asyncio.gather(replay, return_exceptions=True)
        await self._hub.unsubscribe(connection)

    async def renew(self, caller: Caller, principal: Principal) -> float:
        """A newer token of the same caller: what it does not allow any more ends. Its life in seconds."""
        before = caller.principal
        self._hub.renew(caller, principal)
        caller.life.renew(self._end_s(principal))
        for connection in caller.connections:
            if not await self._may_stay(connection, before, principal):
                caller.drop(connection, Close(4403, "insufficient_scope"))
        return self.left_s(caller)

    def left_s(self, caller: Caller) -> float:
        """How long the caller's token lasts, in seconds."""
        return caller.life.expires_at_s - self._clock.monotonic_s()

    async def _may_stay(self, connection: Connection, before: Principal, principal: Principal) -> bool:
        spec = connection.live.spec
        scope = spec.read_scope
        if not principal.allows(scope) or before.row_filters(scope) != principal.row_filters(scope):
            return False
        try:
            await self._lifecycles.check(spec.name, principal)
        except PenstockError:
            return False
        return True

    def _end_s(self, principal: Principal) -> float:
        """The end of a token in monotonic seconds."""
        return self._clock.monotonic_s() + principal.expires_at_s - self._clock.now_ms() / 1000

    def _history(self, spec: StreamSpec, filter_: Filter) -> History:
        return History(self._log, self._store, spec, filter_=filter_, settings=self._settings)

    def _begin(self, prepared: Prepared, connection: Connection) -> None:
        """Go live, or towards it."""
        if prepared.start.notice is not None:
            connection.outlet.write(frame_notice(prepared.start.notice, connection.kind.encoding))
        if prepared.start.cursor.epoch != connection.live.cursor.epoch:
            connection.close(Close(1001, "topic_changed", retry_ms=0))
        elif not connection.closed and not self._replay.joins_at_once(prepared, connection):
            connection.replay = asyncio.create_task(self._replay.run(prepared, connection))

    async def _where_acknowledged(self, spec: StreamSpec, wanted: TopicRequest, principal: Principal) -> TopicRequest:
        """A durable subscription goes on after what was acknowledged, unless the caller says otherwise."""
        assert wanted.durable is not None
        cursor = await self._durable.cursor(PositionKey(owner_of(principal), wanted.durable, spec.name))
        return wanted if cursor is None else replace(wanted, after=parse_after(spec, cursor))

    def _connect(
        self, prepared: Prepared, caller: Caller, live: LiveTopic, *, of_url: bool, hold: Hold | None
    ) -> Connection:
        settings, wanted, encoding = self._settings, prepared.wanted, caller.outlet.encoding
        session = _session(prepared, live, encoding)
        kind = Kind(prepared.filter.text, wanted.form, encoding)
        managed = wanted.credit is not None or hold is not None
        connection = (ManagedConnection if managed else Connection)(
            session,
            caller,
            live,
            kind,
            of_url=of_url,
            send_buffer_bytes=settings.send_buffer_bytes,
            flush_bytes=settings.flush_bytes_max,
            flow=caller.flow,
        )
        if isinstance(connection, ManagedConnection):
            connection.acks = hold
            # Not what was read at first: it may be a whole table.
            connection.again = partial(self._again, connection, prepared.spec, wanted, prepared.filter)
        return connection

    def _again(self, connection: Connection, spec: StreamSpec, wanted: TopicRequest, filter_: Filter) -> None:
        connection.replay = asyncio.create_task(self._read_on(connection, spec, wanted, filter_))

    async def _read_on(self, connection: Connection, spec: StreamSpec, wanted: TopicRequest, filter_: Filter) -> None:
        """Credit has come for what lies in the log by now: as a subscriber that comes back with its cursor."""
        try:
            history = self._history(spec, filter_)
            start = await history.start(parse_after(spec, connection.session.cursor_text))
        except PenstockError as error:
            _log.warning("replay_failed", topic=spec.name, code=error.code, detail=error.detail)
            connection.close(Close(4503, error.code, retry_ms=1_000))
            return
        prepared = Prepared(spec, wanted, connection.principal, filter_, history, start)
        connection.session.place = start.cursor.next
        connection.session.resume = None if start.key_hash is None else start.resume
        self._begin(prepared, connection)


def _session(prepared: Prepared, live: LiveTopic, encoding: Encoding) -> Session:
    wanted, start = prepared.wanted, prepared.start
    made: Callable[..., Session] = Session
    if wanted.credit is not None:
        made = partial(CreditSession, credit=wanted.credit)
    session = made(
        live.cursor_of,
        start.cursor.next,
        encoding=encoding,
        form=wanted.form,
        slow=wanted.slow,
        filtered=bool(prepared.filter.text),
    )
    if start.key_hash is not None:
        session.resume = start.resume  # also of who is sent away before the first row
    return session
