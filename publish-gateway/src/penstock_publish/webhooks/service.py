"""Webhooks of a process."""

from __future__ import annotations

from penstock.ports.clock import Clock
from penstock.ports.log import Log
from penstock_publish.gateway_database import GatewayDatabase
from penstock_publish.metrics import WEBHOOKS_ACTIVE
from penstock_publish.outbound.reading import Granted
from penstock_publish.outbound.service import Kind, Standings
from penstock_publish.topics.subscribe import Subscriber
from penstock_publish.webhooks.courier import WebhookCourier
from penstock_publish.webhooks.model import Webhook
from penstock_publish.webhooks.rows import webhook_rows
from penstock_publish.webhooks.settings import WebhookSettings
from penstock_publish.webhooks.signing import new_secret

__all__ = ["Webhooks"]


class Webhooks(Standings[Webhook]):
    """See `Standings`."""

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
        self._clock = clock
        courier = WebhookCourier(clock=clock, settings=settings)
        kind = Kind("webhooks", webhook_rows(), courier, WEBHOOKS_ACTIVE)
        super().__init__(log, subscriber, database, kind, granted=granted, clock=clock, settings=settings)

    async def renew_secret(self, webhook: Webhook) -> str:
        """Another secret from now on; the one of before signs, too, for `secret_overlap_s`."""
        secret = new_secret()
        until_ms = self._clock.now_ms() + round(self.settings.secret_overlap_s * 1000)
        values: dict[str, str | int] = {"secret": secret, "secret_before": webhook.secret}
        values["secret_before_until_ms"] = until_ms
        await self.registry.change(webhook, values)
        return secret
