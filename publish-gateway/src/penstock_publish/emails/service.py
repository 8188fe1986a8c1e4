"""E-mail subscriptions of a process."""

from __future__ import annotations

import asyncio

from penstock.errors import PenstockError
from penstock_publish.emails.courier import EmailCourier
from penstock_publish.emails.model import Email
from penstock_publish.emails.rows import email_rows
from penstock_publish.emails.settings import EmailSettings
from penstock_publish.metrics import EMAILS_ACTIVE
from penstock_publish.outbound.service import Kind, Standings, Surroundings

__all__ = ["Emails"]


class Emails(Standings[Email]):
    """See `Standings`; without a mail server nothing is sent."""

    def __init__(self, around: Surroundings, settings: EmailSettings) -> None:
        self.settings = settings
        super().__init__(around, Kind("emails", email_rows(), EmailCourier(settings), EMAILS_ACTIVE), settings)

    async def run(self, stop: asyncio.Event) -> None:
        """Hold subscriptions and serve them until `stop`."""
        if self.settings.host is not None:
            await super().run(stop)

    async def redeliver(self, standing: Email) -> tuple[int, int]:
        """See `Standings`; `not_found` where there is no mail server."""
        self.check_on()
        return await super().redeliver(standing)

    def check_on(self) -> None:
        """`not_found` where there is no mail server."""
        if self.settings.host is None:
            detail = "there are no e-mail alerts here: set publish.email.host, from_address and recipient_domains"
            raise PenstockError("not_found", detail)
