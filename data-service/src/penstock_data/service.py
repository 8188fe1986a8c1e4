"""The role data: follows the log into the store and answers queries."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog
from aiohttp import web

from penstock.role import Check, Ports, Role
from penstock_data.applier import Applier
from penstock_data.http import DataHttp
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
        self._ports = ports
        self.applier = Applier(ports.log, ports.store, clock=ports.clock, settings=settings.applier)
        reader = DataReader(ports.log, ports.store, settings.query)
        self._http = DataHttp(reader, ports.access, Turns(settings.query))

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """`/v1/data` and `/v1/summaries`."""
        return self._http.routes()

    async def run(self, stop: asyncio.Event) -> None:
        """Apply until `stop` is set; the transaction that was begun is finished."""
        _log.info("data starts", **self._ports.store.describe())
        try:
            await self.applier.run(stop)
        finally:
            _log.info("data stops")

    def ready(self) -> Sequence[Check]:
        """Whether the store follows the log."""
        trouble = self.applier.trouble
        return [Check("store", trouble is None, trouble or "follows the log")]
