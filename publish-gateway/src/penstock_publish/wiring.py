"""The features of the gateway, each wired by one function from the ground that they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from aiohttp import web

from penstock.ports.intake import Intake
from penstock.role import Ports
from penstock_publish.applications.service import ApplicationService
from penstock_publish.authority import Authority
from penstock_publish.client_module import client_module_routes
from penstock_publish.documents.offer import Offers
from penstock_publish.documents.routes import document_routes
from penstock_publish.durable.registry import DurableSubscriptions
from penstock_publish.durable.routes import DurableRoutes
from penstock_publish.emails.routes import EmailRoutes
from penstock_publish.emails.service import Emails
from penstock_publish.lifecycle.registry import Lifecycles
from penstock_publish.lifecycle.routes import LifecycleRoutes
from penstock_publish.outbound.service import Surroundings
from penstock_publish.page import page_routes
from penstock_publish.portal.routes import portal_routes
from penstock_publish.settings import PublishSettings
from penstock_publish.topics.entrance import Entrance
from penstock_publish.topics.hub import Hub
from penstock_publish.topics.retiring import follow_lifecycle
from penstock_publish.topics.routes import TopicRoutes
from penstock_publish.topics.subscribe import Subscriber
from penstock_publish.upstreams.routes import UpstreamRoutes
from penstock_publish.webhooks.routes import WebhookRoutes
from penstock_publish.webhooks.service import Webhooks

__all__ = ["Ground", "document_pages", "durable_routes", "email_routes", "emails", "ground_of", "lifecycle_routes",
           "topics", "upstreams", "webhook_routes", "webhooks"]  # fmt: skip

Routes = Sequence[web.AbstractRouteDef]


@dataclass(frozen=True, slots=True)
class Ground:
    """What features share: who is subscribed to what, and what decides on it."""

    settings: PublishSettings
    ports: Ports
    authority: Authority
    hub: Hub
    lifecycles: Lifecycles
    applications: ApplicationService
    durable: DurableSubscriptions
    subscriber: Subscriber


def ground_of(settings: PublishSettings, ports: Ports, authority: Authority) -> Ground:
    """Made before any feature; connections are closed as the lifecycles of their topics say."""
    clock = ports.clock
    hub = Hub(ports.log, clock, settings, traces=ports.traces)
    lifecycles = Lifecycles(authority.database, clock=clock, settings=settings.lifecycle)
    lifecycles.on_change(partial(follow_lifecycle, hub))
    applications = ApplicationService(authority, clock=clock, settings=settings)
    durable = DurableSubscriptions(authority.database, clock=clock, settings=settings.durable)
    subscriber = Subscriber(
        hub,
        ports.log,
        ports.store,
        lifecycles,
        clock=clock,
        settings=settings,
        durable=durable,
        metering=applications.metering,
    )
    return Ground(settings, ports, authority, hub, lifecycles, applications, durable, subscriber)


def topics(ground: Ground, intake: Intake | None) -> TopicRoutes:
    """Topics on every transport, and tickets. `intake`: where events go that subscribers send."""
    return TopicRoutes(
        ground.authority,
        ground.ports.log,
        ground.subscriber,
        ground.lifecycles,
        clock=ground.ports.clock,
        settings=ground.settings,
        intake=intake,
    )


def lifecycle_routes(ground: Ground) -> Routes:
    """States and versions of topics."""
    access, log, clock = ground.authority.access, ground.ports.log, ground.ports.clock
    return LifecycleRoutes(access, log, ground.lifecycles, clock=clock).routes()


def durable_routes(ground: Ground) -> Routes:
    """A caller's durable subscriptions."""
    return DurableRoutes(ground.authority.access, ground.durable, ground.settings.durable).routes()


def webhooks(ground: Ground) -> Webhooks:
    """Events of topics for addresses of others."""
    return Webhooks(_surroundings(ground), ground.settings.webhooks)


def webhook_routes(ground: Ground, service: Webhooks) -> Routes:
    """Callers' own webhooks."""
    return WebhookRoutes(service, ground.authority.access, clock=ground.ports.clock).routes()


def emails(ground: Ground) -> Emails:
    """Events of topics as mails."""
    return Emails(_surroundings(ground), ground.settings.email)


def email_routes(ground: Ground, service: Emails) -> Routes:
    """Callers' own e-mail subscriptions."""
    return EmailRoutes(service, ground.authority.access, clock=ground.ports.clock).routes()


def upstreams(ground: Ground, entrance: Entrance) -> UpstreamRoutes:
    """Endpoints of others behind the gateway."""
    settings, metering = ground.settings.upstreams, ground.applications.metering
    return UpstreamRoutes(settings, ground.authority, entrance, metering, clock=ground.ports.clock)


def document_pages(ground: Ground) -> Routes:
    """What describes the topics, to programs and to people, the page, and the client for pages."""
    authority, log = ground.authority, ground.ports.log
    offers = Offers(authority, log, ground.lifecycles, ground.settings.upstreams)
    documents = document_routes(offers, authority.public_url)
    portal = portal_routes(authority, log, offers, clock=ground.ports.clock)
    return [*documents, *portal, *page_routes(authority), *client_module_routes()]


def _surroundings(ground: Ground) -> Surroundings:
    """Of standing subscriptions, whatever they send by."""
    embedded = ground.authority.embedded
    granted = None if embedded is None else embedded.granted
    return Surroundings(
        ground.ports.log,
        ground.subscriber,
        ground.authority.database,
        granted,
        ground.applications.metering,
        ground.ports.clock,
    )
