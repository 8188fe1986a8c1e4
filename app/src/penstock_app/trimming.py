"""Trimming the log: each process that owns a writing role deletes, in its own part, what retention lets go.

What consumers still need is read from the store, never from another process's memory. While the store cannot be
read, nothing is deleted: nothing is deleted on a guess.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import structlog
from aiohttp import web

from penstock.errors import PenstockError
from penstock.logs.metrics import TRIMMED_EVENTS
from penstock.model.stream import Relation, StreamSpec
from penstock.ports.archive import Archived, archive_floors
from penstock.ports.clock import Clock
from penstock.ports.log import Log
from penstock.ports.store import Applied, Store
from penstock.role import Check

__all__ = ["Trimming", "floors_of"]

_log = structlog.get_logger(__name__)

StreamPartition = tuple[str, int]


def floors_of(
    streams: Mapping[str, StreamSpec],
    epochs: Mapping[str, int],
    applied: Mapping[str, Applied],
    archived: Mapping[StreamPartition, Archived],
) -> dict[StreamPartition, int]:
    """The offsets below which neither tables nor archive need anything more, for `Log.trim`.

    0 where a table has applied nothing yet; `epochs` are those of the log, and a position of an older one does not
    count. A partition that no table and no archive follows has no floor.
    """
    floors: dict[StreamPartition, int] = {}
    for name, spec in streams.items():
        if not _is_stored(spec):
            continue
        place = applied.get(name)
        counts = place is not None and place.epoch == epochs[name]
        for partition in range(spec.partitions):
            floors[name, partition] = place.next.get(partition, 0) if place is not None and counts else 0
    for key, floor in archive_floors(streams, archived).items():
        floors[key] = min(floor, floors.get(key, floor))
    return floors


class Trimming:
    """Implements `role.Role` (without routes): trims every `interval_s` until it is stopped."""

    name = "trimming"

    def __init__(self, log: Log, store: Store, *, clock: Clock, interval_s: float) -> None:
        self._port, self._store, self._clock, self._interval_s = log, store, clock, interval_s

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """None."""
        return ()

    def ready(self) -> Sequence[Check]:
        """Nothing waits for it."""
        return ()

    async def run(self, stop: asyncio.Event) -> None:
        """Trim now and then; what may pass is tried again next time."""
        stopped = asyncio.ensure_future(stop.wait())
        try:
            while True:
                resting = asyncio.ensure_future(self._clock.sleep(self._interval_s))
                await asyncio.wait({resting, stopped}, return_when=asyncio.FIRST_COMPLETED)
                resting.cancel()
                if stop.is_set():
                    return
                try:
                    TRIMMED_EVENTS.inc(await self.trim())
                except PenstockError as error:
                    if not error.retryable and error.code != "unknown_stream":  # dropped while it was looked at
                        raise
                    _log.warning("trimming put off", code=error.code, detail=error.detail)
        finally:
            stopped.cancel()

    async def trim(self) -> int:
        """Read the floors and trim once; the number of events deleted. Raises when the store cannot be read."""
        catalog = await self._port.catalog()
        stored = [spec for spec in catalog.streams.values() if _is_stored(spec)]
        epochs = {spec.name: (await self._port.head(spec.name, 0)).epoch for spec in stored}
        applied, archived = await self._store.applied_all(), await self._store.archived()
        return await self._port.trim(floors_of(catalog.streams, epochs, applied, archived))


def _is_stored(spec: StreamSpec) -> bool:
    return spec.store and spec.relation is not Relation.SOURCE
