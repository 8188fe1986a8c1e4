"""How webhooks are sent: a parcel is one signed request."""

from __future__ import annotations

from collections.abc import Mapping

from penstock.ports.clock import Clock
from penstock_publish.metrics import WEBHOOK_REQUESTS
from penstock_publish.outbound.attempt import Attempt, Outcome
from penstock_publish.outbound.courier import Parcel
from penstock_publish.outbound.reading import Gathered
from penstock_publish.webhooks.addresses import check_url
from penstock_publish.webhooks.model import Webhook
from penstock_publish.webhooks.outcome import Verdict
from penstock_publish.webhooks.sender import Sender
from penstock_publish.webhooks.settings import WebhookSettings
from penstock_publish.webhooks.signing import body_of, message_id

__all__ = ["WebhookCourier"]


class WebhookCourier:
    """Implements `outbound.courier.Courier`; the one recipient is the webhook's address."""

    def __init__(self, *, clock: Clock, settings: WebhookSettings) -> None:
        self._clock = clock
        self._settings = settings
        self._sender = Sender(clock=clock, settings=settings)

    def recipients(self, standing: Webhook) -> tuple[str, ...]:
        """The address, which the settings may have ruled out since it was made."""
        check_url(standing.url, self._settings)
        return (standing.url,)

    def wait_s(self, standing: Webhook, now_ms: int) -> float:
        """Events are sent as they come."""
        return 0.0

    def pack(self, standing: Webhook, gathered: Gathered, now_ms: int) -> Parcel:
        """A request's body."""
        body = body_of(standing.topic, gathered.envelopes, gap=gathered.gap, now_ms=now_ms)
        return Parcel(message_id(standing.id, gathered.cursor), body, gathered.events)

    async def send(self, standing: Webhook, message: str, body: bytes, to: tuple[str, ...]) -> Attempt:
        """One request."""
        secrets = standing.secrets(self._clock.now_ms())
        verdict = await self._sender.send(standing.url, secrets, message, body)
        WEBHOOK_REQUESTS.labels(verdict.outcome.value).inc()
        return _attempt(verdict, to)

    def named(self, recipients: tuple[str, ...]) -> str:
        """It is where the webhook goes at that time."""
        return ""

    def sent_values(self, now_ms: int) -> Mapping[str, str | int]:
        """Nothing beside the cursor."""
        return {}

    async def close(self) -> None:
        """Close all connections."""
        await self._sender.close()


def _attempt(verdict: Verdict, to: tuple[str, ...]) -> Attempt:
    match verdict.outcome:
        case Outcome.DELIVERED:
            return Attempt(detail=verdict.detail)
        case Outcome.REFUSED:
            return Attempt(refused=to, detail=verdict.detail)
        case Outcome.LATER:
            return Attempt(later=to, detail=verdict.detail, retry_after_s=verdict.retry_after_s)
        case Outcome.GONE:
            return Attempt(later=to, detail=verdict.detail, gone=True)
