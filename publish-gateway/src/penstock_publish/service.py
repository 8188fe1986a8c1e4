"""The role publish: topics for subscribers, documents that describe them, the page."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog
from aiohttp import web

from penstock.role import Check, Ports
from penstock_publish.authority import Authority
from penstock_publish.documents import document_routes
from penstock_publish.page import page_routes
from penstock_publish.settings import PublishSettings
from penstock_publish.topics.hub import Hub
from penstock_publish.topics.routes import TopicRoutes
from penstock_publish.topics.subscribe import Subscriber

__all__ = ["PublishRole", "build"]

_log = structlog.get_logger(__name__)


def build(settings: PublishSettings, ports: Ports, *, authority: Authority) -> PublishRole:
    """Wire the role. The authority's own routes (OAuth2, session) are mounted by `app`."""
    return PublishRole(settings, ports, authority)


class PublishRole:
    """Implements `Role`."""

    name = "publish"

    def __init__(self, settings: PublishSettings, ports: Ports, authority: Authority) -> None:
        self._hub = Hub(ports.log, ports.clock, settings)
        subscriber = Subscriber(self._hub, ports.log, ports.store, clock=ports.clock, settings=settings)
        self._topics = TopicRoutes(authority, ports.log, subscriber, clock=ports.clock, settings=settings)
        self._authority = authority
        self._log = ports.log
        self._running = False
        authority.on_revocation(self._hub.revoke)

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """Topics, tickets, documents, the page."""
        return [*self._topics.routes(), *document_routes(self._authority, self._log), *page_routes(self._authority)]

    async def run(self, stop: asyncio.Event) -> None:
        """Look after subscribers until `stop`, then send them away with a hint when to come back."""
        self._running = True
        _log.info("publish_started", public_url=self._authority.public_url)
        try:
            await self._hub.run(stop)
        finally:
            self._running = False
            _log.info("publish_stopped")

    def ready(self) -> Sequence[Check]:
        """The hub."""
        detail = f"{self._hub.connection_count} connections"
        return [Check("publish.hub", self._running, detail if self._running else "not running")]
