"""The role data: follows the log into the store and answers queries."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import structlog
from aiohttp import web

from penstock.role import Check, Ports, Role
from penstock_data.applier import Applier
from penstock_data.archive_folder import ArchiveFolder
from penstock_data.archiver import Archiver
from penstock_data.http import DataHttp
from penstock_data.queries.http import QueryHttp
from penstock_data.queries.runner import QueryRunner
from penstock_data.raw_archive import Archive
from penstock_data.reader import DataReader
from penstock_data.rebuild_http import RebuildHttp
from penstock_data.rebuilder import Rebuilder
from penstock_data.settings import DataSettings
from penstock_data.turns import Turns

__all__ = ["DataRole", "build"]

_log = structlog.get_logger(__name__)


def build(settings: DataSettings, ports: Ports, *, archive_folder: Path | None = None) -> Role:
    """The role over opened ports; without a folder it neither archives nor reads an archive."""
    return DataRole(settings, ports, archive_folder=archive_folder)


class DataRole:
    """Implements `penstock.role.Role`."""

    name = "data"

    def __init__(self, settings: DataSettings, ports: Ports, *, archive_folder: Path | None = None) -> None:
        self._ports = ports
        archive = None if archive_folder is None else Archive(ports.store, ArchiveFolder(archive_folder))
        self.archiver: Archiver | None = None
        if archive is not None and settings.archive.enabled:
            self.archiver = Archiver(ports.log, archive, clock=ports.clock, settings=settings.archive)
        self.applier = Applier(
            ports.log, ports.store, clock=ports.clock, settings=settings.applier, traces=ports.traces
        )
        reader = DataReader(ports.log, ports.store, settings.query, clock=ports.clock, archive=archive)
        self._http = DataHttp(reader, ports.access, Turns(settings.query), ports.traces)
        runner = QueryRunner(ports.log, ports.store, settings.sql, clock=ports.clock)
        self._queries = QueryHttp(runner, ports.access, settings.sql, ports.traces)
        rebuilder = Rebuilder(ports.log, ports.store, clock=ports.clock, settings=settings.applier)
        self._rebuilds = RebuildHttp(
            rebuilder, ports.access, on_switched=self.applier.look_again, is_ahead=lambda: self.applier.ahead
        )

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """`/v1/data`, `/v1/summaries`, `/v1/query` and rebuilds."""
        return [*self._http.routes(), *self._queries.routes(), *self._rebuilds.routes()]

    async def run(self, stop: asyncio.Event) -> None:
        """Apply and archive until `stop` is set; the transaction that was begun is finished."""
        _log.info("data starts", **self._ports.store.describe())
        archiving = asyncio.create_task(self._archive(stop))
        applying = asyncio.create_task(self.applier.run(stop))
        try:
            await asyncio.wait({applying, archiving}, return_when=asyncio.FIRST_EXCEPTION)
            for task in (applying, archiving):
                if task.done():
                    task.result()
        finally:
            for task in (applying, archiving):
                task.cancel()
            await asyncio.gather(applying, archiving, self._rebuilds.stop(), return_exceptions=True)
            _log.info("data stops")

    def ready(self) -> Sequence[Check]:
        """Whether the store follows the log. An archive in trouble holds the log, but not those who ask us."""
        trouble = self.applier.trouble
        checks = [Check("store", trouble is None, trouble or "follows the log")]
        if self.archiver is not None:
            checks.append(Check("archive", True, self.archiver.detail))
        return checks

    async def _archive(self, stop: asyncio.Event) -> None:
        """Archive until `stop`; where archiving is off, see to it that the log does not wait for it."""
        if self.archiver is not None:
            await self.archiver.run(stop)
        elif any(place.holds for place in (await self._ports.store.archived()).values()):
            await self._ports.store.release_archive()
