"""`AsyncClient`: subscribe, publish and read, in an event loop."""

from __future__ import annotations

import os
import random as randomness
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, Literal, TypeVar, overload

from penstock.client.access import resolve_access
from penstock.client.calls import Calls
from penstock.client.following import OnNotice, Wanted
from penstock.client.limits import ClientLimits
from penstock.client.model import Event, Gap, Published, QueryResult
from penstock.client.paging import data_pages, history_pages, summary_pages
from penstock.client.publishing import Publisher
from penstock.client.querying import run_query
from penstock.client.streaming import StreamPublisher
from penstock.client.subscription import OnGap, Subscription, wanted_topics
from penstock.client.tokens import TokenProvider
from penstock.ports.clock import Clock, SystemClock

__all__ = ["AsyncClient", "Slow"]

T = TypeVar("T")
Slow = Literal["gap", "latest", "close"]


class AsyncClient:
    """A client of one Penstock: `async with AsyncClient(url, client_id=..., client_secret=...) as penstock:`

    Instead of id and secret: `client_file` (a client.json or the folder that holds it; then `url` may be left out),
    or `token`, a text or a function that gives one (`str` or `Token`; may be a coroutine function) whenever one is
    needed. Without any of them the environment is asked: PENSTOCK_URL, PENSTOCK_TOKEN, PENSTOCK_CLIENT_ID and
    PENSTOCK_CLIENT_SECRET, PENSTOCK_CLIENT_FILE, PENSTOCK_DATA.

    `scope`: scopes to ask for; default: all that the client has. `limits` names every bound. `clock` and `random` are
    there for tests. Errors are ClientErrors.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        client_id: str | None = None,
        client_secret: str | None = None,
        client_file: str | Path | None = None,
        token: str | TokenProvider | None = None,
        scope: str | None = None,
        limits: ClientLimits | None = None,
        tls: ssl.SSLContext | None = None,
        clock: Clock | None = None,
        random: randomness.Random | None = None,
    ) -> None:
        access = resolve_access(
            url,
            client_id=client_id,
            client_secret=client_secret,
            client_file=client_file,
            token=token,
            scope=scope,
            environment=os.environ,
        )
        #: HTTP calls with this client's token, for paths that have no method of their own.
        self.calls = Calls(
            access,
            clock=clock or SystemClock(),
            chance=random or randomness.SystemRandom(),
            limits=limits or ClientLimits(),
            tls=tls,
        )
        self._publisher = Publisher(self.calls)
        self._subscriptions: set[Subscription] = set()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End every subscription and close all connections."""
        for subscription in list(self._subscriptions):
            await subscription.stop()
        await self.calls.close()

    async def token(self) -> str:
        """A token with life left, for calls of your own."""
        return await self.calls.tokens.current()

    @overload
    def subscribe(
        self,
        *topics: str,
        after: str | Mapping[str, str] | None = ...,
        filter: str | Mapping[str, str] | None = ...,
        slow: Slow | None = ...,
        credit: int | None = ...,
        durable: str | None = ...,
        ack: Literal["auto", "manual"] = ...,
        on_gap: OnGap,
        on_notice: OnNotice | None = ...,
    ) -> AsyncGenerator[Event, None]: ...

    @overload
    def subscribe(
        self,
        *topics: str,
        after: str | Mapping[str, str] | None = ...,
        filter: str | Mapping[str, str] | None = ...,
        slow: Slow | None = ...,
        credit: int | None = ...,
        durable: str | None = ...,
        ack: Literal["auto", "manual"] = ...,
        on_gap: None = ...,
        on_notice: OnNotice | None = ...,
    ) -> AsyncGenerator[Event | Gap, None]: ...

    def subscribe(
        self,
        *topics: str,
        after: str | Mapping[str, str] | None = None,
        filter: str | Mapping[str, str] | None = None,
        slow: Slow | None = None,
        credit: int | None = None,
        durable: str | None = None,
        ack: Literal["auto", "manual"] = "auto",
        on_gap: OnGap | None = None,
        on_notice: OnNotice | None = None,
    ) -> AsyncGenerator[Event, None] | AsyncGenerator[Event | Gap, None]:
        """Events of topics as they happen, until the iterator is closed; over breaks and restarts of the server each
        once and in order.

        `after`: a cursor, `earliest` or `latest` (the default); of several topics as {topic: cursor}. `filter`: an
        SQL predicate over the columns. `slow`: what the server does when this program cannot keep up: `gap` and
        `latest` skip, `close` makes the client read on from the log, so that nothing is skipped that the log still
        has. What is skipped comes as a `Gap` between the events, or goes to `on_gap`. `credit`: the server sends at
        most so many events ahead. `durable`: a name under which the server keeps what is acknowledged: by asking for
        the next event, or with `ack="manual"` by `event.ack()`. `on_notice` is told of connections and whatever else.

        Raises Unauthorized, Forbidden, NotFound or Refused where another try would end the same way, Unavailable
        when the tries of `ClientLimits` are used up.
        """
        wanted = wanted_topics(
            topics,
            after=after,
            filter=filter,
            slow=slow,
            credit=credit,
            durable=durable,
            auto_ack=ack == "auto",
            topics_max=self.calls.limits.topics_max,
        )
        return _flat(self.subscribed(wanted, on_gap=on_gap, on_notice=on_notice, read_ahead=False))

    async def subscribed(
        self, wanted: Sequence[Wanted], *, on_gap: OnGap | None, on_notice: OnNotice | None, read_ahead: bool
    ) -> AsyncGenerator[list[Event | Gap], None]:
        """As `subscribe`, in batches as they come; `read_ahead`: a task reads while the caller is busy."""
        subscription = Subscription(self.calls, wanted, on_gap=on_gap, on_notice=on_notice, read_ahead=read_ahead)
        self._subscriptions.add(subscription)
        try:
            async with aclosing(subscription.batches()) as batches:
                async for batch in batches:
                    yield batch
        finally:
            self._subscriptions.discard(subscription)
            await subscription.stop()

    async def publish(
        self, stream: str, events: Iterable[Mapping[str, Any] | bytes] | AsyncIterator[Mapping[str, Any] | bytes]
    ) -> Published:
        """Send events (or lines of JSON as bytes) into a source stream, in order and in bounded requests; returns
        when all are durable.

        What the server is too busy for, or does not answer, is sent again. Where the stream knows events again by
        `id`, those without one get one, so each is stored once. Rejected events do not raise: look at the result.
        """
        return await self._publisher.publish(stream, events)

    def publisher(self, stream: str) -> StreamPublisher:
        """For who sends all the time: `async with client.publisher("orders") as sender: await sender.send(events)`.

        Over one WebSocket, many batches under way; what has no reply after a break is sent again.
        """
        return StreamPublisher(self.calls, stream, self._publisher.dedupe_of)

    def history(
        self, topic: str, *, after: str = "earliest", filter: str | None = None, limit: int | None = None
    ) -> AsyncGenerator[Event | Gap, None]:
        """What a topic still holds, from `after` to its end; of a table the current rows, then the changes."""
        return _flat(history_pages(self.calls, topic, after=after, filter=filter, limit=limit))

    def data(
        self,
        relation: str,
        *,
        where: Mapping[str, str] | None = None,
        select: Sequence[str] | None = None,
        order: str | None = None,
        limit: int | None = None,
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Rows of a stored table or of `raw.<stream>`: `where={"state": "eq.Kerala"}`, `order="day_start.desc"`."""
        return _flat(data_pages(self.calls, relation, where=where, select=select, order=order, limit=limit))

    def summaries(
        self,
        relation: str,
        *,
        agg: str | Sequence[str] = "count(*)",
        bucket: str | None = None,
        group: Sequence[str] | None = None,
        from_: str | None = None,
        to: str | None = None,
        time: str | None = None,
        where: Mapping[str, str] | None = None,
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Aggregates over time: `agg=["sum(tonnes)", "count(*)"]`, `bucket="1d"`; `from_` <= t < `to`."""
        return _flat(
            summary_pages(
                self.calls,
                relation,
                agg=agg,
                bucket=bucket,
                group=group,
                from_=from_,
                to=to,
                time=time,
                where=where,
            )
        )

    async def query(self, sql: str, params: Sequence[object] | Mapping[str, object] = ()) -> QueryResult:
        """Rows of one SELECT over stored relations. `params`: values for `?` by place, or for `:name` by name.

        Raises `Refused` with the place of what is wrong, `Unavailable` for one that took too long.
        """
        return await run_query(self.calls, sql, params)


async def _flat(pages: AsyncGenerator[list[T], None]) -> AsyncGenerator[T, None]:
    async with aclosing(pages):
        async for page in pages:
            for item in page:
                yield item
