"""Records usage now and then, and brings back what replicas recorded together: days outlive the process.

What a crash forgets, and what replicas can deliver beyond a day's quota each, is what comes in one interval. With a
database that is shared it also says in which processes an application is active, and learns it of the others.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import sqlalchemy as sa
import structlog

from penstock.errors import PenstockError
from penstock.ports.clock import Clock
from penstock_publish.gateway_database import GatewayDatabase
from penstock_publish.metrics import QUOTA_BYTES, QUOTA_MESSAGES, QUOTA_QUERIES
from penstock_publish.plans.meter import DAY_S, Counts, Meter
from penstock_publish.plans.metering import Metering
from penstock_publish.plans.presence import TABLES, Presence, forget_silent, leave, others_of, say
from penstock_publish.plans.usage import USAGE, add_usage, forget_usage, usage_between, usage_of_day

__all__ = ["Recorder"]

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Turn:
    """What is written and read at once: `presence` where it changed."""

    now_s: float
    rows: list[tuple[str, int, Counts]]
    ids: list[str]
    presence: dict[str, Presence]

    @property
    def day(self) -> int:
        return int(self.now_s // DAY_S)


class Recorder:
    """One per process. `trouble`: why usage is not recorded at the moment; it is kept until it can be."""

    def __init__(self, database: GatewayDatabase, metering: Metering, clock: Clock) -> None:
        self._database = database
        self._metering = metering
        self._clock = clock
        self._forgotten_day = -1
        self._one_at_a_time = asyncio.Lock()
        self._loaded = False
        self._process = secrets.token_hex(8)
        self._said: dict[str, Presence] = {}
        self.trouble: str | None = None

    async def load(self) -> None:
        """Make the table; learn what was used today before this process began. Once; `store_unavailable`."""
        async with self._one_at_a_time:
            if self._loaded:
                return
            await asyncio.to_thread(self._database.create, USAGE, *(TABLES if self._shared else ()))
            day = int(self._metering.now_s() // DAY_S)
            found = await self._database.run("reading usage", partial(usage_of_day, day=day))
            self._metering.remember(day, found)
            self._loaded = True

    async def run(self) -> None:
        """Record until cancelled."""
        while True:
            await self.tried()
            await self._clock.sleep(self._metering.settings.record_interval_s)

    async def finish(self, running: asyncio.Task[None]) -> None:
        """End `run`, not in the middle of a recording, and record what is left."""
        async with self._one_at_a_time:
            running.cancel()
        await self.tried()
        if self._shared and self.trouble is None:
            with suppress(PenstockError):  # else it is taken for gone in a few seconds
                await self._database.run("leaving", partial(leave, process=self._process))

    async def tried(self) -> None:
        """Record, or say why that is not possible now."""
        try:
            await self.record()
        except PenstockError as error:
            if self.trouble is None:
                _log.warning("usage_not_recorded", code=error.code, detail=error.detail)
            self.trouble = error.detail
        else:
            self.trouble = None

    async def record(self) -> None:
        """Add what was counted since the last time, and read what all replicas have counted of today."""
        await self.load()
        async with self._one_at_a_time:
            meters = self._metering.meters
            if not meters and not self._said:
                return
            now_s = self._metering.now_s()
            counted = [
                (meter, day, counts) for meter in meters for day, counts in meter.begin_recording(now_s).items()
            ]
            rows = [(meter.client_id, on, counts) for meter, on, counts in counted]
            here = self._here(meters, now_s)
            written = _Turn(now_s, rows, [meter.client_id for meter in meters], self._changed(here))
            try:
                totals, others = await self._database.run("recording usage", partial(self._write, turn=written))
            except BaseException:
                for meter in meters:
                    meter.not_recorded()
                raise
            self._said = here
            for meter in meters:
                meter.recorded(written.day, totals.get(meter.client_id, Counts()))
                elsewhere = others.get(meter.client_id, Presence())
                meter.share(others_active=elsewhere.active, connections_elsewhere=elsewhere.connections, now_s=now_s)
            for meter, _, counts in counted:
                _report(meter, counts)

    async def usage(self, client_id: str, days: int) -> Mapping[int, Counts]:
        """What a client used by day (since the epoch), today included, days without use too.

        Of other processes as far as they have recorded it; nothing is recorded for this: anybody may ask often.
        """
        await self.load()
        async with self._one_at_a_time:
            today = int(self._metering.now_s() // DAY_S)
            first = today - days + 1
            read = partial(usage_between, client_id=client_id, first=first, last=today)
            found = {day: Counts() for day in range(first, today + 1)}
            found |= await self._database.run("reading usage", read)
            for day, counts in self._metering.unrecorded_of(client_id).items():
                if day in found:
                    found[day].add(counts)
        return found

    @property
    def _shared(self) -> bool:
        """Whether other processes may be at the same database."""
        return self._database.postgres is not None

    def _here(self, meters: list[Meter], now_s: float) -> dict[str, Presence]:
        if not self._shared:
            return {}
        found = {meter.client_id: Presence(meter.connections, int(meter.is_active(now_s))) for meter in meters}
        return {client_id: own for client_id, own in found.items() if own != Presence()}

    def _changed(self, here: dict[str, Presence]) -> dict[str, Presence]:
        changed = {client_id: own for client_id, own in here.items() if self._said.get(client_id) != own}
        return changed | {client_id: Presence() for client_id in self._said.keys() - here.keys()}

    def _write(self, connection: sa.Connection, *, turn: _Turn) -> tuple[dict[str, Counts], dict[str, Presence]]:
        add_usage(connection, turn.rows)
        others: dict[str, Presence] = {}
        silent_s = turn.now_s - self._metering.settings.presence_s
        if self._shared:
            say(connection, self._process, turn.presence, turn.now_s)
            others = others_of(connection, self._process, turn.ids, silent_s)
        if turn.day != self._forgotten_day:
            forget_usage(connection, before_day=turn.day - self._metering.settings.usage_days + 1)
            if self._shared:
                forget_silent(connection, silent_s - DAY_S)  # long enough to outlast a difference of clocks
            self._forgotten_day = turn.day
        return usage_of_day(connection, turn.day, turn.ids), others


def _report(meter: Meter, counts: Counts) -> None:
    QUOTA_MESSAGES.labels(meter.plan_name).inc(counts.messages)
    QUOTA_BYTES.labels(meter.plan_name).inc(counts.bytes)
    QUOTA_QUERIES.labels(meter.plan_name).inc(counts.queries)
