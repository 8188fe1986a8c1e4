"""Streams as they are read: where partitions end, what is new in them, what lies between two offsets."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import replace

import structlog

from penstock.errors import LogUnavailable
from penstock.logs.admissible import raised
from penstock.logs.kafka_catalog import ClusterCatalog
from penstock.logs.kafka_client import Cluster, TopicPart
from penstock.logs.kafka_names import Names
from penstock.logs.kafka_reader import RangeReader
from penstock.logs.kafka_records import BatchCutter, Record, newest_mark
from penstock.logs.kafka_tail import Tail
from penstock.logs.metrics import LOST_TO_RETENTION
from penstock.logs.settings import LogSettings
from penstock.logs.tail import TailCache
from penstock.logs.ticks import CATALOG, Ticks
from penstock.model.batch import Batch
from penstock.model.stream import StreamSpec
from penstock.ports.log import Head

__all__ = ["KafkaStreams"]

_FIRST_SPAN = 16  # records read back from the end for the newest mark; grows by this factor
_HELD_SHARE = 4  # of the tail cache's size: how much of a range one partition may hold for its next read
_OWN_WRITE_S = 0.002  # between two looks at whether brokers have finished a commit that they acknowledged

_logger = structlog.get_logger("penstock.log")


class _StreamFold:
    """The end of one followed partition. Its batches go into the cache."""

    def __init__(self, head: Head, cutter: BatchCutter, cache: TailCache, ticks: Ticks, stream: str) -> None:
        self.head = head
        self._cutter, self._cache, self._ticks, self._stream = cutter, cache, ticks, stream

    def digest(self, records: list[Record], *, at_end: bool) -> tuple[list[Batch], int, int | None]:
        batches = self._cutter.feed(records)
        if at_end:
            batches += self._cutter.flush()
        return batches, self._cutter.next, self._cutter.watermark_ms

    def apply(self, digested: tuple[list[Batch], int, int | None]) -> None:
        batches, end, watermark_ms = digested
        for batch in batches:
            self._cache.add(batch)
        before = self.head
        self.head = replace(
            before, next=max(before.next, end), watermark_ms=raised(before.watermark_ms, watermark_ms)
        )
        if self.head != before:
            self._ticks.bump({self._stream})

    def lost(self, first: int) -> None:
        LOST_TO_RETENTION.labels(self._stream).inc(max(0, first - self.head.next))
        _logger.warning("events expired before they were read", stream=self._stream, offset=self.head.next,
                        first=first, remedy="raise the stream's retention")  # fmt: skip
        self._cutter.next = max(self._cutter.next, first)  # the tail waits for us: nobody else uses it now
        self.head = replace(self.head, first=first, next=max(self.head.next, first))
        self._ticks.bump({self._stream})


class KafkaStreams:
    """Reads streams of the catalog in force. `wrote` tells it what this process has written itself."""

    def __init__(
        self, cluster: Cluster, names: Names, *, tail: Tail, reader: RangeReader, ticks: Ticks, settings: LogSettings
    ) -> None:
        self._cluster, self._names, self._tail, self._reader, self._ticks = cluster, names, tail, reader, ticks
        self._settings = settings
        self._cache = TailCache(settings.tail_cache_bytes)
        self._folds: dict[TopicPart, _StreamFold] = {}
        self._held: dict[TopicPart, list[Batch]] = {}  # what the last range gave, for who takes only some of it
        self._following = asyncio.Lock()
        self._written: dict[TopicPart, int] = {}
        self._seen: dict[TopicPart, tuple[int, int, Head]] = {}  # (epoch, end) -> the head that was found there
        self._foreign: set[str] = set()  # topics that others fill
        self.catalog = ClusterCatalog()

    def renew(self, catalog: ClusterCatalog) -> None:
        """The catalog in force has changed: streams that are gone or began a new epoch are not followed any more."""
        before, self.catalog = self.catalog, catalog
        changed = {
            name
            for name, spec in before.state.catalog.streams.items()
            if catalog.state.catalog.streams.get(name) != spec
            or catalog.state.epochs.get(name) != before.state.epochs.get(name)
        }
        for name in changed:
            self._cache.forget(name)
        known = before.state.catalog.streams
        topics = {self._part(known[name], 0)[0] for name in changed}
        self._foreign = {spec.topic for spec in catalog.state.catalog.streams.values() if spec.topic}
        for part in [part for part in self._folds if part[0] in topics]:
            del self._folds[part]
            self._tail.leave(part)
        self._held.clear()
        self._ticks.bump({CATALOG, *changed})

    async def follow_catalog(self) -> None:
        """Know the catalog as of now, whoever changed it."""
        part = (self._names.catalog, 0)
        await self._tail.reach(part, await self.settled_end(part))

    def wrote(self, part: TopicPart, end: int) -> None:
        """This process has committed records below `end`; brokers may still be about to show them."""
        self._written[part] = max(end, self._written.get(part, 0))

    async def settled_end(self, part: TopicPart) -> int:
        """The last stable offset, at or after everything that this process has committed."""
        wanted = self._written.get(part, 0)
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + self._cluster.settings.timeout_s
        while True:
            (end,) = await self._cluster.ends([part])
            if end >= wanted:
                return end
            if loop.time() > deadline_s:
                raise LogUnavailable(f"{part[0]}/{part[1]}: what was committed below {wanted} is not readable yet")
            await asyncio.sleep(_OWN_WRITE_S)

    async def follow(self, streams: Collection[str]) -> None:
        """From now on know every change of these streams at once. Streams that are not there are passed over."""
        known = self.catalog.state.catalog.streams
        specs = [known[name] for name in streams if name in known]
        if all(self._parts(spec) <= self._folds.keys() for spec in specs):
            return
        async with self._following:
            for spec in specs:
                await asyncio.gather(*(self._follow(spec, partition) for partition in range(spec.partitions)))

    async def head(self, spec: StreamSpec, partition: int) -> Head:
        """See `Log.head`."""
        part = self._part(spec, partition)
        fold = self._folds.get(part)
        if fold is None:
            _, head = await self._look(spec, partition)
            return head
        await self._tail.reach(part, self._written.get(part, 0))
        return fold.head

    async def read(
        self, spec: StreamSpec, partition: int, *, offset: int, max_bytes: int, max_batches: int
    ) -> list[Batch]:
        """See `Log.read`."""
        part = self._part(spec, partition)
        head = await self.head(spec, partition)
        if offset > head.next and part in self._folds:  # known elsewhere before it is known here
            await self._tail.reach(part, await self.settled_end(part))
            head = await self.head(spec, partition)
        if offset > head.next:
            raise LogUnavailable(f"offset {offset} of {spec.name}/{partition} lies beyond its end {head.next}")
        if offset == head.next:
            return []
        if part in self._folds:
            limits = {"max_bytes": max_bytes, "max_batches": max_batches}
            recent = self._cache.read(spec.name, partition, offset=offset, **limits)
            if recent is not None:
                self._held.pop(part, None)
                return recent
        return await self._range(spec, partition, offset, head.next, max_bytes=max_bytes, max_batches=max_batches)

    async def _range(
        self, spec: StreamSpec, partition: int, offset: int, end: int, *, max_bytes: int, max_batches: int
    ) -> list[Batch]:
        part, catalog = self._part(spec, partition), self.catalog
        batches = self._held.pop(part, [])
        at = next((i for i, batch in enumerate(batches) if batch.first == offset), None)
        if at is None:
            limits = {"max_bytes": max_bytes, "max_batches": max_batches}
            batches = await self._read_range(spec, partition, offset, end, **limits)
        else:
            batches = batches[at:]
        out: list[Batch] = []
        size_bytes = 0
        for batch in batches:
            size_bytes += len(batch.payload)
            if out and (size_bytes > max_bytes or len(out) >= max_batches):
                break
            out.append(batch)
        held_bytes = sum(len(batch.payload) for batch in batches)
        if catalog is self.catalog and held_bytes <= self._settings.tail_cache_bytes // _HELD_SHARE:
            self._held[part] = batches
        return out

    async def _read_range(
        self, spec: StreamSpec, partition: int, offset: int, end: int, *, max_bytes: int, max_batches: int
    ) -> list[Batch]:
        part = self._part(spec, partition)
        (kept,) = await self._cluster.starts([part])
        epoch_start = self.catalog.start(spec.name, partition)
        first = max(offset, kept, epoch_start)
        if first > max(offset, epoch_start):
            LOST_TO_RETENTION.labels(spec.name).inc(first - offset)
        cutter = self._cutter(spec, partition, first)
        batches: list[Batch] = []
        size_bytes = 0

        def enough(records: list[Record]) -> bool:
            nonlocal size_bytes
            found = cutter.feed(records)
            size_bytes += sum(len(batch.payload) for batch in found)
            batches.extend(found)
            return len(batches) > max_batches or size_bytes > max_bytes

        await self._reader.read(part, first, end, enough)
        return batches + cutter.flush()

    async def _follow(self, spec: StreamSpec, partition: int) -> None:
        part = self._part(spec, partition)
        if part in self._folds:
            return
        end, head = await self._look(spec, partition)
        cutter = self._cutter(spec, partition, head.next)
        fold = _StreamFold(head, cutter, self._cache, self._ticks, spec.name)
        if self.catalog.state.catalog.streams.get(spec.name) is not spec:
            return  # the catalog changed in the meantime; whoever waits comes again
        self._folds[part] = fold
        self._tail.follow(part, end, fold)

    async def _look(self, spec: StreamSpec, partition: int) -> tuple[int, Head]:
        """The last stable offset and the head there, by asking brokers."""
        part = self._part(spec, partition)
        epoch = self.catalog.state.epochs[spec.name]
        end, (kept,) = await asyncio.gather(self.settled_end(part), self._cluster.starts([part]))
        first = max(kept, self.catalog.start(spec.name, partition))
        seen = self._seen.get(part)
        if seen is None or seen[:2] != (epoch, end):
            found = await self._look_back(part, first, end, epoch=epoch)
            after, watermark_ms = found if seen is None or seen[0] != epoch else (
                max(found[0], seen[2].next), raised(found[1], seen[2].watermark_ms)
            )  # fmt: skip
            self._seen[part] = (epoch, end, Head(epoch, first, after, watermark_ms))
        head = self._seen[part][2]
        return end, replace(head, first=first, next=max(first, head.next))

    async def _look_back(self, part: TopicPart, first: int, end: int, *, epoch: int) -> tuple[int, int | None]:
        """The offset after the last event, and the watermark, from as few of the last records as tell it."""
        span, limit = _FIRST_SPAN, self._cluster.settings.scan_max_records
        while True:
            start = max(first, end - span)
            after, watermark_ms, marked = newest_mark(await self._reader.all_of(part, start, end), epoch=epoch)
            if part[0] in self._foreign:
                watermark_ms, marked = None, True  # their headers say nothing to us
            is_told = after is not None and marked
            if is_told or start <= first or span >= limit:
                return (first if after is None else after), watermark_ms
            span = min(span * _FIRST_SPAN, limit)

    def _cutter(self, spec: StreamSpec, partition: int, start: int) -> BatchCutter:
        return BatchCutter(
            spec,
            partition,
            epoch=self.catalog.state.epochs[spec.name],
            start=start,
            rows_max=self._cluster.settings.read_max_records,
        )

    def _part(self, spec: StreamSpec, partition: int) -> TopicPart:
        return spec.topic or self._names.stream(spec.name), partition

    def _parts(self, spec: StreamSpec) -> set[TopicPart]:
        return {self._part(spec, partition) for partition in range(spec.partitions)}
