"""One standing subscription at work: read the topic on from its cursor, send, move the cursor; what fails is kept."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Generic, TypeVar

from penstock.errors import PenstockError
from penstock.ports.clock import Clock
from penstock.ports.log import Log
from penstock_publish.metrics import OUTBOUND_EVENTS, OUTBOUND_RETRYING
from penstock_publish.outbound.attempt import Outcome
from penstock_publish.outbound.backoff import pause_s
from penstock_publish.outbound.courier import Courier, Parcel
from penstock_publish.outbound.reading import PAUSING, TopicReader, principal_of
from penstock_publish.outbound.registry import Registry
from penstock_publish.outbound.settings import StandingSettings
from penstock_publish.outbound.standing import AnyStanding, Failed
from penstock_publish.plans.metering import Metering

__all__ = ["Deliveries"]

_T = TypeVar("_T")


@dataclass(slots=True)
class _Place:
    """How far a subscription has read, which is beyond its cursor where nothing matched."""

    at: str
    kept_s: float
    tick: int = 0


@dataclass(frozen=True, slots=True)
class _Shipped:
    """After all tries: who does not have it, why, and why nothing more is to be sent."""

    missing: tuple[str, ...] = ()
    reason: str = ""
    pause: str | None = None


class Deliveries(Generic[AnyStanding]):
    """What all subscriptions of a kind in a process are delivered with."""

    def __init__(
        self,
        log: Log,
        reader: TopicReader,
        registry: Registry[AnyStanding],
        courier: Courier[AnyStanding],
        *,
        metering: Metering,
        clock: Clock,
        chance: random.Random,
        settings: StandingSettings,
    ) -> None:
        self._log = log
        self._reader = reader
        self._registry = registry
        self._courier = courier
        self._metering = metering
        self._clock = clock
        self._chance = chance
        self._settings = settings
        self._retrying: set[str] = set()

    async def run(self, standing: AnyStanding) -> None:
        """Deliver until it is paused, gone or somebody else's. What cannot be read now is tried again later."""
        place = _Place(standing.cursor, self._clock.monotonic_s())
        moved: AnyStanding | None = standing
        failures = 0
        try:
            while moved is not None:
                standing = moved
                try:
                    moved = await self._turn(standing, place)
                    failures = 0
                except PenstockError as error:
                    if error.code in PAUSING:
                        await self._insist(standing, partial(self._registry.pause, standing, _said(error)))
                        return
                    failures += 1  # the log or the database, for now
                    self._mark(standing, retrying=True)
                    await self._pause(failures)
        finally:
            self._mark(standing, retrying=False)

    async def redeliver(self, standing: AnyStanding, *, caller: str) -> int:
        """Send what failed once more, oldest first, up to a limit; how many were delivered.

        It ends where the other side cannot be reached; what is refused again stays, and does not hold up what came
        after it. Errors: `conflict` if another caller has taken over, those of `TopicReader.check`.
        """
        delivered, after_ms = 0, -1
        for _ in range(self._settings.redeliver_max):
            one = await self._registry.next_failed(standing, after_ms)
            if one is None:
                break
            after_ms = one.failed_at_ms
            everyone = self._courier.recipients(standing)
            missing = tuple(one.recipients.split(",")) if one.recipients else everyone
            await self._reader.check(standing)
            await self._registry.take_redelivery(standing, caller)
            attempt = await self._courier.send(standing, one.id, one.body.encode(), missing)
            left = tuple(address for address in missing if address in (*attempt.later, *attempt.refused))
            if len(left) < len(missing):
                self._take(standing, one.events, len(one.body))
            if not left:
                delivered += 1
                self._count(one.events, Outcome.DELIVERED)
            await self._insist(
                standing, partial(self._registry.keep_failed, one, self._courier.named(left) if left else None)
            )
            if attempt.later or attempt.gone:
                break
        return delivered

    async def _turn(self, standing: AnyStanding, place: _Place) -> AnyStanding | None:
        """Deliver what there is, or wait for it. The subscription after it; None: we send nothing more."""
        settings = self._settings
        self._courier.recipients(standing)
        await self._until_plan_allows(standing)
        wait_for_s = self._courier.wait_s(standing, self._clock.now_ms())
        if wait_for_s > 0:
            await self._clock.sleep(wait_for_s)  # what comes meanwhile is gathered
        gathered = await self._reader.gather(
            standing, place.at, events_max=settings.gather_events_max, kept_max=settings.kept_events_max
        )
        due = self._clock.monotonic_s() - place.kept_s >= settings.idle_s
        if gathered.empty and not (due and gathered.cursor != standing.cursor):
            place.at = gathered.cursor  # nothing matched: kept now and then, not with every event of others
            await self._reader.check(standing)
            self._mark(standing, retrying=False)
            place.tick = await self._log.wait((standing.topic,), place.tick, settings.idle_s)
            return standing
        parcel = None if gathered.empty else self._courier.pack(standing, gathered, self._clock.now_ms())
        cursor = gathered.cursor
        del gathered  # a slow receiver holds the parcel alone in memory
        moved = await self._deliver(standing, parcel, cursor)
        place.at, place.kept_s = cursor, self._clock.monotonic_s()
        return moved

    async def _deliver(self, standing: AnyStanding, parcel: Parcel | None, cursor: str) -> AnyStanding | None:
        """The subscription after this parcel; None if nothing more is to be sent by us."""
        values: dict[str, str | int] = {"cursor": cursor}
        failed, pause = None, None
        if parcel is not None:
            shipped = await self._shipped(standing, parcel)
            if shipped is None:
                return None
            pause = shipped.pause
            nobody_has_it = len(shipped.missing) == len(self._courier.recipients(standing))
            if pause is not None and nobody_has_it:
                await self._insist(standing, partial(self._registry.pause, standing, pause))
                return None
            if not nobody_has_it:
                self._take(standing, parcel.events, len(parcel.body))
            now_ms = self._clock.now_ms()
            values |= self._courier.sent_values(now_ms)
            if shipped.missing:
                named = self._courier.named(shipped.missing)
                text = parcel.body.decode()
                failed = Failed(parcel.id, standing.id, named, text, parcel.events, shipped.reason, now_ms)
            self._count(parcel.events, Outcome.REFUSED if shipped.missing else Outcome.DELIVERED)
        # However long the database is away: what was sent must not be sent again because of that.
        if not await self._insist(standing, partial(self._registry.advance, standing, failed, values)):
            return None
        if pause is not None:
            await self._insist(standing, partial(self._registry.pause, standing, pause))
            return None
        return replace(standing, **values)

    async def _shipped(self, standing: AnyStanding, parcel: Parcel) -> _Shipped | None:
        """After as many tries as it takes; who has it is left out of further tries. None: it is not ours any more."""
        to = self._courier.recipients(standing)
        refused, reason, failures = list[str](), "", 0
        try:
            while True:
                try:
                    current = await self._insist(standing, partial(self._may_send, standing))
                except PenstockError as error:
                    return _Shipped((*refused, *to), reason or _said(error), _said(error))
                if current is None:
                    return None
                attempt = await self._courier.send(current, parcel.id, parcel.body, to)
                refused += attempt.refused
                reason = attempt.detail or reason
                failures += 1
                if attempt.gone:
                    return _Shipped((*refused, *attempt.later), reason, reason)
                if not attempt.later or failures >= self._settings.attempts_max:
                    return _Shipped((*refused, *attempt.later), reason)
                to = attempt.later
                self._mark(standing, retrying=True)
                await self._pause(failures, attempt.retry_after_s)
        finally:
            self._mark(standing, retrying=False)

    async def _may_send(self, standing: AnyStanding) -> AnyStanding | None:
        """Right before each try: it as it is now; None: paused, gone or somebody else's. `PAUSING`: no right to."""
        current = await self._registry.confirm(standing)
        if current is not None:
            await self._reader.check(current)
        return current

    async def _until_plan_allows(self, standing: AnyStanding) -> None:
        """Wait while its application has taken what its plan allows; a plan may change meanwhile."""
        while True:
            meter = self._metering.of(principal_of(standing))
            hold = None if meter is None else meter.hold(self._metering.now_s())
            if hold is None:
                return
            await self._clock.sleep(min(hold.wait_s, self._settings.idle_s))

    def _take(self, standing: AnyStanding, events: int, size_bytes: int) -> None:
        """Count what was delivered in the plan; of events that are only counted in a mail none."""
        meter = self._metering.of(principal_of(standing))
        if meter is not None:
            shown = min(events, self._settings.kept_events_max)
            meter.count_delivery(shown, size_bytes, self._metering.now_s())

    async def _insist(self, standing: AnyStanding, asking: Callable[[], Awaitable[_T]]) -> _T:
        """Its answer, however long the log or the database is away; `PAUSING` errors are answers, too."""
        failures = 0
        while True:
            try:
                return await asking()
            except PenstockError as error:
                if error.code in PAUSING:
                    raise
                failures += 1
                self._mark(standing, retrying=True)
                await self._pause(failures)

    async def _pause(self, failures: int, asked_s: float | None = None) -> None:
        await self._clock.sleep(pause_s(failures, asked_s, settings=self._settings, chance=self._chance))

    def _count(self, events: int, outcome: Outcome) -> None:
        OUTBOUND_EVENTS.labels(self._registry.kind, outcome).inc(events)

    def _mark(self, standing: AnyStanding, *, retrying: bool) -> None:
        (self._retrying.add if retrying else self._retrying.discard)(standing.id)
        OUTBOUND_RETRYING.labels(self._registry.kind).set(len(self._retrying))


def _said(error: PenstockError) -> str:
    return f"{error.code}: {error.detail}"
