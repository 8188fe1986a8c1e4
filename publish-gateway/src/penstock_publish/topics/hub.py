"""The hub: who is subscribed to what, one tail per topic in use, and the clock of all sessions.

The only part of the fan-out that waits: it reads the log, offers what it read to the live topic, and looks after
connections whose time has come.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from math import inf

import structlog

from penstock.errors import LogUnavailable, PenstockError
from penstock.http.access import Principal
from penstock.http.revocation import EVERY_TOKEN, is_mark_of_key, is_of_key, marked_client
from penstock.http.socket_life import Close
from penstock.model.batch import Batch
from penstock.model.position import Cursor
from penstock.model.stream import StreamSpec
from penstock.observe.traces import Traces, within
from penstock.ports.clock import Clock
from penstock.ports.log import Log
from penstock_publish.metrics import CONNECTIONS
from penstock_publish.settings import PublishSettings
from penstock_publish.topics.caller import Caller
from penstock_publish.topics.connection import Connection
from penstock_publish.topics.history import heads_of
from penstock_publish.topics.limits import ConnectRate, Seat, Seats, largest_over
from penstock_publish.topics.live import LiveTopic
from penstock_publish.topics.render import Filter
from penstock_publish.topics.spans import begin_fan_out
from penstock_publish.topics.wire import Wires

__all__ = ["Hub"]

_log = structlog.get_logger(__name__)

#: How long one wait for the log lasts at most; also how late a dropped topic is noticed without a tick.
_WAIT_S = 5.0
_RETRY_S = 1.0
#: Pace at which sessions are looked after. A token that expires is noticed that much later at most.
_SWEEP_S = 0.25
#: Pace at which unsent bytes are added up; looking at 50,000 connections takes some milliseconds.
_WEIGH_S = 1.0
_CATALOG = ""


def _one_to_two() -> float:
    return random.uniform(1, 2)


class Hub:
    """Live topics and their connections."""

    def __init__(
        self,
        log: Log,
        clock: Clock,
        settings: PublishSettings,
        *,
        spread: Callable[[], float] = _one_to_two,
        traces: Traces | None = None,
    ) -> None:
        self._log = log
        self._clock = clock
        self._settings = settings
        self._traces = traces or Traces()
        self._spread = spread  # of the hints when to come back: not all subscribers at once
        self._topics: dict[str, LiveTopic] = {}
        self._feeds: dict[str, asyncio.Task[None]] = {}
        self._opening = asyncio.Lock()
        self._by_token: dict[str, set[Caller]] = {}
        #: (when to look, order, whom, when it has to go)
        self._due: list[tuple[float, int, Caller, float]] = []
        self._order = count()
        self._rate = ConnectRate(settings.connects_per_s_max, now_s=clock.monotonic_s())
        self._weighed_s = clock.monotonic_s()
        self.connection_count = 0
        self._seats = Seats(settings.connections_max)
        self.draining = False
        self.wires = Wires(settings)

    async def topic(self, spec: StreamSpec) -> LiveTopic:
        """The live topic, with its tail running; its rings begin at the end of the log if it was not in use."""
        async with self._opening:
            live = self._topics.get(spec.name)
            if live is not None and live.spec == spec:
                return live
            if live is not None:
                await self._stop_feed(live, Close(1001, "topic_changed", retry_ms=0))
            heads = await heads_of(self._log, spec)
            cursor = Cursor(spec.name, heads[0].epoch, tuple(head.next for head in heads))
            live = LiveTopic(spec, cursor, ring_bytes_max=self._settings.ring_bytes_max)
            self._topics[spec.name] = live
            self._feeds[spec.name] = asyncio.create_task(self._feed(live), name=f"publish-{spec.name}")
            return live

    def admit(self) -> None:
        """`overloaded` if more connections come in than in order; before anything else is done for one."""
        if not self._rate.take(self._clock.monotonic_s()):
            limit = self._settings.connects_per_s_max
            detail = f"more than {limit} connections come in a second (connects_per_s_max); try again"
            raise PenstockError("overloaded", detail, retry_after_s=2 * self._spread())

    def check_open(self) -> None:
        """`draining` if no connection is taken any more."""
        if self.draining:
            raise PenstockError("draining", "this process is stopping; connect again", retry_after_s=1.0)

    def seat(self) -> Seat:
        """A place for one connection more; `too_many_requests`."""
        seat = self._seats.take()
        if seat is None:
            raise _too_many(f"{self._settings.connections_max} connections are open (connections_max)")
        return seat

    def check_room(self, name: str, filter_text: str) -> None:
        """`too_many_requests` if one more subscription to a topic cannot be taken."""
        settings, topic = self._settings, self._topics.get(name)
        if topic is None:
            return
        if topic.connection_count >= settings.subscribers_per_topic_max:
            limit = settings.subscribers_per_topic_max
            raise _too_many(f"{name} has {limit} subscribers (subscribers_per_topic_max)")
        filters = topic.filter_texts
        if filter_text and filter_text not in filters and len(filters) >= settings.filters_per_topic_max:
            limit = settings.filters_per_topic_max
            raise _too_many(f"{limit} different filters are in use on {name} (filters_per_topic_max)")

    def enter(self, caller: Caller) -> None:
        """Look after a transport from now on; it need not be subscribed to anything."""
        self.connection_count += 1
        CONNECTIONS.labels(caller.outlet.encoding.value).inc()
        self._by_token.setdefault(caller.principal.token_id, set()).add(caller)
        now_s = self._clock.monotonic_s()
        lifetime_s = self._settings.connection_lifetime_s
        end_s = now_s + lifetime_s * self._spread() if lifetime_s else inf
        heapq.heappush(self._due, (now_s, next(self._order), caller, end_s))
        if self.draining:  # it was let in before, and looked for its place in the log meanwhile
            self._send_away(caller, "draining")

    def leave(self, caller: Caller) -> None:
        """Forget a transport."""
        caller.closed = True
        self.connection_count -= 1
        if caller.seat is not None:
            caller.seat.give_back()
        CONNECTIONS.labels(caller.outlet.encoding.value).dec()
        self._forget_token(caller)

    def renew(self, caller: Caller, principal: Principal) -> None:
        """Another token counts for a transport: its revocation closes it, its end is the end."""
        self._forget_token(caller)
        caller.principal = principal
        self._by_token.setdefault(principal.token_id, set()).add(caller)

    def subscribe(self, connection: Connection, filter_: Filter) -> None:
        """Take a connection in; it goes live with `LiveTopic.join`."""
        connection.live.add(connection, connection.kind, filter_)

    async def unsubscribe(self, connection: Connection) -> None:
        """Forget a connection; the tail stops with the last subscriber of a topic."""
        connection.closed = True
        topic = connection.live
        topic.remove(connection, connection.kind)
        async with self._opening:
            if topic.connection_count == 0 and self._topics.get(topic.spec.name) is topic:
                await self._stop_feed(topic, None)

    def connections_of(self, name: str) -> list[Connection]:
        """Those that are open on a topic now."""
        topic = self._topics.get(name)
        return [] if topic is None else topic.connections

    def revoke(self, token_id: str) -> None:
        """Close the connections of a token that was revoked, of all tokens of a client or a key, or all."""
        client_id, of_key = marked_client(token_id), is_mark_of_key(token_id)
        of_many = client_id is not None or of_key or token_id == EVERY_TOKEN
        callers = self._callers() if of_many else self._by_token.get(token_id, ())
        for caller in tuple(callers):
            of_client = client_id is None or caller.principal.client_id == client_id
            if of_client and (not of_key or is_of_key(caller.principal, token_id)):
                caller.close(Close(4401, "invalid_token"))

    def holds(self, token_id: str) -> bool:
        """True if a transport is open by this token."""
        return token_id in self._by_token

    async def run(self, stop: asyncio.Event) -> None:
        """Look after sessions until `stop`, then send everybody away with a hint when to come back."""
        stopped = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                sleeping = asyncio.ensure_future(self._clock.sleep(_SWEEP_S))
                await asyncio.wait((stopped, sleeping), return_when=asyncio.FIRST_COMPLETED)
                sleeping.cancel()
                self._sweep()
        finally:
            stopped.cancel()
            await self.drain()

    async def drain(self) -> None:
        """Close all connections with 1001, stop the tails, and wait for the WebSockets to be through."""
        self.draining = True
        close = Close(1001, "draining", retry_ms=self._settings.drain_retry_ms)
        for caller in self._callers():
            self._send_away(caller, close.error)
        for topic in tuple(self._topics.values()):
            await self._stop_feed(topic, None)
        self.wires.close_all(close)
        await self.wires.closed()

    def _forget_token(self, caller: Caller) -> None:
        with_token = self._by_token.get(caller.principal.token_id, set())
        with_token.discard(caller)
        if not with_token:
            self._by_token.pop(caller.principal.token_id, None)

    def _sweep(self) -> None:
        now_s = self._clock.monotonic_s()
        while self._due and self._due[0][0] <= now_s:
            _, order, caller, end_s = heapq.heappop(self._due)
            if caller.closed:
                continue
            if now_s >= end_s:
                self._send_away(caller, "lifetime")
                continue
            next_s = caller.tick(now_s)
            if not caller.closed:
                heapq.heappush(self._due, (max(min(next_s, end_s), now_s), order, caller, end_s))
        if now_s >= self._weighed_s + _WEIGH_S:
            self._weighed_s = now_s
            self._weigh()

    def _weigh(self) -> None:
        """Close those that hold most, if all unsent bytes together are too many."""
        held = [(size, caller) for caller in self._callers() if (size := caller.outlet.unsent_bytes())]
        for caller in largest_over(held, limit_bytes=self._settings.send_buffer_total_bytes_max):
            self._send_away(caller, "slow", code=4409)

    def _callers(self) -> list[Caller]:
        return [caller for callers in self._by_token.values() for caller in callers]

    def _send_away(self, caller: Caller, error: str, *, code: int = 1001) -> None:
        """Close with a hint when to come back, for each another."""
        caller.close(Close(code, error, retry_ms=round(self._settings.drain_retry_ms * self._spread())))

    async def _stop_feed(self, topic: LiveTopic, close: Close | None) -> None:
        name = topic.spec.name
        self._topics.pop(name, None)
        feed = self._feeds.pop(name, None)
        if close is not None:
            topic.close_all(close)
        if feed is not None and feed is not asyncio.current_task():
            feed.cancel()
            with suppress(asyncio.CancelledError):
                await feed

    async def _feed(self, topic: LiveTopic) -> None:
        """The tail of one topic, until it is stopped or the topic is gone."""
        retry = asyncio.create_task(self._retry_laggards(topic))
        try:
            tick = 0
            while await self._still_there(topic):
                tick = await self._follow(topic, tick)
        except Exception:  # outermost loop of the tail: subscribers must not hang on a topic that has none
            _log.exception("topic_feed_broken", topic=topic.spec.name)
            topic.close_all(Close(4503, "internal", retry_ms=1_000))
            self._forget(topic)
        finally:
            retry.cancel()

    async def _follow(self, topic: LiveTopic, tick: int) -> int:
        """Fan out what there is, then wait for more; the tick at which the wait ended."""
        try:
            await self._feed_until_quiet(topic)
            return await self._log.wait((topic.spec.name, _CATALOG), tick, _WAIT_S)
        except LogUnavailable as error:
            _log.warning("topic_feed_failed", topic=topic.spec.name, detail=error.detail)
            await self._clock.sleep(_RETRY_S)
        except PenstockError as error:
            if error.code != "unknown_stream":  # dropped between the check and the read: the check will see it
                raise
        return tick

    async def _feed_until_quiet(self, topic: LiveTopic) -> None:
        """Fan out at once, then as long as there is more: what was appended meanwhile goes out together."""
        pause_s = self._settings.merge_ms / 1000
        more = await self._feed_once(topic)
        while more:
            await asyncio.sleep(pause_s)
            more = await self._feed_once(topic)

    async def _feed_once(self, topic: LiveTopic) -> bool:
        batches = await self._read(topic)
        if not batches:
            return False
        with within(begin_fan_out(self._traces, topic, batches)):
            if sum(len(batch.payload) for batch in batches) > self._settings.inline_bytes_max:
                rendered, rings = await asyncio.to_thread(topic.render, batches)
            else:
                rendered, rings = topic.render(batches)
            topic.publish(batches, rendered, rings)
        return True

    async def _read(self, topic: LiveTopic) -> list[Batch]:
        batches: list[Batch] = []
        for partition, offset in enumerate(topic.cursor.next):
            batches += await self._log.read(topic.spec.name, partition, offset, self._settings.read_bytes_max)
        return batches

    async def _still_there(self, topic: LiveTopic) -> bool:
        """False once the topic was dropped or recreated; its connections are closed then."""
        try:
            catalog = await self._log.catalog()
            if catalog.version == topic.checked_version:
                return True
            spec = catalog.streams.get(topic.spec.name)
            if spec is None or not spec.publish:
                topic.close_all(Close(4404, "unknown_topic"))
            elif spec != topic.spec or (await self._log.head(spec.name, 0)).epoch != topic.cursor.epoch:
                topic.close_all(Close(1001, "topic_changed", retry_ms=0))
            else:
                topic.checked_version = catalog.version
                return True
        except LogUnavailable:
            return True  # the next read says so, and tries again
        except PenstockError as error:
            topic.close_all(Close(4404, error.code))
        self._forget(topic)
        return False

    def _forget(self, topic: LiveTopic) -> None:
        if self._topics.get(topic.spec.name) is topic:
            del self._topics[topic.spec.name], self._feeds[topic.spec.name]

    async def _retry_laggards(self, topic: LiveTopic) -> None:
        while True:
            await topic.has_laggards.wait()
            await asyncio.sleep(self._settings.lag_poll_ms / 1000)
            topic.retry_laggards()


def _too_many(what: str) -> PenstockError:
    return PenstockError("too_many_requests", f"{what}; try again later", retry_after_s=5.0)
