"""Applications, plans and usage of one process, wired together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aiohttp import web

from penstock.ports.clock import Clock
from penstock.role import Check
from penstock_publish.applications.registry import Applications
from penstock_publish.applications.routes import ApplicationRoutes
from penstock_publish.authority import Authority
from penstock_publish.plans.gate import Gate
from penstock_publish.plans.metering import Metering
from penstock_publish.plans.recorder import Recorder
from penstock_publish.settings import PublishSettings

__all__ = ["ApplicationService"]


class ApplicationService:
    """`metering` is for live connections; `guard` puts routes behind the plans."""

    def __init__(self, authority: Authority, *, clock: Clock, settings: PublishSettings) -> None:
        self.metering = Metering(settings.plans, clock)
        self._recorder = Recorder(authority.database, self.metering, clock)
        self._applications = Applications(authority, self.metering, clock=clock, settings=settings.applications)
        self._routes = ApplicationRoutes(
            authority,
            self._applications,
            self._recorder,
            clock=clock,
            settings=settings.applications,
            plans=settings.plans,
        )
        sockets = [upstream.name for upstream in settings.upstreams if upstream.kind == "websocket"]
        self.guard = Gate(authority, self.metering, sockets).guard
        self._running: list[asyncio.Task[None]] = []

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """`/v1/applications` and `/v1/plans`."""
        return self._routes.routes()

    def start(self) -> None:
        """Record usage and follow the changes of other replicas, until `close`."""
        self._running = [asyncio.create_task(self._recorder.run()), asyncio.create_task(self._applications.run())]

    async def close(self) -> None:
        """Stop, and record what is left."""
        recording, following = self._running
        following.cancel()
        await self._recorder.finish(recording)
        await asyncio.gather(recording, following, return_exceptions=True)
        await self.metering.close()

    def ready(self) -> Sequence[Check]:
        """What of it cannot be done now."""
        parts = (("publish.usage", self._recorder.trouble), ("publish.applications", self._applications.trouble))
        return [Check(name, False, trouble) for name, trouble in parts if trouble is not None]
