"""The source streams as the gateway knows them: decoders, dedupe index, heads. Opened on first use, kept current."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence

import structlog

from penstock.errors import PenstockError
from penstock.model.position import Cursor, Position
from penstock.model.stream import Relation, StreamSpec
from penstock.ports.clock import Clock
from penstock.ports.log import Log
from penstock_ingest import metrics
from penstock_ingest.dedupe import DedupeIndex
from penstock_ingest.record import ID_BYTES, Record
from penstock_ingest.settings import DedupeSettings

__all__ = ["OpenStream", "Streams"]

#: The index is filled from the newest ids back: the span read doubles until it holds enough.
_FIRST_SPAN_MS = 60_000

_logger = structlog.get_logger("penstock.ingest")


class OpenStream:
    """One source stream in use."""

    def __init__(self, spec: StreamSpec, record: Record, index: DedupeIndex, clock: Clock) -> None:
        self._clock = clock
        self.starts_at(clock.now_ms())
        self.spec = spec
        self.record = record
        self.index = index
        self.epoch = -1
        self.unsure = False  # an append ended without a known outcome: the log must be asked which ids it holds
        self.mark: int | None = None  # up to which other gateways' ids are known; None: there are no others
        self.learning = asyncio.Lock()
        self.reported_shortened = False
        self._next = [0] * spec.partitions
        self.accepted = metrics.EVENTS.labels(spec.name, "accepted")
        self.duplicate = metrics.EVENTS.labels(spec.name, "duplicate")
        self.rejected = metrics.EVENTS.labels(spec.name, "rejected")
        self.handed_over = metrics.EVENTS.labels(spec.name, "handed_over")
        self.body_bytes = metrics.BODY_BYTES.labels(spec.name)

    def starts_at(self, at_ms: int) -> None:
        """It is this time in the index now."""
        self._index_offset_ms = at_ms - round(self._clock.monotonic_s() * 1000)

    def index_ms(self) -> int:
        """The index's time, which nobody sets: a wall clock that jumps ahead would end the window of every id."""
        return self._index_offset_ms + round(self._clock.monotonic_s() * 1000)

    async def read_heads(self, log: Log) -> None:
        """Learn where the partitions end: a cursor names all of them."""
        for partition in range(self.spec.partitions):
            head = await log.head(self.spec.name, partition)
            self.epoch = head.epoch
            self._next[partition] = max(self._next[partition], head.next)

    def cursors(self, positions: Sequence[Position]) -> list[str]:
        """One cursor per position, in order; the last one names the place after all of them."""
        texts = []
        for position in positions:
            if position.epoch != self.epoch:
                self.epoch = position.epoch
            self._next[position.partition] = max(self._next[position.partition], position.next)
            texts.append(Cursor(self.spec.name, self.epoch, tuple(self._next)).text())
        return texts

    def cursors_within(self, position: Position, count: int) -> list[str]:
        """The cursor after each of the last `count` events before `position`, all of one batch."""
        self.cursors([position])
        cursor = Cursor(self.spec.name, self.epoch, tuple(self._next))
        return [text.decode() for text in cursor.texts(position.partition, position.last(count))]

    def report(self) -> None:
        """Show the dedupe window; say once when `max_ids` begins to shorten it."""
        if not self.record.dedupe:
            return
        metrics.DEDUPE_IDS.labels(self.spec.name).set(len(self.index))
        metrics.DEDUPE_WINDOW_SECONDS.labels(self.spec.name).set(self.index.window_ms(self.index_ms()) / 1000)
        if self.index.shortened and not self.reported_shortened:
            self.reported_shortened = True
            _logger.warning("dedupe window shortened", stream=self.spec.name, ids=len(self.index),
                            remedy="raise dedupe.max_ids")  # fmt: skip


