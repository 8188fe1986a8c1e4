"""The role data: follows the log into the store and answers queries."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog
from aiohttp import web

from penstock.errors import PenstockError
from penstock.role import Check, Ports, Role
from penstock_data.applier import Applier
from penstock_data.http import DataHttp
from penstock_data.metrics import TRIMMED_EVENTS
from penstock_data.reader import DataReader
from penstock_data.settings import DataSettings
from penstock_data.turns import Turns

__all__ = ["DataRole", "build"]

_log = structlog.get_logger(__name__)


def build(settings: DataSettings, ports: Ports) -> Role:
    """The role over opened ports."""
    return DataRole(settings, ports)


class DataRole:
    """Implements `penstock.role.Role`."""

    name = "data"

    def __init__(self, settings: DataSettings, ports: Ports) -> None:
        self._settings, self._ports = settings, ports
        self.applier = Applier(ports.log, ports.store, clock=ports.clock, settings=settings.applier)
        reader = DataReader(ports.log, ports.store, settings.query)
        self._http = DataHttp(reader, ports.access, Turns(settings.query))

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """`/v1/data` and `/v1/summaries`."""
        return self._http.routes()

    async def run(self, stop: asyncio.Event) -> None:
        """Apply and trim until `stop` is set."""
        _log.info("data starts", **self._ports.store.describe())
        applying = asyncio.create_task(self.applier.run(stop))
        trimming = asyncio.create_task(self._trim())
        try:
            done, _ = await asyncio.wait({applying, trimming}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (applying, trimming):
                task.cancel()
            await asyncio.gather(applying, trimming, return_exceptions=True)
            _log.info("data stops")

    def ready(self) -> Sequence[Check]:
        """Whether the store follows the log."""
        trouble = self.applier.trouble
        return [Check("store", trouble is None, trouble or "follows the log")]

    async def _trim(self) -> None:
        """Let the log delete what retention lets go, now and then."""
        while True:
            await self._ports.clock.sleep(self._settings.applier.trim_interval_s)
            try:
                TRIMMED_EVENTS.inc(await self.applier.trim())
            except PenstockError as error:
                if not error.retryable:
                    raise
                _log.warning("trimming put off", code=error.code, detail=error.detail)
