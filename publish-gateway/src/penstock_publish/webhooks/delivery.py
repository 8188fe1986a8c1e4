"""One webhook at work: read the topic on from its cursor, send, move the cursor; what fails is kept beside it."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial

from penstock.errors import PenstockError
from penstock.http.access import Principal
from penstock.ports.clock import Clock
from penstock.ports.log import Log
from penstock_publish.gateway_database import GatewayDatabase
from penstock_publish.metrics import WEBHOOK_EVENTS, WEBHOOK_REQUESTS
from penstock_publish.topics.framing import Form, envelopes
from penstock_publish.topics.history import parse_after
from penstock_publish.topics.request import TopicRequest
from penstock_publish.topics.session import Slow
from penstock_publish.topics.subscribe import Subscriber
from penstock_publish.webhooks import rows
from penstock_publish.webhooks.model import Failed, Webhook
from penstock_publish.webhooks.outcome import Outcome, Verdict, pause_s
from penstock_publish.webhooks.sender import Sender
from penstock_publish.webhooks.settings import WebhookSettings
from penstock_publish.webhooks.signing import body_of, message_id

__all__ = ["Batch", "Deliveries", "Granted", "principal_of"]

#: The scopes that a client has now; None: there is no such client any more.
Granted = Callable[[str], Awaitable[frozenset[str] | None]]
_PAUSING = frozenset({"unknown_topic", "insufficient_scope", "bad_filter", "bad_cursor"})


@dataclass(frozen=True, slots=True)
class Batch:
    """Envelopes to be sent, perhaps none, and the cursor after them."""

    envelopes: list[bytes]
    cursor: str
    gap: dict[str, object] | None


class Deliveries:
    """What all webhooks of a process are delivered with. `holder`: this process."""

    def __init__(
        self,
        log: Log,
        subscriber: Subscriber,
        database: GatewayDatabase,
        sender: Sender,
        *,
        holder: str,
        granted: Granted | None,
        clock: Clock,
        chance: random.Random,
        settings: WebhookSettings,
    ) -> None:
        self._log = log
        self._subscriber = subscriber
        self._database = database
        self._sender = sender
        self._holder = holder
        self._granted = granted
        self._clock = clock
        self._chance = chance
        self._settings = settings

    async def run(self, webhook: Webhook) -> None:
        """Deliver until it is paused, gone or somebody else's. What cannot be read now is tried again later."""
        tick, failures, at, kept_s = 0, 0, webhook.cursor, self._clock.monotonic_s()
        while True:
            try:
                batch = await self._read(webhook, at)
                due = self._clock.monotonic_s() - kept_s >= self._settings.idle_s
                if not batch.envelopes and batch.gap is None and not (due and batch.cursor != webhook.cursor):
                    at = batch.cursor  # nothing matched: kept now and then, not with every event of others
                    tick = await self._log.wait((webhook.topic,), tick, self._settings.idle_s)
                    continue
                moved = await self._deliver(webhook, batch)
                failures, at, kept_s = 0, batch.cursor, self._clock.monotonic_s()
            except PenstockError as error:
                if error.code in _PAUSING:
                    await self._pause(webhook, f"{error.code}: {error.detail}")
                    return
                failures += 1  # the log or the database, for now
                await self._clock.sleep(pause_s(failures, None, settings=self._settings, chance=self._chance))
                continue
            if moved is None:
                return
            webhook = moved

    async def redeliver(self, webhook: Webhook) -> tuple[int, int]:
        """Send what failed once more, oldest first, until one fails again or enough were sent; delivered and left."""
        reading = partial(rows.failed_of, webhook_id=webhook.id, limit=self._settings.failed_max)
        failed = await self._database.run("reading failed requests", reading)
        for done, one in enumerate(failed):
            if done == self._settings.redeliver_max:
                return done, len(failed) - done
            verdict = await self._sender.send(webhook.url, webhook.secret, one.id, one.body.encode())
            WEBHOOK_REQUESTS.labels(verdict.outcome.value).inc()
            if verdict.outcome is not Outcome.DELIVERED:
                return done, len(failed) - done
            await self._database.run("forgetting a failed request", partial(rows.drop_failed, failed_id=one.id))
        return len(failed), 0

    async def _read(self, webhook: Webhook, at: str) -> Batch:
        """What comes after the cursor `at`, up to the limits; PenstockError if the owner may not read it any more."""
        spec = (await self._log.catalog()).streams.get(webhook.topic)
        if spec is None or not spec.publish:
            raise PenstockError("unknown_topic", f"there is no topic '{webhook.topic}' any more")
        principal = principal_of(webhook)
        if self._granted is not None:
            has = await self._granted(webhook.client_id) or frozenset()
            principal = replace(principal, scopes=principal.scopes & has)
        if not principal.allows(spec.read_scope):
            raise PenstockError("insufficient_scope", f"{webhook.client_id} may not read {spec.name} any more")
        after = parse_after(spec, at)
        wanted = TopicRequest(after, webhook.filter, Form.ENVELOPE, Slow.GAP, self._settings.batch_events_max, 0.0)
        found = await self._subscriber.look_up(spec, wanted, principal)
        batch = Batch([], found.start.resume, found.start.notice)
        size_bytes = 0
        async for piece in found.history.pieces(found.start):
            lines = envelopes(spec.name, piece.rows, piece.cursors, form=Form.ENVELOPE)
            if piece.notice is not None:
                if batch.envelopes:
                    break  # a gap goes before the events that follow it
                batch = replace(batch, gap=piece.notice)
            for line, cursor in zip(lines, piece.cursors, strict=True):
                size_bytes += len(line)
                full = len(batch.envelopes) >= wanted.limit or size_bytes > self._settings.batch_bytes_max
                if batch.envelopes and full:
                    return batch
                batch.envelopes.append(line)
                batch = replace(batch, cursor=cursor.decode())
            batch = replace(batch, cursor=piece.resume)
        return batch

    async def _deliver(self, webhook: Webhook, batch: Batch) -> Webhook | None:
        """The webhook after the batch; None if nothing more is to be sent by us."""
        failed = None
        if batch.envelopes or batch.gap is not None:
            message = message_id(webhook.id, batch.cursor)
            now_ms = self._clock.now_ms()
            body = body_of(webhook.topic, batch.envelopes, gap=batch.gap, now_ms=now_ms)
            verdict = await self._sent(webhook, message, body)
            if verdict.outcome is Outcome.GONE:
                await self._pause(webhook, verdict.detail)
                return None
            if verdict.outcome is Outcome.DELIVERED:
                WEBHOOK_EVENTS.inc(len(batch.envelopes))
            else:
                at_ms, events = self._clock.now_ms(), len(batch.envelopes)
                failed = Failed(message, webhook.id, body.decode(), events, verdict.detail, at_ms)
        moving = partial(
            rows.advance,
            webhook_id=webhook.id,
            holder=self._holder,
            before=webhook.cursor,
            cursor=batch.cursor,
            failed=failed,
        )
        if not await self._database.run("moving a webhook on", moving):
            return None
        if failed is not None and await self._is_full(webhook):
            limit = self._settings.failed_max
            await self._pause(webhook, f"{limit} requests have failed (failed_max): deliver them again")
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

    async def _is_full(self, webhook: Webhook) -> bool:
        counted = partial(rows.failed_count, webhook_id=webhook.id)
        return await self._database.run("counting failed requests", counted) >= self._settings.failed_max

    async def _pause(self, webhook: Webhook, reason: str) -> None:
        await self._database.run("pausing a webhook", partial(rows.pause, webhook_id=webhook.id, reason=reason))


def principal_of(webhook: Webhook) -> Principal:
    """Its owner as a reader, with what the token had that made it."""
    scopes = frozenset(webhook.scope.split())
    return Principal(webhook.subject, webhook.client_id, scopes, float("inf"), f"webhook:{webhook.id}")