class Streams:
    """Opens streams, and opens them anew when the catalog's entry has changed."""

    def __init__(self, log: Log, clock: Clock, settings: DedupeSettings) -> None:
        self._log = log
        self._clock = clock
        self._settings = settings
        self._open: dict[str, OpenStream] = {}
        self._opening = asyncio.Lock()

    async def get(self, name: str) -> OpenStream:
        """The stream, ready to accept; `unknown_stream` if there is none or an app writes it."""
        streams = (await self._log.catalog()).streams
        if name not in streams:
            self._open.pop(name, None)
        spec = source_of(streams, name)
        stream = self._open.get(name)
        if stream is not None and stream.spec is spec and not stream.unsure:
            return stream
        async with self._opening:
            stream = self._open.get(name)
            if stream is None or stream.spec != spec:
                stream = await self._reopen(spec, stream)
            stream.spec = spec
            if stream.unsure:
                stream.unsure = False
                await self._fill_or_stay_unsure(stream)
        return stream

    async def open_all(self) -> None:
        """Open every source of the catalog, so that the first request need not."""
        for name, spec in (await self._log.catalog()).streams.items():
            if spec.relation is Relation.SOURCE and not spec.topic:
                await self.get(name)

    async def learn(self, stream: OpenStream) -> None:
        """Remember what other gateways have appended since the stream's mark."""
        async with stream.learning:
            if stream.mark is None:
                return
            news, mark = await self._log.ids_after(stream.spec.name, stream.mark)
            _remember(stream.index, news)
            stream.mark = max(mark, stream.mark)

    async def learn_all(self) -> None:
        """`learn` for every open stream; one that is gone or a log that is away is for the next request to meet."""
        for stream in list(self._open.values()):
            with contextlib.suppress(PenstockError):
                await self.learn(stream)

    def report(self) -> None:
        """Refresh the gauges."""
        for stream in self._open.values():
            stream.report()

    async def _reopen(self, spec: StreamSpec, old: OpenStream | None) -> OpenStream:
        """Its ids are kept unless the stream was recreated or is deduplicated by other columns."""
        index = DedupeIndex(window_ms=round(self._settings.window_s * 1000), max_ids=self._settings.max_ids)
        stream = OpenStream(spec, Record(spec), index, self._clock)
        await stream.read_heads(self._log)
        if old is not None and (old.epoch, old.spec.dedupe) == (stream.epoch, spec.dedupe):
            stream.index = old.index
            stream.starts_at(old.index_ms())
            stream.unsure = old.unsure
            stream.mark = old.mark
        else:
            newest_ms = await self._fill(stream)
            if newest_ms is not None:
                stream.starts_at(newest_ms)  # the window counts back from the last event, however long we were away
        self._open[spec.name] = stream
        return stream

    async def _fill_or_stay_unsure(self, stream: OpenStream) -> None:
        try:
            await self._fill(stream)
        except PenstockError:
            stream.unsure = True
            raise

    async def _fill(self, stream: OpenStream) -> int | None:
        """Remember the ids that the log holds, newest first up to the limits; when the newest was appended."""
        if not stream.record.dedupe:
            return None
        mark: int | None = None
        if self._log.capabilities.several_writers:
            _, mark = await self._log.ids_after(stream.spec.name, None)  # first, so that nothing falls in between
        now_ms = self._clock.now_ms()
        window_ms = round(self._settings.window_s * 1000)
        span_ms = min(_FIRST_SPAN_MS, window_ms)
        while True:
            entries = await self._log.ids(stream.spec.name, now_ms - span_ms)
            held = sum(len(ids) for _, ids in entries) // ID_BYTES
            if held >= self._settings.max_ids or span_ms >= (window_ms if held else now_ms):
                break
            span_ms = 2 * span_ms if span_ms >= window_ms else min(2 * span_ms, window_ms)
        _remember(stream.index, entries)
        if mark is not None:
            stream.mark = mark if stream.mark is None else max(mark, stream.mark)
        return max((at_ms for at_ms, _ in entries), default=None)


def _remember(index: DedupeIndex, entries: Sequence[tuple[int, bytes]]) -> None:
    for at_ms, ids in entries:
        index.remember([ids[i : i + ID_BYTES] for i in range(0, len(ids), ID_BYTES)], at_ms)


def source_of(streams: Mapping[str, StreamSpec], name: str) -> StreamSpec:
    """The stream's entry if events may be sent to it; else `unknown_stream` with the reason."""
    spec = streams.get(name)
    if spec is None:
        raise PenstockError("unknown_stream", f"there is no stream '{name[:100]}'; GET /v1/streams lists them")
    if spec.relation is not Relation.SOURCE:
        raise PenstockError(
            "unknown_stream", f"'{name}' is written by app '{spec.app}'; it takes no events from outside"
        )
    if spec.topic:
        raise PenstockError("unknown_stream", f"'{name}' is the Kafka topic '{spec.topic}'; write to it there")
    return spec
