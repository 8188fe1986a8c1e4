"""Records usage now and then, and brings back what replicas recorded together: days outlive the process.

What a crash forgets, and what replicas can deliver beyond a day's quota each, is what comes in one interval.
"""

from __future__ import annotations

import asyncio
from functools import partial

import sqlalchemy as sa
import structlog

from penstock.errors import PenstockError
from penstock.ports.clock import Clock
from penstock_publish.gateway_database import GatewayDatabase
from penstock_publish.metrics import QUOTA_BYTES, QUOTA_MESSAGES, QUOTA_QUERIES
from penstock_publish.plans.meter import DAY_S, Counts, Meter
from penstock_publish.plans.metering import Metering
from penstock_publish.plans.usage import USAGE, add_usage, forget_usage, usage_of_day

__all__ = ["Recorder"]

_log = structlog.get_logger(__name__)


class Recorder:
    """One per process. `trouble`: why usage is not recorded at the moment; it is kept until it can be."""

    def __init__(self, database: GatewayDatabase, metering: Metering, clock: Clock) -> None:
        self._database = database
        self._metering = metering
        self._clock = clock
        self._forgotten_day = -1
        self._one_at_a_time = asyncio.Lock()
        self._loaded = False
        self.trouble: str | None = None

    async def load(self) -> None:
        """Make the table; learn what was used today before this process began. Once; `store_unavailable`."""
        async with self._one_at_a_time:
            if self._loaded:
                return
            await asyncio.to_thread(self._database.create, USAGE)
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
            if not meters:
                return
            counted = [(meter, day, counts) for meter in meters for day, counts in meter.begin_recording().items()]
            day = int(self._metering.now_s() // DAY_S)
            rows = [(meter.client_id, on, counts) for meter, on, counts in counted]
            ids = [meter.client_id for meter in meters]
            try:
                totals = await self._database.run(
                    "recording usage", partial(self._write, rows=rows, day=day, ids=ids)
                )
            except BaseException:
                for meter in meters:
                    meter.not_recorded()
                raise
            for meter in meters:
                meter.recorded(day, totals.get(meter.client_id, Counts()))
            for meter, _, counts in counted:
                _report(meter, counts)

    def _write(
        self, connection: sa.Connection, *, rows: list[tuple[str, int, Counts]], day: int, ids: list[str]
    ) -> dict[str, Counts]:
        add_usage(connection, rows)
        if day != self._forgotten_day:
            forget_usage(connection, before_day=day - self._metering.settings.usage_days + 1)
            self._forgotten_day = day
        return usage_of_day(connection, day, ids)


def _report(meter: Meter, counts: Counts) -> None:
    QUOTA_MESSAGES.labels(meter.plan_name).inc(counts.messages)
    QUOTA_BYTES.labels(meter.plan_name).inc(counts.bytes)
    QUOTA_QUERIES.labels(meter.plan_name).inc(counts.queries)
