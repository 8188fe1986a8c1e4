"""The ingest role: built from settings and ports, mounted and run by the application."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import structlog
from aiohttp import web

from penstock.model.batch import RejectedEvent
from penstock.role import Check, Ports
from penstock_ingest.feeds import Feeds
from penstock_ingest.gateway import Gateway
from penstock_ingest.http import IngestHttp
from penstock_ingest.in_flight import InFlight
from penstock_ingest.inlet_pump import InletPump
from penstock_ingest.intake import DirectIntake
from penstock_ingest.settings import IngestSettings
from penstock_ingest.sockets.routes import Sockets
from penstock_ingest.sockets.session import Means

__all__ = ["IngestRole", "build"]

_REPORT_S = 5.0
_DRAIN_POLL_S = 0.02

_logger = structlog.get_logger("penstock.ingest")


class IngestRole:
    """Implements `role.Role`."""

    name = "ingest"

    def __init__(self, settings: IngestSettings, ports: Ports, *, feeds_folder: Path | None = None) -> None:
        self._ports = ports
        self._gateway = Gateway(settings, ports)
        in_flight = InFlight(settings.in_flight_max_bytes, retry_after_s=settings.retry_after_s)
        self._http = IngestHttp(self._gateway, in_flight, log=ports.log, access=ports.access, traces=ports.traces)
        self._sockets = Sockets(Means(self._gateway, in_flight, ports.access, ports.clock, settings))
        self._is_open = False
        self._feeds = None if feeds_folder is None else Feeds(self._gateway, ports, folder=feeds_folder)
        inlet = ports.inlet
        self._pump = (
            None if inlet is None
            else InletPump(self._gateway.storing, log=ports.log, inlet=inlet, clock=ports.clock, traces=ports.traces)
        )  # fmt: skip

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """See `IngestHttp.routes` and `Sockets.routes`."""
        return [*self._http.routes(), *self._sockets.routes()]

    async def replay_admission(self, event: RejectedEvent, raw: bytes) -> dict[str, object]:
        """See `Gateway.replay_admission`; for the processor's replay endpoint, wired by the application."""
        return await self._gateway.replay_admission(event, raw)

    async def replay_for(self, event: RejectedEvent, raw: bytes, authorization: str) -> dict[str, object]:
        """`replay_admission` where the caller, whose header this is, was checked in this very process."""
        return await self._gateway.replay_admission(event, raw)

    def intake(self) -> DirectIntake:
        """Where other edges of this process leave events, wired by the application."""
        return DirectIntake(self._gateway, self._http)

    async def run(self, stop: asyncio.Event) -> None:
        """Fill the dedupe indexes, show them, and at the end wait for the requests that have begun."""
        await self._gateway.streams.open_all()
        self._is_open = True
        _logger.info("ingest started")
        stopped = asyncio.ensure_future(stop.wait())
        learning = asyncio.ensure_future(self._gateway.learn_always())
        standing, pump = self._gateway.standing, self._pump
        parts = (self._sockets, self._feeds, pump, standing)
        work = [asyncio.ensure_future(each.run()) for each in parts if each is not None]
        try:
            while not stopped.done():
                self._gateway.streams.report()
                if pump is not None:
                    await pump.measure()
                done, _ = await asyncio.wait({stopped, *work}, timeout=_REPORT_S, return_when=asyncio.FIRST_COMPLETED)
                for ended in done - {stopped}:
                    ended.result()  # raises what ended it
        finally:
            stopped.cancel()
            learning.cancel()
            self._http.draining = True
            await self._sockets.drain()
            while self._http.requests:
                await self._ports.clock.sleep(_DRAIN_POLL_S)
            for each in work:  # what brings events before the standing: who takes over begins where it ended
                each.cancel()
                await asyncio.gather(each, return_exceptions=True)
            self._gateway.close()
        _logger.info("ingest stopped")

    def ready(self) -> Sequence[Check]:
        """Ready once the dedupe indexes are filled."""
        if self._http.draining:
            return [Check("ingest", False, "stopping")]
        standing = self._gateway.standing
        if self._is_open and standing is not None and not standing.is_known:
            return [Check("ingest", False, "looking who else admits events")]
        own = Check("ingest", self._is_open, "accepting" if self._is_open else "filling the dedupe indexes")
        return [own, *(self._feeds.checks() if self._feeds is not None else ())]


def build(settings: IngestSettings, ports: Ports, *, feeds_folder: Path | None = None) -> IngestRole:
    """The role; opens nothing yet. `feeds_folder`: where it is kept how far sources were fetched from others; without
    it none are.
    """
    return IngestRole(settings, ports, feeds_folder=feeds_folder)
