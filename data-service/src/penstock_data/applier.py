"""The table applier: follows the log and keeps the store's relations up to date, from the store's own positions."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Coroutine, Sequence
from typing import Any

import structlog

from penstock.errors import Fenced, PenstockError
from penstock.model.stream import StreamSpec
from penstock.observe.traces import Traces, trace_fields
from penstock.ports.clock import Clock
from penstock.ports.log import Catalog, Head, Log
from penstock.ports.store import Apply, Store
from penstock_data.apply import Place, Reading, change_of, is_stored, keyless_rows, place_after, skipped_events
from penstock_data.metrics import (
    AHEAD,
    APPLIED_ROWS,
    APPLY_SECONDS,
    KEYLESS_ROWS,
    LAG_EVENTS,
    RETRIES,
    SKIPPED_EVENTS,
)
from penstock_data.settings import ApplierSettings
from penstock_data.spans import applying

__all__ = ["Applier"]

#: How long the switch `unsafe_position_before_rows` leaves positions without their rows.
_UNSAFE_HOLD_S = 0.25
_CATALOG = ""  # the catalog's name among the streams to wait for
#: The world may heal by itself: positions are read again and the round is repeated.
_REPEATED = (
    "fenced", "log_unavailable", "not_ready", "store_ahead", "store_unavailable", "unknown_stream", "unknown_relation"
)  # fmt: skip

#: The reason and the way out, for people.
_RESTORED = (
    "the log was restored from an older backup; run `penstock rebuild`, it makes the tables again from the log"
)

StreamPartition = tuple[str, int]
_log = structlog.get_logger(__name__)


class Applier:
    """One per process with the role data. Two of them on one store do no harm: the slower is fenced each time."""

    def __init__(
        self, log: Log, store: Store, *, clock: Clock, settings: ApplierSettings, traces: Traces | None = None
    ) -> None:
        self._log, self._store, self._clock, self._settings = log, store, clock, settings
        self._traces = traces or Traces()
        self._version: int | None = None  # of the catalog that the store was prepared for
        self._specs: list[StreamSpec] = []
        self._places: dict[StreamPartition, Place] = {}
        self._tick = 0  # of the log, taken before the round that follows it
        self._turn = 0  # where the next round starts: no relation starves another
        self._older_since_s: float | None = None  # since when the log has answered with a catalog that is too old
        self.trouble: str | None = None  # why the last round failed: code and detail
        self.ahead = False  # the store is ahead of the log: only a rebuild leads on
        self.caught_up = False

    async def run(self, stop: asyncio.Event) -> None:
        """Apply until `stop`; a failure that may pass is retried, any other is raised."""
        stopped: asyncio.Future[Any] = asyncio.ensure_future(stop.wait())
        try:
            while not stop.is_set():
                moved = await self._attempt(self.round())
                if self.trouble:
                    await self._until(self._clock.sleep(self._settings.retry_s), stopped)
                elif not moved:
                    await self._until(self._attempt(self._news()), stopped)
                elif self.caught_up:
                    await self._until(self._clock.sleep(self._settings.pause_s), stopped)
        finally:
            stopped.cancel()

    def look_again(self) -> None:
        """Read the store's positions before the next round: a table was replaced."""
        self._version = None

    async def round(self) -> bool:
        """Read what is new in every stored relation and apply it in one transaction; False if nothing was."""
        catalog = await self._log.catalog()
        if catalog.version != self._version:
            await self._follow(catalog)
            self._version = catalog.version
        readings = await self._read()
        if not readings:
            self.caught_up = True
            return False
        started_s = self._clock.monotonic_s()
        with applying(self._traces, readings):
            changes = await asyncio.to_thread(lambda: [change_of(reading) for reading in readings])
            if self._settings.unsafe_position_before_rows:
                await self._apply_apart(changes)
            else:
                await self._store.apply(changes)
        APPLY_SECONDS.observe(self._clock.monotonic_s() - started_s)
        for reading, change in zip(readings, changes, strict=True):
            self._places[change.relation, change.partition] = place_after(change, reading.place)
            _report(reading, change)
        self.caught_up = all(c.next >= r.head.next for r, c in zip(readings, changes, strict=True))
        return True

    async def _apply_apart(self, changes: Sequence[Apply]) -> None:
        """Positions and rows in two transactions, as a careless applier would: tests of the tests ask for it."""
        await self._store.apply([dataclasses.replace(change, frame=change.frame.clear()) for change in changes])
        await self._clock.sleep(_UNSAFE_HOLD_S)
        await self._store.apply(
            [dataclasses.replace(change, expected_next=change.next) for change in changes if change.frame.height]
        )

    async def _attempt(self, step: Coroutine[Any, Any, bool]) -> bool:
        """Run a step; a failure that may pass becomes `trouble`."""
        try:
            moved = await step
        except PenstockError as error:
            if error.code not in _REPEATED:
                raise
            RETRIES.labels(error.code).inc()
            ahead = error.code == "store_ahead"
            if self.trouble is None or ahead > self.ahead:
                _log.warning("applying stopped for now", code=error.code, detail=error.detail, **trace_fields(error))
            self.trouble, self.caught_up, self.ahead = str(error), False, ahead
            AHEAD.set(ahead)
            self._version = None  # prepare again and read the positions again
            return False
        if self.trouble is not None:
            _log.info("applying goes on")
            self.trouble, self.ahead = None, False
            AHEAD.set(False)
        return moved

    async def _news(self) -> bool:
        names = {_CATALOG, *(spec.name for spec in self._specs)}
        self._tick = await self._log.wait(names, self._tick, self._settings.wait_s)
        return True

    async def _until(self, step: Coroutine[Any, Any, Any], stopped: asyncio.Future[Any]) -> None:
        """Run the step, or leave it when the role stops."""
        task = asyncio.ensure_future(step)
        await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        else:
            task.cancel()

    async def _follow(self, catalog: Catalog) -> None:
        """Make the store's tables follow the catalog and read its positions."""
        specs = [spec for spec in catalog.streams.values() if is_stored(spec)]
        await self._prepare(specs, catalog.version)
        places: dict[StreamPartition, Place] = {}
        for spec in specs:
            applied = await self._store.applied(spec.name)
            for partition in range(spec.partitions):
                head = await self._log.head(spec.name, partition)
                place = Place(head.epoch, head.first, None, applied=False)
                if applied is not None and applied.epoch >= head.epoch and partition in applied.next:
                    place = Place(applied.epoch, applied.next[partition], applied.watermark_ms, applied=True)
                _check_behind(spec.name, place, head)
                places[spec.name, partition] = place
        self._specs, self._places = specs, places

    async def _prepare(self, specs: Sequence[StreamSpec], version: int) -> None:
        """Fenced while this process may only be behind; `store_ahead` once the log itself stays behind the store."""
        try:
            await self._store.prepare(specs, version)
        except Fenced as fence:
            await self._log.probe()  # else an old catalog is what we remember, and says nothing about the log
            if version == 0:
                raise PenstockError(
                    "not_ready",
                    "the log has no app yet, and the store has tables of one: start the role processor with its apps",
                    retry_after_s=1.0,
                ) from fence
            now_s = self._clock.monotonic_s()
            if self._older_since_s is None:
                self._older_since_s = now_s
            if now_s - self._older_since_s < self._settings.old_catalog_s:
                raise
            raise PenstockError(
                "store_ahead",
                f"the store was made for a newer catalog than the log has (version {version}): {_RESTORED}",
            ) from fence
        self._older_since_s = None

    async def _read(self) -> Sequence[Reading]:
        partitions = [(spec, partition) for spec in self._specs for partition in range(spec.partitions)]
        left_bytes = self._settings.round_max_bytes
        readings: list[Reading] = []
        for i in range(len(partitions)):
            spec, partition = partitions[(self._turn + i) % len(partitions)]
            if left_bytes <= 0:
                self._turn += i
                break
            reading = await self._look(spec, partition, max_bytes=min(left_bytes, self._settings.read_max_bytes))
            if reading is not None:
                readings.append(reading)
                left_bytes -= sum(len(batch.payload) for batch in reading.batches)
        return readings

    async def _look(self, spec: StreamSpec, partition: int, *, max_bytes: int) -> Reading | None:
        head = await self._log.head(spec.name, partition)
        place = self._places[spec.name, partition]
        if head.epoch > place.epoch:
            raise Fenced(f"'{spec.name}' was recreated; its table starts again")
        _check_behind(spec.name, place, head)
        if head.next > place.next:
            found = await self._log.read(
                spec.name, partition, place.next, max_bytes, max_batches=self._settings.read_max_batches
            )
            if any(batch.epoch != place.epoch for batch in found):
                raise Fenced(f"'{spec.name}' was recreated while it was read")
            return Reading(spec, partition, place, head, found)
        known_ms = place.watermark_ms
        news = head.watermark_ms is not None and (known_ms is None or head.watermark_ms > known_ms)
        return Reading(spec, partition, place, head, ()) if news or not place.applied else None


def _check_behind(relation: str, place: Place, head: Head) -> None:
    """Refuse a store that is ahead of its log: the log was restored or cut, and offsets would be given twice."""
    if place.epoch > head.epoch or (place.epoch == head.epoch and place.next > head.next):
        raise PenstockError(
            "store_ahead",
            f"the store holds '{relation}' up to {place.next} of epoch {place.epoch}, its log ends at {head.next} of "
            f"epoch {head.epoch}: {_RESTORED}",
        )


def _report(reading: Reading, change: Apply) -> None:
    relation = change.relation
    APPLIED_ROWS.labels(relation).inc(change.frame.height)
    LAG_EVENTS.labels(relation).set(max(0, reading.head.next - change.next))
    if skipped := skipped_events(reading):
        SKIPPED_EVENTS.labels(relation).inc(skipped)
        _log.warning("events missing in the store", relation=relation, events=skipped)
    if keyless := keyless_rows(reading, change):
        KEYLESS_ROWS.labels(relation).inc(keyless)
        _log.warning("rows without a key left out of the store", relation=relation, rows=keyless)
