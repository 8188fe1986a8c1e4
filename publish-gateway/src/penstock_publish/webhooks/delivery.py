"""One webhook at work: read the topic on from its cursor, send, move the cursor; what fails is kept beside it."""

from __future__ import annotations

import random
from dataclasses import replace

from penstock.errors import PenstockError
from penstock.ports.clock import Clock
from penstock.ports.log import Log
from penstock_publish.metrics import WEBHOOK_EVENTS, WEBHOOK_REQUESTS
from penstock_publish.outbound.backoff import pause_s
from penstock_publish.outbound.reading import PAUSING, Batch, TopicReader
from penstock_publish.outbound.registry import Registry
from penstock_publish.webhooks.model import Failed, Webhook
from penstock_publish.webhooks.outcome import Outcome, Verdict
from penstock_publish.webhooks.sender import Sender
from penstock_publish.webhooks.settings import WebhookSettings
from penstock_publish.webhooks.signing import body_of, message_id

__all__ = ["Deliveries"]


class Deliveries:
    """What all webhooks of a process are delivered with."""

    def __init__(
        self,
        log: Log,
        reader: TopicReader,
        registry: Registry[Webhook, Failed],
        sender: Sender,
        *,
        clock: Clock,
        chance: random.Random,
        settings: WebhookSettings,
    ) -> None:
        self._log = log
        self._reader = reader
        self._registry = registry
        self._sender = sender
        self._clock = clock
        self._chance = chance
        self._settings = settings

    async def run(self, webhook: Webhook) -> None:
        """Deliver until it is paused, gone or somebody else's. What cannot be read now is tried again later."""
        tick, failures, at, kept_s = 0, 0, webhook.cursor, self._clock.monotonic_s()
        while True:
            try:
                batch = await self._reader.read(webhook, at)
                due = self._clock.monotonic_s() - kept_s >= self._settings.idle_s
                if not batch.envelopes and batch.gap is None and not (due and batch.cursor != webhook.cursor):
                    at = batch.cursor  # nothing matched: kept now and then, not with every event of others
                    tick = await self._log.wait((webhook.topic,), tick, self._settings.idle_s)
                    continue
                moved = await self._deliver(webhook, batch)
                failures, at, kept_s = 0, batch.cursor, self._clock.monotonic_s()
            except PenstockError as error:
                if error.code in PAUSING:
                    await self._registry.pause(webhook, f"{error.code}: {error.detail}")
                    return
                failures += 1  # the log or the database, for now
                await self._clock.sleep(pause_s(failures, None, settings=self._settings, chance=self._chance))
                continue
            if moved is None:
                return
            webhook = moved

    async def redeliver(self, webhook: Webhook) -> tuple[int, int]:
        """Send what failed once more, oldest first, until one fails again or enough were sent; delivered and left."""
        failed = await self._registry.failed_of(webhook)
        for done, one in enumerate(failed):
            if done == self._settings.redeliver_max:
                return done, len(failed) - done
            verdict = await self._sender.send(webhook.url, webhook.secret, one.id, one.body.encode())
            WEBHOOK_REQUESTS.labels(verdict.outcome.value).inc()
            if verdict.outcome is not Outcome.DELIVERED:
                return done, len(failed) - done
            await self._registry.drop_failed(one.id)
        return len(failed), 0

    async def _deliver(self, webhook: Webhook, batch: Batch) -> Webhook | None:
        """The webhook after the batch; None if nothing more is to be sent by us."""
        failed = None
        if batch.envelopes or batch.gap is not None:
            message = message_id(webhook.id, batch.cursor)
            now_ms = self._clock.now_ms()
            body = body_of(webhook.topic, batch.envelopes, gap=batch.gap, now_ms=now_ms)
            verdict = await self._sent(webhook, message, body)
            if verdict.outcome is Outcome.GONE:
                await self._registry.pause(webhook, verdict.detail)
                return None
            if verdict.outcome is Outcome.DELIVERED:
                WEBHOOK_EVENTS.inc(len(batch.envelopes))
            else:
                at_ms, events = self._clock.now_ms(), len(batch.envelopes)
                failed = Failed(message, webhook.id, body.decode(), events, verdict.detail, at_ms)
        if not await self._registry.advance(webhook, failed, {"cursor": batch.cursor}):
            return None
        return replace(webhook, cursor=batch.cursor)

    async def _sent(self, webhook: Webhook, message: str, body: bytes) -> Verdict:
        """The last verdict, after as many tries as it takes."""
        failures = 0
        while True:
            verdict = await self._sender.send(webhook.url, webhook.secret, message, body)
            WEBHOOK_REQUESTS.labels(verdict.outcome.value).inc()
            failures += 1
            if verdict.outcome is not Outcome.LATER or failures >= self._settings.attempts_max:
                return verdict
            asked_s = verdict.retry_after_s
            await self._clock.sleep(pause_s(failures, asked_s, settings=self._settings, chance=self._chance))
