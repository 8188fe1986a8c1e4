"""One e-mail subscription at work: gather events from its cursor on, send a mail, move the cursor."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace

from penstock.errors import PenstockError
from penstock.ports.clock import Clock
from penstock.ports.log import Log
from penstock_publish.emails.addresses import may_go_to
from penstock_publish.emails.mail import Gathered, compose, message_id, wait_s
from penstock_publish.emails.model import Email, FailedMail
from penstock_publish.emails.sender import Sender
from penstock_publish.emails.settings import EmailSettings
from penstock_publish.metrics import EMAILS
from penstock_publish.outbound.backoff import pause_s
from penstock_publish.outbound.reading import PAUSING, TopicReader
from penstock_publish.outbound.registry import Registry

__all__ = ["Deliveries"]


class Deliveries:
    """What all e-mail subscriptions of a process are served with."""

    def __init__(
        self,
        log: Log,
        reader: TopicReader,
        registry: Registry[Email, FailedMail],
        sender: Sender,
        *,
        clock: Clock,
        chance: random.Random,
        settings: EmailSettings,
    ) -> None:
        self._log = log
        self._reader = reader
        self._registry = registry
        self._sender = sender
        self._clock = clock
        self._chance = chance
        self._settings = settings

    async def run(self, email: Email) -> None:
        """Send until it is paused, gone or somebody else's. What cannot be read now is tried again later."""
        tick, failures, at, kept_s = 0, 0, email.cursor, self._clock.monotonic_s()
        while True:
            try:
                if not await self._may_send(email):
                    return
                wait_for_s = self._wait_s(email)
                if wait_for_s > 0:
                    await self._clock.sleep(wait_for_s)  # what comes meanwhile is gathered
                gathered = await self._gather(email, at)
                due = self._clock.monotonic_s() - kept_s >= self._settings.idle_s
                if gathered.empty and not (due and gathered.cursor != email.cursor):
                    at = gathered.cursor  # nothing matched: kept now and then, not with every event of others
                    tick = await self._log.wait((email.topic,), tick, self._settings.idle_s)
                    continue
                moved = await self._deliver(email, gathered)
                failures, at, kept_s = 0, gathered.cursor, self._clock.monotonic_s()
            except PenstockError as error:
                if error.code in PAUSING:
                    await self._registry.pause(email, f"{error.code}: {error.detail}")
                    return
                failures += 1  # the log or the database, for now
                await self._clock.sleep(pause_s(failures, None, settings=self._settings, chance=self._chance))
                continue
            if moved is None:
                return
            email = moved

    async def redeliver(self, email: Email) -> tuple[int, int]:
        """Send what failed once more, oldest first, until one fails again or enough were sent; delivered and left."""
        failed = await self._registry.failed_of(email)
        for done, one in enumerate(failed):
            to = [address for address in one.recipients.split(",") if self._allowed(address)]
            if done == self._settings.redeliver_max or not to:
                return done, len(failed) - done
            sent = await self._sender.send(one.body.encode(), to)
            EMAILS.labels(sent.outcome).inc()
            if sent.later or sent.refused:
                return done, len(failed) - done
            await self._registry.drop_failed(one.id)
        return len(failed), 0

    async def _may_send(self, email: Email) -> bool:
        """False, and paused, if an address is no longer allowed."""
        bad = [address for address in email.to if not self._allowed(address)]
        if bad:
            await self._registry.pause(email, f"{bad[0]} is not in publish.email.recipient_domains any more")
        return not bad

    def _allowed(self, address: str) -> bool:
        return may_go_to(address, self._settings.recipient_domains)

    def _wait_s(self, email: Email) -> float:
        most = self._settings.mails_per_hour_max
        return wait_s(email.sent_at_ms, self._clock.now_ms(), mails_per_hour_max=most)

    async def _gather(self, email: Email, at: str) -> Gathered:
        """What there is after the cursor `at`, up to the limit; only what a mail shows is kept."""
        shown: list[bytes] = []
        events, gap = 0, False
        while True:
            batch = await self._reader.read(email, at)
            at = batch.cursor
            shown += batch.envelopes[: self._settings.events_shown_max - len(shown)]
            events += len(batch.envelopes)
            gap = gap or batch.gap is not None
            nothing = not batch.envelopes and batch.gap is None
            if nothing or events >= self._settings.events_gathered_max:
                return Gathered(shown, events, at, gap)

    async def _deliver(self, email: Email, gathered: Gathered) -> Email | None:
        """The subscription after the mail, if there was one to be sent; None if nothing more is to be sent by us."""
        if gathered.empty:
            moved = await self._registry.advance(email, None, {"cursor": gathered.cursor})
            return replace(email, cursor=gathered.cursor) if moved else None
        mail = compose(email, gathered, now_ms=self._clock.now_ms(), settings=self._settings)
        missing, reason = await self._sent(mail, email.to)
        now_ms = self._clock.now_ms()
        failed = None
        if missing:
            message = message_id(email.id, gathered.cursor, self._settings.from_address or "")
            failed = FailedMail(
                message, email.id, ",".join(missing), mail.decode("ascii"), gathered.events, reason, now_ms
            )
        if not await self._moved(email, failed, {"cursor": gathered.cursor, "sent_at_ms": now_ms}):
            return None
        return replace(email, cursor=gathered.cursor, sent_at_ms=now_ms)

    async def _moved(self, email: Email, failed: FailedMail | None, values: Mapping[str, str | int]) -> bool:
        """As `advance`, however long the database is away: what was sent must not be sent again because of that."""
        failures = 0
        while True:
            try:
                return await self._registry.advance(email, failed, values)
            except PenstockError:
                failures += 1
                await self._clock.sleep(pause_s(failures, None, settings=self._settings, chance=self._chance))

    async def _sent(self, mail: bytes, to: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
        """Who does not have it after as many tries as it takes, and why; who has it is left out of further tries."""
        failures, refused, reason = 0, list[str](), ""
        while True:
            sent = await self._sender.send(mail, to)
            EMAILS.labels(sent.outcome).inc()
            refused += sent.refused
            reason = sent.detail or reason
            failures += 1
            if not sent.later or failures >= self._settings.attempts_max:
                return (*refused, *sent.later), reason
            to = sent.later
            await self._clock.sleep(pause_s(failures, None, settings=self._settings, chance=self._chance))
