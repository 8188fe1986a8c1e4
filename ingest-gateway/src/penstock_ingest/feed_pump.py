"""One source that is fetched from others: what its feed gives is accepted like a request, then its cursor is kept."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable

import structlog

from penstock.errors import PenstockError
from penstock.feeds.open import feed_options, make_feed
from penstock.model.stream import StreamSpec
from penstock.ports.clock import Clock
from penstock.ports.feed import Fed, Feed
from penstock.ports.log import Log
from penstock_ingest import metrics
from penstock_ingest.body import Form
from penstock_ingest.feed_cursors import FeedCursors
from penstock_ingest.gateway import Gateway

__all__ = ["FeedPump"]

_logger = structlog.get_logger("penstock.ingest")


class FeedPump:
    """`run` once; cancelling it ends it."""

    def __init__(self, spec: StreamSpec, gateway: Gateway, *, log: Log, clock: Clock, cursors: FeedCursors) -> None:
        self.spec = spec
        self.detail = "starting"
        self._gateway, self._log, self._clock, self._cursors = gateway, log, clock, cursors
        self._settings = gateway.settings.feeds
        self._labels = spec.name, spec.options["connector"]
        self._failures = 0
        self._epoch = 0

    async def run(self) -> None:
        """Fetch until cancelled; a place that does not answer is asked again after a growing wait."""
        while True:
            try:
                await self._fetch()
            except PenstockError as error:
                await self._wait(error.detail)
            except OSError as error:  # of the cursor's file
                await self._wait(f"the position of '{self.spec.name}' cannot be kept: {error}")
            except Exception as error:  # outermost loop of a feed: whatever it was, the gateway and others go on
                _logger.error("feed_broke", stream=self.spec.name, exc_info=error)
                await self._wait(f"{type(error).__name__}: {error}")

    async def _fetch(self) -> None:
        options = await asyncio.to_thread(feed_options, self.spec, secrets=self._settings.secrets_folder)
        limit_bytes = min(self._settings.piece_max_bytes, self._gateway.settings.body_max_bytes)
        feed = make_feed(self.spec, options, clock=self._clock, piece_max_bytes=limit_bytes)
        try:
            await self._open(feed)
            while True:
                fed = await feed.take()
                self._failures, self.detail = 0, "running"
                if fed is not None:
                    await self._keep(fed, again=not feed.replays)
        finally:
            await feed.close()

    async def _open(self, feed: Feed) -> None:
        cursor = None
        if feed.replays:
            self._epoch = (await self._log.head(self.spec.name, 0)).epoch
            cursor = await asyncio.to_thread(self._cursors.read, self.spec, self._epoch)
        await feed.open(cursor)

    async def _keep(self, fed: Fed, *, again: bool) -> None:
        """`again`: the place gives it only once, so it is kept here until the log takes it."""
        rest = deque(_requests(fed.lines, self._gateway.settings.events_max))
        while True:
            try:
                await _finished(self._take(rest, fed.cursor))
            except PenstockError as error:
                if not again or not error.retryable:
                    raise
                await self._wait(error.detail)
            else:
                return

    async def _take(self, rest: deque[bytes], cursor: str | None) -> None:
        """Accept what is there, from the left on; `rest` is what was not yet."""
        while rest:
            accepted = await self._gateway.accept(self.spec.name, rest[0], Form.NDJSON)
            rest.popleft()
            self._note("accepted", accepted.accepted)
            self._note("duplicate", accepted.duplicate)
            self._note("rejected", accepted.rejected)
        if cursor is not None:
            await asyncio.to_thread(self._cursors.write, self.spec, self._epoch, cursor)

    def _note(self, outcome: str, events: int) -> None:
        if events:
            metrics.FEED_EVENTS.labels(*self._labels, outcome).inc(events)

    async def _wait(self, detail: str) -> None:
        if not self._failures:
            _logger.warning("feed_waits", stream=self.spec.name, detail=detail)
        wait_s = min(self._settings.retry_min_s * 2 ** min(self._failures, 30), self._settings.retry_max_s)
        self._failures += 1
        self.detail = f"{detail} (next try in {wait_s:g} s)"
        metrics.FEED_RETRIES.labels(*self._labels).inc()
        await self._clock.sleep(wait_s)


def _requests(lines: bytes, events_max: int) -> list[bytes]:
    """The lines, in parts of as many as a request may have."""
    if lines.count(b"\n") < events_max:
        return [lines] if lines.strip() else []
    each = [line for line in lines.split(b"\n") if line.strip()]
    return [b"\n".join(each[first : first + events_max]) for first in range(0, len(each), events_max)]


async def _finished(work: Awaitable[None]) -> None:
    """Done when this returns, also when it is cancelled meanwhile: what is appended has its cursor kept."""
    done = asyncio.ensure_future(work)
    try:
        await asyncio.shield(done)
    except asyncio.CancelledError:
        await asyncio.gather(done, return_exceptions=True)
        raise
