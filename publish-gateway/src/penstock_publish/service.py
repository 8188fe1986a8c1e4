"""The role publish: topics for subscribers, documents that describe them, the page."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import structlog
from aiohttp import web

from penstock.role import Check, Ports
from penstock_publish.authority import Authority
from penstock_publish.documents import document_routes
from penstock_publish.door.routes import Door
from penstock_publish.page import page_routes
from penstock_publish.settings import PublishSettings
from penstock_publish.topics.hub import Hub
from penstock_publish.topics.routes import TopicRoutes
from penstock_publish.topics.subscribe import Subscriber

__all__ = ["PublishRole", "build"]

_log = structlog.get_logger(__name__)


def build(
    settings: PublishSettings,
    ports: Ports,
    *,
    authority: Authority,
    elsewhere: Mapping[str, Sequence[str]] | None = None,
) -> PublishRole:
    """Wire the role. The authority's own routes (OAuth2, session) are mounted by `app`.

    `elsewhere`: role -> addresses of the services whose routes are forwarded, since they run in other processes.
    """
    return PublishRole(settings, ports, authority, elsewhere or {})


class PublishRole:
    """Implements `Role`."""

    name = "publish"

    def __init__(
        self, settings: PublishSettings, ports: Ports, authority: Authority, elsewhere: Mapping[str, Sequence[str]]
    ) -> None:
        self._hub = Hub(ports.log, ports.clock, settings, traces=ports.traces)
        subscriber = Subscriber(self._hub, ports.log, ports.store, clock=ports.clock, settings=settings)
        self._topics = TopicRoutes(authority, ports.log, subscriber, clock=ports.clock, settings=settings)
        self._door = Door(elsewhere, authority, clock=ports.clock, settings=settings.door, traces=ports.traces)
        self._authority = authority
        self._log = ports.log
        self._running = False
        authority.on_revocation(self._hub.revoke)

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """Topics, tickets, documents, the page, and the paths of services in other processes."""
        own = [*self._topics.routes(), *document_routes(self._authority, self._log), *page_routes(self._authority)]
        return [*own, *self._door.routes()]

    async def run(self, stop: asyncio.Event) -> None:
        """Look after subscribers until `stop`, then send them away with a hint when to come back."""
        self._running = True
        door = asyncio.create_task(self._door.run(stop))
        _log.info("publish_started", public_url=self._authority.public_url)
        try:
            await self._hub.run(stop)
            await door
        finally:
            door.cancel()
            self._running = False
            _log.info("publish_stopped")

    def ready(self) -> Sequence[Check]:
        """The hub, the revocations of other replicas, and the services behind the door."""
        detail = f"{self._hub.connection_count} connections"
        hub = Check("publish.hub", self._running, detail if self._running else "not running")
        trouble = self._authority.trouble
        revocations = [] if trouble is None else [Check("publish.revocations", False, trouble)]
        return [hub, *revocations, *self._door.ready()]
