"""Making a stored relation again from the log, beside the one in force, and the switch (Kappa).

Queries are answered from the old table until one transaction puts the new one in its place. A kill leaves the old one
in force; the next rebuild goes on where the killed one was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from penstock.errors import PenstockError
from penstock.model.stream import StreamSpec
from penstock.ports.clock import Clock
from penstock.ports.log import Head, Log
from penstock.ports.store import Apply, Store
from penstock.stores.tables import structure
from penstock_data.apply import Place, Reading, change_of, is_stored, place_after
from penstock_data.settings import ApplierSettings

__all__ = ["Progress", "Rebuilder"]

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a rebuild is, in offsets of the log over all partitions."""

    done: int
    total: int


class Rebuilder:
    """Rebuilds one relation at a time over a log and a store that may be in use."""

    def __init__(self, log: Log, store: Store, *, clock: Clock, settings: ApplierSettings) -> None:
        self._log, self._store, self._clock, self._settings = log, store, clock, settings

    async def adopt(self) -> None:
        """Have the store's relations follow the catalog of the log, also that of a log that was restored.

        `conflict` if the log has no catalog: it would drop everything.
        """
        catalog = await self._log.catalog()
        if catalog.version == 0 and await self._store.relations():
            raise PenstockError(
                "conflict",
                "the log has no app, nothing can be rebuilt from it: start the role processor with its apps",
            )
        specs = [spec for spec in catalog.streams.values() if is_stored(spec)]
        await self._store.prepare(specs, catalog.version, older=True)

    async def missing(self, relation: str) -> str | None:
        """What the log no longer has of the relation, for people; None if it begins at offset 0."""
        spec = await self._spec(relation)
        heads = [await self._log.head(relation, partition) for partition in range(spec.partitions)]
        begins = [f"{partition}:{head.first}" for partition, head in enumerate(heads) if head.first > 0]
        if not begins:
            return None
        return (
            f"the log has '{relation}' from {', '.join(begins)} on only: rows that changed last before that "
            "(retention deleted them, or an earlier deployment wrote them) would be missing in the new table"
        )

    async def rebuild(
        self, relation: str, *, partial: bool = False, on_progress: Callable[[Progress], None] = lambda _: None
    ) -> Progress:
        """Make the relation again and put it in force. Errors: `unknown_relation`; `conflict` if the log no longer
        has all of it (unless `partial`), or if it was deployed anew meanwhile.
        """
        spec = await self._spec(relation)
        if not partial and (missing := await self.missing(relation)) is not None:
            raise PenstockError("conflict", f"{missing}; say --partial if that is what you want")
        beside, places = await self._begin(spec)
        while True:
            heads = [await self._log.head(relation, partition) for partition in range(spec.partitions)]
            moved = await self._round(spec, beside, heads, places)
            progress = Progress(
                sum(places[p].next - min(head.first, places[p].next) for p, head in enumerate(heads)),
                sum(head.next - head.first for head in heads),
            )
            on_progress(progress)
            caught_up = not moved or all(places[p].next >= head.next for p, head in enumerate(heads))
            ends = {partition: (head.epoch, head.next) for partition, head in enumerate(heads)}
            if caught_up and await self._store.finish_rebuild(relation, ends):
                _log.info("relation rebuilt", relation=relation, events=progress.total)
                return progress
            if not moved:  # the applier was faster for once
                await self._clock.sleep(self._settings.pause_s)

    async def _spec(self, relation: str) -> StreamSpec:
        stored = (await self._store.relations()).get(relation)
        declared = (await self._log.catalog()).streams.get(relation)
        if stored is None or declared is None:
            raise PenstockError("unknown_relation", f"'{relation}' is not stored; `penstock rebuild` names no other")
        if structure(stored) != structure(declared):
            raise PenstockError("conflict", f"'{relation}' is being deployed anew; ask again", retry_after_s=1.0)
        return declared

    async def _begin(self, spec: StreamSpec) -> tuple[StreamSpec, dict[int, Place]]:
        """The table beside, and where it stands: empty, or where a killed rebuild has left it."""
        for _ in range(2):
            beside = await self._store.begin_rebuild(spec.name)
            applied = await self._store.applied(beside.name)
            places: dict[int, Place] = {}
            for partition in range(spec.partitions):
                head = await self._log.head(spec.name, partition)
                place = Place(head.epoch, head.first, None, applied=False)
                if applied is not None and partition in applied.next:
                    place = Place(applied.epoch, applied.next[partition], None, applied=True)
                if place.epoch != head.epoch or place.next > head.next:
                    break  # of another deployment, or of a log that has been restored since
                places[partition] = place
            if len(places) == spec.partitions:
                return beside, places
            await self._store.drop_rebuild(spec.name)
        raise PenstockError("conflict", f"'{spec.name}' is being deployed anew; ask again", retry_after_s=1.0)

    async def _round(self, spec: StreamSpec, beside: StreamSpec, heads: list[Head], places: dict[int, Place]) -> bool:
        """Apply what is new in every partition; False if nothing was."""
        readings: list[Reading] = []
        for partition, head in enumerate(heads):
            place = places[partition]
            if head.epoch != place.epoch:
                await self._store.drop_rebuild(spec.name)
                raise PenstockError("conflict", f"'{spec.name}' was deployed anew while it was rebuilt; begin again")
            batches = await self._log.read(
                spec.name,
                partition,
                place.next,
                self._settings.read_max_bytes,
                max_batches=self._settings.read_max_batches,
            ) if head.next > place.next else []  # fmt: skip
            if batches or not place.applied:
                readings.append(Reading(replace(spec, name=beside.name), partition, place, head, batches))
        changes: list[Apply] = await asyncio.to_thread(lambda: [change_of(reading) for reading in readings])
        if changes:
            await self._store.apply_beside(beside, changes)
        for reading, change in zip(readings, changes, strict=True):
            places[reading.partition] = place_after(change, reading.place)
        return any(reading.batches for reading in readings)
