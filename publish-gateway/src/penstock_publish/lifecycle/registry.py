"""The lifecycles of all topics in memory, and the database behind them that replicas share.

Where the database is shared it is read again every `lifecycle.poll_s`. Listeners hear of each change, whoever made
it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

import structlog

from penstock.errors import PenstockError
from penstock.http.access import Principal
from penstock.ports.clock import Clock
from penstock_publish.gateway_database import GatewayDatabase
from penstock_publish.lifecycle.rows import TABLE, read_lifecycles, write_lifecycle
from penstock_publish.lifecycle.states import PUBLISHED, Lifecycle, check_open, sees
from penstock_publish.settings import LifecycleSettings

__all__ = ["LifecycleListener", "Lifecycles"]

LifecycleListener = Callable[[str, Lifecycle], None]
"""Called on the event loop with a topic and its new lifecycle."""

_log = structlog.get_logger(__name__)


class Lifecycles:
    """What is known of topics; `of` answers from memory once `load` has been awaited."""

    def __init__(self, database: GatewayDatabase, *, clock: Clock, settings: LifecycleSettings) -> None:
        self.settings = settings
        self._database = database
        self._clock = clock
        self._known: dict[str, Lifecycle] = {}
        self._loaded = False
        self._loading = asyncio.Lock()
        self._listeners: list[LifecycleListener] = []
        self.trouble: str | None = None  # why changes of other replicas are not known

    def on_change(self, listener: LifecycleListener) -> None:
        """Be told of each change from now on."""
        self._listeners.append(listener)

    def of(self, topic: str) -> Lifecycle:
        """That of a topic, from memory."""
        return self._known.get(topic, PUBLISHED)

    def hidden_from(self, principal: Principal | None) -> frozenset[str]:
        """Drafts that are not this caller's to see, from memory."""
        return frozenset(topic for topic, lifecycle in self._known.items() if not sees(lifecycle, principal))

    async def load(self) -> None:
        """Make sure that the database has been read once; `store_unavailable` where it cannot be."""
        if self._loaded:
            return
        async with self._loading:
            if not self._loaded:
                await asyncio.to_thread(self._database.create, TABLE)
                await self._read()

    async def check(self, topic: str, principal: Principal) -> None:
        """`unknown_topic` or `topic_retired` where the caller may not open the topic now."""
        await self.load()
        check_open(topic, self.of(topic), principal)

    async def put(self, topic: str, lifecycle: Lifecycle, *, changed_by: str) -> None:
        """Keep it and tell the listeners."""
        await self.load()
        write = partial(
            write_lifecycle, topic=topic, lifecycle=lifecycle, changed_by=changed_by, now_ms=self._clock.now_ms()
        )
        await self._database.run("changing a topic's lifecycle", write)
        _log.info("topic_lifecycle_changed", topic=topic, state=lifecycle.state.value, client_id=changed_by)
        self._learn({**self._known, topic: lifecycle})

    async def run(self, stop: asyncio.Event) -> None:
        """Follow the changes of other replicas until `stop`; returns at once where there are none."""
        shared = self._database.postgres is not None
        while shared and not stop.is_set():
            try:
                await self.load()
                await self._read()
            except PenstockError as error:
                if self.trouble is None:
                    _log.warning("lifecycles_unknown", code=error.code, detail=error.detail)
                self.trouble = error.detail
            else:
                self.trouble = None
            await self._clock.sleep(self.settings.poll_s)

    async def _read(self) -> None:
        found = await self._database.run("reading the lifecycles of topics", read_lifecycles)
        self._loaded = True
        self._learn(found)

    def _learn(self, found: dict[str, Lifecycle]) -> None:
        before, self._known = self._known, found
        for topic, lifecycle in found.items():
            if before.get(topic, PUBLISHED) != lifecycle:
                for listener in self._listeners:
                    listener(topic, lifecycle)
