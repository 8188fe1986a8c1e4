"""How e-mail subscriptions are sent: a parcel is one mail, perhaps to several recipients."""

from __future__ import annotations

from collections.abc import Mapping

from penstock.errors import PenstockError
from penstock_publish.emails.addresses import may_go_to
from penstock_publish.emails.mail import compose, message_id, wait_s
from penstock_publish.emails.model import Email
from penstock_publish.emails.sender import Sender
from penstock_publish.emails.settings import EmailSettings
from penstock_publish.metrics import EMAILS
from penstock_publish.outbound.attempt import Attempt
from penstock_publish.outbound.courier import Parcel
from penstock_publish.outbound.reading import Gathered

__all__ = ["EmailCourier"]


class EmailCourier:
    """Implements `outbound.courier.Courier`."""

    def __init__(self, settings: EmailSettings) -> None:
        self._settings = settings
        self._sender = Sender(settings)

    def recipients(self, standing: Email) -> tuple[str, ...]:
        """Its addresses, which the settings may have ruled out since it was made."""
        for address in standing.to:
            if not may_go_to(address, self._settings.recipient_domains):
                detail = f"{address} is not in publish.email.recipient_domains any more"
                raise PenstockError("bad_request", detail)
        return standing.to

    def wait_s(self, standing: Email, now_ms: int) -> float:
        """Mails stay few."""
        return wait_s(standing.sent_at_ms, now_ms, mails_per_hour_max=self._settings.mails_per_hour_max)

    def pack(self, standing: Email, gathered: Gathered, now_ms: int) -> Parcel:
        """A mail; its id is the Message-ID."""
        mail = compose(standing, gathered, now_ms=now_ms, settings=self._settings)
        message = message_id(standing.id, gathered.cursor, self._settings.from_address or "")
        return Parcel(message, mail, gathered.events)

    async def send(self, standing: Email, message: str, body: bytes, to: tuple[str, ...]) -> Attempt:
        """Hand it to the server once."""
        attempt = await self._sender.send(body, to)
        EMAILS.labels(attempt.outcome.value).inc()
        return attempt

    def named(self, recipients: tuple[str, ...]) -> str:
        """All of them: who has a mail does not get it again."""
        return ",".join(recipients)

    def sent_values(self, now_ms: int) -> Mapping[str, str | int]:
        """From then on the next mail waits."""
        return {"sent_at_ms": now_ms}

    async def close(self) -> None:
        """Take no more mails; what is under way may still arrive."""
        self._sender.close()
