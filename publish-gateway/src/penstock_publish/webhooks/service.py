"""Webhooks of a process: it takes those that nobody has, works at them, and gives them back at the end."""

from __future__ import annotations

import asyncio
import random

from penstock.errors import PenstockError
from penstock.ports.clock import Clock
from penstock.ports.log import Log
from penstock_publish.gateway_database import GatewayDatabase
from penstock_publish.metrics import WEBHOOKS_ACTIVE
from penstock_publish.outbound.reading import Granted, TopicReader
from penstock_publish.outbound.registry import Registry
from penstock_publish.topics.subscribe import Subscriber
from penstock_publish.webhooks.delivery import Deliveries
from penstock_publish.webhooks.model import Failed, Webhook
from penstock_publish.webhooks.rows import webhook_rows
from penstock_publish.webhooks.sender import Sender
from penstock_publish.webhooks.settings import WebhookSettings

__all__ = ["Webhooks"]


class Webhooks:
    """`run` until stop. `reader` begins new ones, `registry` keeps them."""

    def __init__(
        self,
        log: Log,
        subscriber: Subscriber,
        database: GatewayDatabase,
        *,
        granted: Granted | None,
        clock: Clock,
        settings: WebhookSettings,
    ) -> None:
        self.settings = settings
        self.registry: Registry[Webhook, Failed] = Registry(
            database, webhook_rows(), kind="webhooks", active=WEBHOOKS_ACTIVE, clock=clock, settings=settings
        )
        self.reader = TopicReader(
            log,
            subscriber,
            granted=granted,
            batch_events_max=settings.batch_events_max,
            batch_bytes_max=settings.batch_bytes_max,
        )
        self._sender = Sender(clock=clock, settings=settings)
        self._deliveries = Deliveries(
            log,
            self.reader,
            self.registry,
            self._sender,
            clock=clock,
            chance=random.Random(),
            settings=settings,
        )
        self._redelivering: set[str] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Hold webhooks and work at them until `stop`."""
        try:
            await self.registry.run(stop, self._deliveries.run)
        finally:
            await self._sender.close()

    async def redeliver(self, webhook: Webhook) -> tuple[int, int]:
        """Send what failed again; once nothing is left, a webhook that was paused goes on. Delivered and left.

        `conflict` while another call does so: it would send the same once more.
        """
        if webhook.id in self._redelivering:
            raise PenstockError("conflict", "another call is delivering what failed; wait for its reply")
        self._redelivering.add(webhook.id)
        try:
            delivered, left = await self._deliveries.redeliver(webhook)
        finally:
            self._redelivering.discard(webhook.id)
        if not left:
            await self.registry.resume(webhook)
        return delivered, left
