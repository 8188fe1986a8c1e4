"""Sources that are fetched from others: which there are, and whether this gateway is the one that fetches them."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Mapping
from pathlib import Path

from penstock.errors import PenstockError
from penstock.feeds.open import has_feed
from penstock.model.stream import StreamSpec
from penstock.role import Check, Ports
from penstock_ingest.feed_cursors import FeedCursors
from penstock_ingest.feed_pump import FeedPump
from penstock_ingest.gateway import Gateway

__all__ = ["Feeds"]

_GROUP = "feeds"


class Feeds:
    """Of several gateways on one log the first that is alive fetches. `run` once."""

    def __init__(self, gateway: Gateway, ports: Ports, *, folder: Path) -> None:
        self._gateway, self._log, self._clock = gateway, ports.log, ports.clock
        self._settings = gateway.settings.feeds
        self._cursors = FeedCursors(folder)
        capabilities = ports.log.capabilities
        self._shared = capabilities.several_writers or capabilities.scope == "cluster"
        self._member = f"{ports.clock.now_ms():014d}-{secrets.token_hex(4)}"
        self._running: dict[str, tuple[FeedPump, asyncio.Task[None]]] = {}

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                with contextlib.suppress(PenstockError):  # the log is away, as all parts say; feeds wait for it, too
                    await self._follow(await self._wanted())
                await self._clock.sleep(self._settings.look_s)
        finally:
            await self._stop(list(self._running))
            await self._leave()

    def checks(self) -> list[Check]:
        """One a feed; places of others that do not answer make the gateway no less ready."""
        return [Check(f"feed {name}", True, pump.detail) for name, (pump, _) in sorted(self._running.items())]

    async def _wanted(self) -> Mapping[str, StreamSpec]:
        catalog = await self._log.catalog()
        found = {name: spec for name, spec in catalog.streams.items() if has_feed(spec)}
        if self._shared and found:
            members = await self._log.beat(_GROUP, self._member, self._settings.ttl_s)
            if members[:1] != [self._member]:
                return {}
        return found

    async def _follow(self, wanted: Mapping[str, StreamSpec]) -> None:
        await self._stop([name for name, (pump, _) in self._running.items() if wanted.get(name) != pump.spec])
        for name, spec in wanted.items():
            if name not in self._running:
                pump = FeedPump(spec, self._gateway, log=self._log, clock=self._clock, cursors=self._cursors)
                self._running[name] = pump, asyncio.create_task(pump.run(), name=f"feed {name}")

    async def _stop(self, names: list[str]) -> None:
        leaving = [self._running.pop(name)[1] for name in names]
        for task in leaving:
            task.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)

    async def _leave(self) -> None:
        if self._shared:
            with contextlib.suppress(PenstockError):  # it is taken for gone after its ttl
                await self._log.beat(_GROUP, self._member, 0)
