"""The role publish: topics for subscribers, documents that describe them, the page."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial

import structlog
from aiohttp import web

from penstock.errors import PenstockError
from penstock.ports.intake import Intake
from penstock.role import Check, Ports
from penstock_publish.applications.service import ApplicationService
from penstock_publish.authority import Authority
from penstock_publish.client_module import client_module_routes
from penstock_publish.documents.offer import Offers
from penstock_publish.documents.routes import document_routes
from penstock_publish.door.routes import Door
from penstock_publish.durable.registry import DurableSubscriptions
from penstock_publish.durable.routes import DurableRoutes
from penstock_publish.emails.routes import EmailRoutes
from penstock_publish.emails.service import Emails
from penstock_publish.lifecycle.drafts import DraftGate
from penstock_publish.lifecycle.registry import Lifecycles
from penstock_publish.lifecycle.routes import LifecycleRoutes
from penstock_publish.page import page_routes
from penstock_publish.portal.routes import portal_routes
from penstock_publish.rest.edge import RestEdge
from penstock_publish.settings import PublishSettings
from penstock_publish.topics.hub import Hub
from penstock_publish.topics.retiring import follow_lifecycle
from penstock_publish.topics.routes import TopicRoutes
from penstock_publish.topics.subscribe import Subscriber
from penstock_publish.upstreams.routes import UpstreamRoutes
from penstock_publish.webhooks.routes import WebhookRoutes
from penstock_publish.webhooks.service import Webhooks

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
        self._hub = Hub(ports.log, ports.clock, settings, traces=ports.traces)
        self._lifecycles = Lifecycles(authority.database, clock=ports.clock, settings=settings.lifecycle)
        self._lifecycles.on_change(partial(follow_lifecycle, self._hub))
        self._applications = ApplicationService(authority, clock=ports.clock, settings=settings)
        self._durable = DurableSubscriptions(authority.database, clock=ports.clock, settings=settings.durable)
        subscriber = Subscriber(
            self._hub,
            ports.log,
            ports.store,
            self._lifecycles,
            clock=ports.clock,
            settings=settings,
            durable=self._durable,
            metering=self._applications.metering,
        )
        self._door = Door(elsewhere, authority, clock=ports.clock, settings=settings.door, traces=ports.traces)
        self._topics = TopicRoutes(
            authority,
            ports.log,
            subscriber,
            self._lifecycles,
            clock=ports.clock,
            settings=settings,
            intake=intake or self._door.intake(),
        )
        self._durable_routes = DurableRoutes(authority.access, self._durable, settings.durable)
        embedded = authority.embedded
        self._webhooks = Webhooks(
            ports.log,
            subscriber,
            authority.database,
            granted=None if embedded is None else embedded.granted,
            clock=ports.clock,
            settings=settings.webhooks,
        )
        self._webhook_routes = WebhookRoutes(self._webhooks, authority.access, clock=ports.clock)
        self._emails = Emails(
            ports.log,
            subscriber,
            authority.database,
            granted=None if embedded is None else embedded.granted,
            clock=ports.clock,
            settings=settings.email,
        )
        self._email_routes = EmailRoutes(self._emails, authority.access, clock=ports.clock)
        self._lifecycle_routes = LifecycleRoutes(authority.access, ports.log, self._lifecycles, clock=ports.clock)
        self._upstreams = UpstreamRoutes(
            settings.upstreams,
            authority,
            self._topics.entrance,
            self._applications.metering,
            clock=ports.clock,
        )
        self._drafts = DraftGate(authority.access, self._lifecycles)
        self._edge = RestEdge(settings.rest, origins=settings.cors_origins)
        self._authority = authority
        self._log = ports.log
        self._clock = ports.clock
        self._running = False
        for listener in (self._hub.revoke, self._webhooks.heard, self._emails.heard):
            authority.on_revocation(listener)
        authority.on_hold(self._hub.holds)

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """Topics, tickets, documents, the page, and the paths of services in other processes."""
        topics = [*self._topics.routes(), *self._lifecycle_routes.routes(), *self._applications.routes()]
        topics += [*self._durable_routes.routes(), *self._webhook_routes.routes(), *self._email_routes.routes()]
        offers = Offers(self._authority, self._log, self._lifecycles, self._upstreams.settings)
        documents = document_routes(offers, self._authority.public_url)
        portal = portal_routes(self._authority, self._log, offers, clock=self._clock)
        own = [*topics, *documents, *portal, *page_routes(self._authority), *client_module_routes()]
        return self.guard([*own, *self._door.routes(), *self._upstreams.routes()])

    def guard(self, routes: Sequence[web.AbstractRouteDef]) -> Sequence[web.AbstractRouteDef]:
        """Routes of other roles of this process: without rows of drafts, held against applications' plans, open to
        pages of other origins and compressed, as those behind the door are.
        """
        return self._edge.guard(self._applications.guard(self._drafts.guard(routes)))

    async def run(self, stop: asyncio.Event) -> None:
        """Look after subscribers until `stop`, then send them away with a hint when to come back."""
        try:
            await self._upstreams.open()
        except PenstockError:
            await self._upstreams.close()
            raise
        self._running = True
        door = asyncio.create_task(self._door.run(stop))
        lifecycles = asyncio.create_task(self._lifecycles.run(stop))
        webhooks = asyncio.create_task(self._webhooks.run(stop))
        emails = asyncio.create_task(self._emails.run(stop))
        upstreams = asyncio.create_task(self._upstreams.run(stop))
        self._applications.start()
        self._durable.start()
        _log.info("publish_started", public_url=self._authority.public_url)
        try:
            await self._hub.run(stop)
            await webhooks
            await emails
            await upstreams
            await door
        finally:
            door.cancel()
            lifecycles.cancel()
            webhooks.cancel()
            emails.cancel()
            upstreams.cancel()
            await self._applications.close()
            await self._durable.close()
            self._running = False
            _log.info("publish_stopped")

    def ready(self) -> Sequence[Check]:
        """The hub, the revocations of other replicas, and the services behind the door."""
        detail = f"{self._hub.connection_count} connections"
        hub = Check("publish.hub", self._running, detail if self._running else "not running")
        trouble = self._authority.trouble
        revocations = [] if trouble is None else [Check("publish.revocations", False, trouble)]
        unknown = self._lifecycles.trouble
        lifecycles = [] if unknown is None else [Check("publish.lifecycles", False, unknown)]
        return [
            hub,
            *revocations,
            *lifecycles,
            *self._durable.ready(),
            *self._applications.ready(),
            *self._webhooks.registry.ready(),
            *self._emails.registry.ready(),
            *self._door.ready(),
        ]
