"""The role publish: topics for subscribers, documents that describe them, the page."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import structlog
from aiohttp import web

from penstock.errors import PenstockError
from penstock.ports.intake import Intake
from penstock.role import Check, Ports
from penstock_publish.authority import Authority
from penstock_publish.door.routes import Door
from penstock_publish.lifecycle.drafts import DraftGate
from penstock_publish.rest.edge import RestEdge
from penstock_publish.settings import PublishSettings
from penstock_publish.wiring import (
    document_pages,
    durable_routes,
    email_routes,
    emails,
    ground_of,
    lifecycle_routes,
    topics,
    upstreams,
    webhook_routes,
    webhooks,
)

__all__ = ["PublishRole", "build"]

_log = structlog.get_logger(__name__)


def build(
    settings: PublishSettings,
    ports: Ports,
    *,
    authority: Authority,
    elsewhere: Mapping[str, Sequence[str]] | None = None,
    intake: Intake | None = None,
) -> PublishRole:
    """Wire the role. The authority's own routes (OAuth2, session) are mounted by `app`.

    `elsewhere`: role -> addresses of the services whose routes are forwarded, since they run in other processes.
    `intake`: where events go that subscribers send, if ingest runs in this one.
    """
    return PublishRole(settings, ports, authority, elsewhere or {}, intake)


class PublishRole:
    """Implements `Role`."""

    name = "publish"

    def __init__(
        self,
        settings: PublishSettings,
        ports: Ports,
        authority: Authority,
        elsewhere: Mapping[str, Sequence[str]],
        intake: Intake | None,
    ) -> None:
        ground = self._ground = ground_of(settings, ports, authority)
        self._door = Door(elsewhere, authority, clock=ports.clock, settings=settings.door, traces=ports.traces)
        self._topics = topics(ground, intake or self._door.intake())
        self._webhooks = webhooks(ground)
        self._emails = emails(ground)
        self._upstreams = upstreams(ground, self._topics.entrance)
        self._drafts = DraftGate(authority.access, ground.lifecycles)
        self._edge = RestEdge(settings.rest, origins=settings.cors_origins)
        self._authority = authority
        self._running = False
        for listener in (ground.hub.revoke, self._webhooks.heard, self._emails.heard):
            authority.on_revocation(listener)
        authority.on_hold(ground.hub.holds)

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """Topics, tickets, documents, the page, and the paths of services in other processes."""
        ground = self._ground
        own = [*self._topics.routes(), *lifecycle_routes(ground), *ground.applications.routes()]
        own += [*durable_routes(ground), *webhook_routes(ground, self._webhooks), *email_routes(ground, self._emails)]
        own += document_pages(ground)
        return self.guard([*own, *self._door.routes(), *self._upstreams.routes()])

    def guard(self, routes: Sequence[web.AbstractRouteDef]) -> Sequence[web.AbstractRouteDef]:
        """Routes of other roles of this process: without rows of drafts, held against applications' plans, open to
        pages of other origins and compressed, as those behind the door are.
        """
        return self._edge.guard(self._ground.applications.guard(self._drafts.guard(routes)))

    async def run(self, stop: asyncio.Event) -> None:
        """Look after subscribers until `stop`, then send them away with a hint when to come back."""
        try:
            await self._upstreams.open()
        except PenstockError:
            await self._upstreams.close()
            raise
        self._running = True
        ground = self._ground
        finishing = [
            asyncio.create_task(part.run(stop))
            for part in (ground.hub, self._webhooks, self._emails, self._upstreams, self._door)
        ]
        lifecycles = asyncio.create_task(ground.lifecycles.run(stop))
        ground.applications.start()
        ground.durable.start()
        _log.info("publish_started", public_url=self._authority.public_url)
        try:
            await asyncio.gather(*finishing)  # the first that breaks ends the role: not only when it is to stop
        finally:
            for part in (*finishing, lifecycles):
                part.cancel()
            await asyncio.gather(*finishing, lifecycles, return_exceptions=True)
            await ground.applications.close()
            await ground.durable.close()
            self._running = False
            _log.info("publish_stopped")

    def ready(self) -> Sequence[Check]:
        """The hub, the revocations of other replicas, and the services behind the door."""
        detail = f"{self._ground.hub.connection_count} connections"
        hub = Check("publish.hub", self._running, detail if self._running else "not running")
        trouble = self._authority.trouble
        revocations = [] if trouble is None else [Check("publish.revocations", False, trouble)]
        unknown = self._ground.lifecycles.trouble
        lifecycles = [] if unknown is None else [Check("publish.lifecycles", False, unknown)]
        return [
            hub,
            *revocations,
            *lifecycles,
            *self._ground.durable.ready(),
            *self._ground.applications.ready(),
            *self._webhooks.registry.ready(),
            *self._emails.registry.ready(),
            *self._door.ready(),
        ]
