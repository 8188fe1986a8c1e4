"""`Client`: the same for programs without an event loop: one runs in a thread, and in it an AsyncClient."""

from __future__ import annotations

import asyncio
import concurrent.futures
import random as randomness
import ssl
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeVar, overload

from penstock.client.asynchronous import AsyncClient, Slow
from penstock.client.errors import Unavailable
from penstock.client.following import OnNotice
from penstock.client.limits import ClientLimits
from penstock.client.model import Event, Gap, Published, QueryResult
from penstock.client.paging import data_pages, history_pages, summary_pages
from penstock.client.publishing import cut
from penstock.client.streaming import StreamPublisher
from penstock.client.subscription import OnGap, wanted_topics
from penstock.client.tokens import TokenProvider
from penstock.ports.clock import Clock

__all__ = ["Client", "StreamSender"]

T = TypeVar("T")


class Client:
    """`with Client("https://...", client_id=..., client_secret=...) as penstock:`; everything else as in AsyncClient.

    May be used by several threads. `on_gap` and `on_notice` are called in the thread of the connections: they must
    not wait and not call the client.
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
        self._limits = limits or ClientLimits()

        async def made() -> AsyncClient:
            return AsyncClient(
                url,
                client_id=client_id,
                client_secret=client_secret,
                client_file=client_file,
                token=token,
                scope=scope,
                limits=self._limits,
                tls=tls,
                clock=clock,
                random=random,
            )

        self._loop = asyncio.new_event_loop()
        self._closed = False
        self._closing = threading.Lock()
        self._thread = threading.Thread(target=self._loop.run_forever, name="penstock-client", daemon=True)
        self._thread.start()
        try:
            self._client = self._run(made())
        except BaseException:
            self._end_thread()
            raise

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every subscription, close all connections and end the thread; a second call does nothing."""
        with self._closing:
            if self._closed:
                return
            self._run(self._client.aclose())
            self._run(self._loop.shutdown_asyncgens())
            self._end_thread()

    def token(self) -> str:
        """See AsyncClient."""
        return self._run(self._client.token())

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
    ) -> Iterator[Event]: ...

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
    ) -> Iterator[Event | Gap]: ...

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
    ) -> Iterator[Event] | Iterator[Event | Gap]:
        """See AsyncClient. Events are read ahead (`items_buffered_max`) while the caller is busy with one."""
        wanted = wanted_topics(
            topics,
            after=after,
            filter=filter,
            slow=slow,
            credit=credit,
            durable=durable,
            auto_ack=ack == "auto",
            topics_max=self._limits.topics_max,
        )
        return self._each(self._client.subscribed(wanted, on_gap=on_gap, on_notice=on_notice, read_ahead=True))

    def publish(self, stream: str, events: Iterable[Mapping[str, Any] | bytes]) -> Published:
        """See AsyncClient."""
        total = Published()
        for part in cut(events, self._limits.batch_events_max):  # here: an iterable may take its time
            total = _sum(total, self._run(self._client.publish(stream, part)), self._limits.rejections_kept_max)
        return total

    @contextmanager
    def publisher(self, stream: str) -> Iterator[StreamSender]:
        """See AsyncClient: `with client.publisher("orders") as publisher: publisher.send(events)`."""

        async def made() -> StreamPublisher:
            return self._client.publisher(stream)

        publisher = self._run(made())
        try:
            self._run(publisher.__aenter__())
            sender = StreamSender(publisher, self._run, events_max=self._limits.batch_events_max)
            yield sender
            sender.flush()
        finally:
            self._run(publisher.aclose())

    def history(
        self, topic: str, *, after: str = "earliest", filter: str | None = None, limit: int | None = None
    ) -> Iterator[Event | Gap]:
        """See AsyncClient."""
        return self._each(history_pages(self._client.calls, topic, after=after, filter=filter, limit=limit))

    def data(
        self,
        relation: str,
        *,
        where: Mapping[str, str] | None = None,
        select: Sequence[str] | None = None,
        order: str | None = None,
        limit: int | None = None,
    ) -> Iterator[dict[str, Any]]:
        """See AsyncClient."""
        calls = self._client.calls
        return self._each(data_pages(calls, relation, where=where, select=select, order=order, limit=limit))

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
    ) -> Iterator[dict[str, Any]]:
        """See AsyncClient."""
        return self._each(
            summary_pages(
                self._client.calls,
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

    def query(self, sql: str, params: Sequence[object] | Mapping[str, object] = ()) -> QueryResult:
        """See AsyncClient."""
        return self._run(self._client.query(sql, params))

    def _each(self, pages: AsyncGenerator[list[T], None]) -> Iterator[T]:
        """The items of pages; whoever stops early closes them."""
        try:
            while (page := self._run(_next_of(pages))) is not None:
                yield from page
        finally:
            if threading.current_thread() is self._thread:  # the garbage collector closes a forgotten one wherever
                asyncio.run_coroutine_threadsafe(pages.aclose(), self._loop)
            elif not self._closed:
                self._run(pages.aclose())

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do it in the loop's thread and wait; a Ctrl-C while waiting ends it there too."""
        if self._closed:
            work.close()
            raise Unavailable("not_ready", "this client is closed", status=0)
        waiting = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return waiting.result()
        except BaseException:
            if waiting.cancel():
                concurrent.futures.wait([waiting])
            raise

    def _end_thread(self) -> None:
        self._closed = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class StreamSender:
    """A StreamPublisher without an event loop."""

    def __init__(
        self, publisher: StreamPublisher, run: Callable[[Coroutine[Any, Any, Any]], Any], *, events_max: int
    ) -> None:
        self._publisher, self._run, self._events_max = publisher, run, events_max

    @property
    def published(self) -> Published:
        """See StreamPublisher."""
        return self._publisher.published

    def send(self, events: Mapping[str, Any] | bytes | Iterable[Mapping[str, Any] | bytes]) -> None:
        """See StreamPublisher."""
        if isinstance(events, Mapping | bytes):
            events = [events]
        for part in cut(events, self._events_max):  # here: an iterable may take its time
            self._run(self._publisher.send(part))

    def flush(self) -> Published:
        """See StreamPublisher."""
        published: Published = self._run(self._publisher.flush())
        return published


async def _next_of(pages: AsyncGenerator[list[T], None]) -> list[T] | None:
    return await anext(pages, None)


def _sum(before: Published, part: Published, kept_max: int) -> Published:
    moved = [replace(one, index=before.sent + one.index) for one in part.rejections]
    return Published(
        before.accepted + part.accepted,
        before.duplicate + part.duplicate,
        before.rejected + part.rejected,
        (*before.rejections, *moved)[:kept_max],
    )
