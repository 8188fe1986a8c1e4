"""E-mail alerts of a process: it takes the subscriptions that nobody has, serves them, and gives them back."""

from __future__ import annotations

import asyncio
import random

from penstock.errors import PenstockError
from penstock.ports.clock import Clock
from penstock.ports.log import Log
from penstock_publish.emails.delivery import Deliveries
from penstock_publish.emails.model import Email, FailedMail
from penstock_publish.emails.rows import email_rows
from penstock_publish.emails.sender import Sender
from penstock_publish.emails.settings import EmailSettings
from penstock_publish.gateway_database import GatewayDatabase
from penstock_publish.metrics import EMAILS_ACTIVE
from penstock_publish.outbound.reading import Granted, TopicReader
from penstock_publish.outbound.registry import Registry
from penstock_publish.topics.subscribe import Subscriber

__all__ = ["Emails"]


class Emails:
    """`run` until stop. `reader` begins new ones, `registry` keeps them; without a mail server nothing is sent."""

    def __init__(
        self,
        log: Log,
        subscriber: Subscriber,
        database: GatewayDatabase,
        *,
        granted: Granted | None,
        clock: Clock,
        settings: EmailSettings,
    ) -> None:
        self.settings = settings
        self.registry: Registry[Email, FailedMail] = Registry(
            database, email_rows(), kind="emails", active=EMAILS_ACTIVE, clock=clock, settings=settings
        )
        self.reader = TopicReader(
            log,
            subscriber,
            granted=granted,
            batch_events_max=settings.batch_events_max,
            batch_bytes_max=settings.batch_bytes_max,
        )
        self._sender = Sender(settings)
        self._redelivering: set[str] = set()
        self._deliveries = Deliveries(
            log, self.reader, self.registry, self._sender, clock=clock, chance=random.Random(), settings=settings
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Hold subscriptions and serve them until `stop`."""
        if self.settings.host is None:
            return
        try:
            await self.registry.run(stop, self._deliveries.run)
        finally:
            self._sender.close()

    def check_on(self) -> None:
        """`not_found` where there is no mail server."""
        if self.settings.host is None:
            detail = "there are no e-mail alerts here: set publish.email.host, from_address and recipient_domains"
            raise PenstockError("not_found", detail)

    async def redeliver(self, email: Email) -> tuple[int, int]:
        """Send what failed again; once nothing is left, one that was paused goes on. Delivered and left.

        `conflict` while another call does so: it would send the same once more.
        """
        if email.id in self._redelivering:
            raise PenstockError("conflict", "another call is sending what failed; wait for its reply")
        self._redelivering.add(email.id)
        try:
            delivered, left = await self._deliveries.redeliver(email)
        finally:
            self._redelivering.discard(email.id)
        if not left:
            await self.registry.resume(email)
        return delivered, left
