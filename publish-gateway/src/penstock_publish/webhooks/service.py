"""Webhooks of a process: it takes those that nobody has, works at them, and gives them back at the end."""

from __future__ import annotations

import asyncio
import random
import secrets
from functools import partial

import structlog

from penstock.errors import PenstockError
from penstock.ports.clock import Clock
from penstock.ports.log import Log
from penstock.role import Check
from penstock_publish.gateway_database import GatewayDatabase
from penstock_publish.metrics import WEBHOOKS_ACTIVE
from penstock_publish.topics.subscribe import Subscriber
from penstock_publish.webhooks import rows
from penstock_publish.webhooks.delivery import Deliveries, Granted
from penstock_publish.webhooks.model import Failed, Webhook
from penstock_publish.webhooks.rows import FAILED, WEBHOOKS
from penstock_publish.webhooks.sender import Sender
from penstock_publish.webhooks.settings import WebhookSettings

__all__ = ["Webhooks"]

_log = structlog.get_logger(__name__)


class Webhooks:
    """`run` until stop. Replicas that share the database share the webhooks; each is at work in one of them.

    `granted` None: tokens are of issuers that cannot be asked what a client has now.
    """

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
        self._granted = granted
        self._database = database
        self._clock = clock
        self._holder = secrets.token_hex(8)
        self._sender = Sender(clock=clock, settings=settings)
        self._deliveries = Deliveries(
            log,
            subscriber,
            database,
            self._sender,
            holder=self._holder,
            granted=granted,
            clock=clock,
            chance=random.Random(),
            settings=settings,
        )
        self._at_work: dict[str, asyncio.Task[None]] = {}
        self._looking = asyncio.Event()
        self._making = asyncio.Lock()
        self._made = False
        self._trouble: str | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Hold webhooks and work at them until `stop`."""
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                self._looking.clear()
                await self._hold()
                waits = [
                    stopping,
                    asyncio.ensure_future(self._looking.wait()),
                    asyncio.ensure_future(self._clock.sleep(self.settings.lease_s / 3)),
                ]
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                for wait in waits[1:]:
                    wait.cancel()
        finally:
            stopping.cancel()
            await self._release()

    async def add(self, webhook: Webhook) -> None:
        """Keep it and begin; `too_many_requests` where there are too many, `store_unavailable`."""
        await self._ready()
        limits = self.settings
        adding = partial(rows.add, webhook=webhook, per_client_max=limits.per_client_max, total_max=limits.total_max)
        if not await self._database.run("keeping a webhook", adding):
            detail = f"there are {limits.per_client_max} webhooks of this client, or {limits.total_max} in all"
            raise PenstockError("too_many_requests", f"{detail} (webhooks.per_client_max, total_max)")
        self._looking.set()

    async def may_have(self, client_id: str) -> bool:
        """True for clients whose rights can be looked up later, when they are not here."""
        return self._granted is None or await self._granted(client_id) is not None

    async def of_client(self, client_id: str) -> list[Webhook]:
        """All of a client."""
        await self._ready()
        return await self._database.run("reading webhooks", partial(rows.of_client, client_id=client_id))

    async def find(self, webhook_id: str) -> Webhook | None:
        """One, whoever has made it."""
        await self._ready()
        return await self._database.run("reading a webhook", partial(rows.find, webhook_id=webhook_id))

    async def failed_of(self, webhook: Webhook) -> list[Failed]:
        """What failed, oldest first."""
        limit = self.settings.failed_max
        reading = partial(rows.failed_of, webhook_id=webhook.id, limit=limit)
        return await self._database.run("reading failed requests", reading)

    async def remove(self, webhook: Webhook) -> None:
        """Stop it and forget it with what failed."""
        await self._database.run("deleting a webhook", partial(rows.forget, webhook_id=webhook.id))
        task = self._at_work.pop(webhook.id, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def redeliver(self, webhook: Webhook) -> tuple[int, int]:
        """Send what failed again; once nothing is left, a webhook that was paused goes on. Delivered and left."""
        delivered, left = await self._deliveries.redeliver(webhook)
        if not left and webhook.paused is not None:
            await self._database.run("resuming a webhook", partial(rows.pause, webhook_id=webhook.id, reason=None))
            self._looking.set()
        return delivered, left

    def ready(self) -> list[Check]:
        """What keeps webhooks from being delivered."""
        return [] if self._trouble is None else [Check("publish.webhooks", False, self._trouble)]

    async def _hold(self) -> None:
        """Take what is free; begin what is not at work, leave what is no longer ours."""
        now_ms = self._clock.now_ms()
        until_ms = now_ms + round(self.settings.lease_s * 1000)
        try:
            await self._ready()
            claiming = partial(rows.claim, holder=self._holder, now_ms=now_ms, until_ms=until_ms)
            ours = {one.id: one for one in await self._database.run("taking webhooks", claiming)}
        except PenstockError as error:
            if self._trouble is None:
                _log.warning("webhooks_wait", code=error.code, detail=error.detail)
            self._trouble = error.detail
            return
        self._trouble = None
        for webhook_id, task in list(self._at_work.items()):
            if webhook_id not in ours or task.done():
                task.cancel()
                del self._at_work[webhook_id]
        for webhook_id, webhook in ours.items():
            if webhook_id not in self._at_work:
                self._at_work[webhook_id] = asyncio.create_task(self._work(webhook))
        WEBHOOKS_ACTIVE.set(len(self._at_work))

    async def _work(self, webhook: Webhook) -> None:
        try:
            await self._deliveries.run(webhook)
        except Exception:  # outermost loop of a webhook: the others go on, and this one is begun again
            _log.exception("webhook_failed", webhook=webhook.id, topic=webhook.topic)

    async def _release(self) -> None:
        tasks = list(self._at_work.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._at_work.clear()
        await self._sender.close()
        if self._made:
            try:
                await self._database.run("giving webhooks back", partial(rows.release, holder=self._holder))
            except PenstockError as error:
                _log.warning("webhooks_not_released", code=error.code, detail=error.detail)

    async def _ready(self) -> None:
        async with self._making:
            if not self._made:
                await asyncio.to_thread(self._database.create, WEBHOOKS, FAILED)
                self._made = True
