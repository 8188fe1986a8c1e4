"""One kind of standing subscriptions in this process: it takes those that nobody has, and works at them."""

from __future__ import annotations

import asyncio
import random
import secrets
from dataclasses import dataclass
from typing import Generic

from prometheus_client import Gauge

from penstock.http.revocation import marked_client
from penstock.ports.clock import Clock
from penstock.ports.log import Log
from penstock_publish.gateway_database import GatewayDatabase
from penstock_publish.outbound.courier import Courier
from penstock_publish.outbound.delivery import Deliveries
from penstock_publish.outbound.reading import Granted, TopicReader
from penstock_publish.outbound.registry import Registry
from penstock_publish.outbound.rows import StandingRows
from penstock_publish.outbound.settings import StandingSettings
from penstock_publish.outbound.standing import AnyStanding
from penstock_publish.plans.metering import Metering
from penstock_publish.topics.subscribe import Subscriber

__all__ = ["Kind", "Standings", "Surroundings"]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all kinds work with. `granted` None: tokens are of issuers that cannot be asked later."""

    log: Log
    subscriber: Subscriber
    database: GatewayDatabase
    granted: Granted | None
    metering: Metering
    clock: Clock


@dataclass(frozen=True, slots=True)
class Kind(Generic[AnyStanding]):
    """What makes a kind: `name`, a plural, is that of its settings; `active` counts those at work here."""

    name: str
    rows: StandingRows[AnyStanding]
    courier: Courier[AnyStanding]
    active: Gauge


class Standings(Generic[AnyStanding]):
    """`run` until stop. `reader` begins new ones, `registry` keeps them."""

    def __init__(self, around: Surroundings, kind: Kind[AnyStanding], settings: StandingSettings) -> None:
        self._courier = kind.courier
        self.registry: Registry[AnyStanding] = Registry(
            around.database, kind.rows, kind=kind.name, active=kind.active, clock=around.clock, settings=settings
        )
        self.reader = TopicReader(
            around.log,
            around.subscriber,
            granted=around.granted,
            batch_events_max=settings.batch_events_max,
            batch_bytes_max=settings.batch_bytes_max,
        )
        self._deliveries = Deliveries(
            around.log,
            self.reader,
            self.registry,
            kind.courier,
            metering=around.metering,
            clock=around.clock,
            chance=random.Random(),
            settings=settings,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Hold subscriptions and work at them until `stop`."""
        try:
            await self.registry.run(stop, self._deliveries.run)
        finally:
            await self._courier.close()

    async def redeliver(self, standing: AnyStanding) -> tuple[int, int]:
        """Send what failed again; once nothing is left, one that was paused goes on. Delivered and left.

        `conflict` while another call does so, here or at another replica: it would send the same once more.
        """
        caller = secrets.token_hex(8)
        await self.registry.take_redelivery(standing, caller)
        try:
            delivered = await self._deliveries.redeliver(standing, caller=caller)
        finally:
            await self.registry.end_redelivery(standing, caller)
        left = await self.registry.failed_count(standing)
        if not left:
            await self.registry.resume(standing)
        return delivered, left

    def heard(self, revoked_id: str) -> None:
        """What was revoked: with a client all that it had ends."""
        client_id = marked_client(revoked_id)
        if client_id is not None:
            self.registry.forget_client(client_id)
