"""Webhooks of a process."""

from __future__ import annotations

from penstock_publish.metrics import WEBHOOKS_ACTIVE
from penstock_publish.outbound.service import Kind, Standings, Surroundings
from penstock_publish.webhooks.courier import WebhookCourier
from penstock_publish.webhooks.model import Webhook
from penstock_publish.webhooks.rows import webhook_rows
from penstock_publish.webhooks.settings import WebhookSettings
from penstock_publish.webhooks.signing import new_secret

__all__ = ["Webhooks"]


class Webhooks(Standings[Webhook]):
    """See `Standings`."""

    def __init__(self, around: Surroundings, settings: WebhookSettings) -> None:
        self.settings = settings
        self._clock = around.clock
        courier = WebhookCourier(clock=around.clock, settings=settings)
        super().__init__(around, Kind("webhooks", webhook_rows(), courier, WEBHOOKS_ACTIVE), settings)

    async def renew_secret(self, webhook: Webhook) -> str:
        """Another secret from now on; the one of before signs, too, for `secret_overlap_s`."""
        secret = new_secret()
        until_ms = self._clock.now_ms() + round(self.settings.secret_overlap_s * 1000)
        values: dict[str, str | int] = {"secret": secret, "secret_before": webhook.secret}
        values["secret_before_until_ms"] = until_ms
        await self.registry.change(webhook, values)
        return secret
