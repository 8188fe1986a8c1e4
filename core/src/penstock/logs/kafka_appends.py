"""What ingest appends: calls that come together share one transaction; each batch learns its own offsets."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from penstock.errors import Fenced, LogUnavailable, Outrun, PenstockError
from penstock.logs.admissible import check_source, raised
from penstock.logs.kafka_client import Cluster
from penstock.logs.kafka_ids import KafkaIds
from penstock.logs.kafka_inlet_positions import InletPositions
from penstock.logs.kafka_names import Names
from penstock.logs.kafka_producer import Portion, TransactionalWriter
from penstock.logs.kafka_reader import RangeReader
from penstock.logs.kafka_records import Headers, Outgoing, records_of
from penstock.logs.kafka_rejected import rejected_records
from penstock.logs.kafka_streams import KafkaStreams
from penstock.logs.metrics import APPENDED_BYTES, APPENDED_EVENTS, COMMIT_SECONDS, GROUP_REQUESTS
from penstock.logs.settings import LogSettings
from penstock.model.batch import NewBatch, RejectedEvent
from penstock.model.position import Position
from penstock.ports.clock import Clock
from penstock.ports.log import Consumed

__all__ = ["Appends", "Marks", "check_sizes"]

_LABEL = "kafka"
_FENCED = "another ingest gateway appends to this log now; send again"
_IDS_CONFIG = {"cleanup.policy": "delete", "message.timestamp.type": "LogAppendTime"}

StreamPartition = tuple[str, int]


class Marks:
    """Per partition that this process writes: its watermark, and where its events end as far as is known."""

    def __init__(self, streams: KafkaStreams) -> None:
        self._streams = streams
        self._known: dict[StreamPartition, tuple[int, int | None, int]] = {}  # (epoch, watermark, next)

    def forget(self) -> None:
        """Somebody else may have written: ask again."""
        self._known.clear()

    async def learn(self, batches: Sequence[NewBatch]) -> None:
        """Ask for what is not known yet of the partitions of these batches."""
        state = self._streams.catalog.state
        for batch in batches:
            key, epoch = (batch.stream, batch.partition), state.epochs[batch.stream]
            if self._known.get(key, (None,))[0] != epoch:
                head = await self._streams.head(state.stream(batch.stream), batch.partition)
                self._known[key] = (epoch, head.watermark_ms, head.next)

    def after(self, batch: NewBatch) -> tuple[int, int | None]:
        """Epoch and watermark of the partition once this batch is written."""
        epoch, watermark_ms, _ = self._known[batch.stream, batch.partition]
        return epoch, raised(watermark_ms, batch.watermark_ms)

    def wrote(self, batch: NewBatch, offsets: Sequence[int]) -> Position:
        """The batch is committed at these offsets (of its one watermark record if it has no event)."""
        key = (batch.stream, batch.partition)
        epoch, watermark_ms, end = self._known[key]
        if batch.count:
            end = max(end, offsets[-1] + 1)
        self._known[key] = (epoch, raised(watermark_ms, batch.watermark_ms), end)
        adjoining = not batch.count or offsets[-1] - offsets[0] + 1 == batch.count
        after = offsets[-1] + 1 if batch.count else end
        return Position(epoch, batch.partition, after, () if adjoining else tuple(offsets))


@dataclass(slots=True)
class _Request:
    """One call of `append`, its records and its answer."""

    batches: Sequence[NewBatch]
    rejected: Sequence[Outgoing]
    size_bytes: int
    answer: asyncio.Future[list[Position]]
    known: Mapping[str, int]
    consumed: Sequence[Consumed]
    portions: list[Portion] = field(default_factory=list)
    more: list[Portion] = field(default_factory=list)


class Appends:
    """The one transactional writer of ingest and the calls that wait for it."""

    def __init__(
        self,
        cluster: Cluster,
        names: Names,
        *,
        streams: KafkaStreams,
        reader: RangeReader,
        ids: KafkaIds,
        clock: Clock,
        settings: LogSettings,
    ) -> None:
        self._cluster, self._names, self._streams = cluster, names, streams
        self._clock, self._settings = clock, settings
        self._writer = TransactionalWriter(cluster, names.ingest)
        self._marks = Marks(streams)
        self._waiting: list[_Request] = []
        self._waiting_bytes = 0
        self._running: asyncio.Task[None] | None = None
        self._id_topics: set[str] = set()
        self._ids = ids
        self._floors: dict[str, int] = {}  # where each stream's ids ended when the writer's name was taken last
        self._inlets = InletPositions(cluster, names, streams=streams, reader=reader)
        self.is_fenced = False  # another gateway has the name, or it was let go: only `take_over` takes it

    @property
    def inlet_positions(self) -> Mapping[StreamPartition, int]:
        """How far inlets are taken, as this process has read and written it."""
        return self._inlets.positions

    @property
    def is_admitter(self) -> bool:
        """See `Inlet.is_admitter`."""
        return self._writer.is_open and not self.is_fenced

    async def take_over(self) -> None:
        """See `Inlet.take_over`."""
        await self.cease()
        await self._open()
        self.is_fenced = False

    async def cease(self) -> None:
        """See `Inlet.cease`."""
        self.is_fenced = True
        while self._running is not None and not self._running.done():
            await asyncio.wait([self._running])
        await self._writer.close()

    async def trim(self) -> None:
        """Delete positions that newer ones have replaced."""
        if self.is_admitter:
            await self._inlets.trim()

    async def ids_after(self, stream: str, mark: int | None) -> tuple[list[tuple[int, bytes]], int]:
        """See `Log.ids_after`: once this process is the only writer, it knows what it writes."""
        floor = self._floors.get(stream)
        if mark is not None and floor is not None and mark >= floor and self.is_admitter:
            return [], mark
        return await self._ids.after(stream, mark)

    async def append(
        self,
        batches: Sequence[NewBatch],
        rejected: Sequence[RejectedEvent],
        replayed: Sequence[str],
        *,
        known: Mapping[str, int] | None = None,
        consumed: Sequence[Consumed] = (),
    ) -> list[Position]:
        """See `Log.append` and `Inlet.append`."""
        if self.is_fenced:
            raise LogUnavailable(_FENCED)
        for batch in batches:
            check_source(self._streams.catalog.state, batch)
        size_bytes = sum(len(batch.payload) for batch in batches)
        if (
            len(self._waiting) >= self._settings.queue_max_requests
            or self._waiting_bytes + size_bytes > self._settings.queue_max_bytes
        ):
            raise PenstockError("too_many_requests", "more is waiting to be written than may wait", retry_after_s=1.0)
        answer: asyncio.Future[list[Position]] = asyncio.get_running_loop().create_future()
        records = rejected_records(rejected, replayed, self._clock.now_ms())
        self._waiting.append(_Request(batches, records, size_bytes, answer, known or {}, consumed))
        self._waiting_bytes += size_bytes
        if self._running is None or self._running.done():
            self._running = asyncio.get_running_loop().create_task(self._run())
        return await asyncio.shield(answer)

    async def close(self) -> None:
        """Write what waits."""
        while self._running is not None and not self._running.done():
            await asyncio.wait([self._running])
        await self._writer.close()

    async def _run(self) -> None:
        while self._waiting:
            group = self._take()
            try:
                await self._write(group)
            except PenstockError as error:
                if error.code == "fenced":
                    self.is_fenced = True
                    error = LogUnavailable(_FENCED)
                for request in group:
                    if not request.answer.done():
                        request.answer.set_exception(error)
                        request.answer.exception()  # a caller that went away does not read it
            except BaseException:
                for request in group:
                    request.answer.cancel()
                raise

    def _take(self) -> list[_Request]:
        count, size_bytes = 0, 0
        for request in self._waiting[: self._settings.group_max_requests]:
            if count and size_bytes + request.size_bytes > self._settings.group_max_bytes:
                break
            count, size_bytes = count + 1, size_bytes + request.size_bytes
        group, self._waiting = self._waiting[:count], self._waiting[count:]
        self._waiting_bytes -= size_bytes
        return group

    async def _write(self, group: list[_Request]) -> None:
        if self.is_fenced:
            raise LogUnavailable(_FENCED)
        if not self._writer.is_open:
            await self._open()
        group = [request for request in group if await self._knows_enough(request)]
        await self._marks.learn([batch for request in group for batch in request.batches])
        await self._make_id_topics(group)
        now_ms = self._clock.now_ms()
        running: dict[StreamPartition, int | None] = {}
        watermarks: list[list[tuple[int, int | None]]] = []
        for request in group:
            mine = []
            for batch in request.batches:
                epoch, watermark_ms = self._marks.after(batch)
                key = (batch.stream, batch.partition)
                running[key] = raised(running.get(key), watermark_ms)
                mine.append((epoch, running[key]))
            watermarks.append(mine)
        good = await asyncio.to_thread(self._fill, group, watermarks, now_ms)
        good, moved = self._compared(good)
        portions = [portion for request in good for portion in (*request.portions, *request.more)]
        if moved is not None:
            portions.append(self._inlets.portion(moved))
        if portions:
            with COMMIT_SECONDS.labels(_LABEL).time():
                await self._writer.write(portions)
        if moved is not None:
            self._inlets.moved(moved, portions[-1].offsets[-1])
        self._answer(good, portions)

    async def _open(self) -> None:
        """Take the name, and read what another writer may have changed."""
        await self._writer.open()
        self._marks.forget()
        self._floors.clear()
        try:
            await self._inlets.read()
        except BaseException:
            await self._writer.close()
            raise

    async def _knows_enough(self, request: _Request) -> bool:
        """False, and the request is answered, if other writers appended ids after those that it knew."""
        for stream, mark in request.known.items():
            if stream not in self._floors:
                self._floors[stream] = await self._ids.end(stream)
            if mark < self._floors[stream]:
                _refuse(request.answer, Outrun(stream))
                return False
        return True

    def _compared(self, group: list[_Request]) -> tuple[list[_Request], dict[StreamPartition, int] | None]:
        """The requests whose inlet positions are where they expect them, and the positions after them if any move."""
        positions = dict(self._inlets.positions)
        good = []
        for request in group:
            stale = next((c for c in request.consumed if positions.get((c.stream, c.partition)) != c.expected), None)
            if stale is not None:
                at = positions.get((stale.stream, stale.partition))
                place = f"{self._names.inlet(stale.stream)}/{stale.partition}"
                _refuse(request.answer, Fenced(f"{place} was taken up to {at}, not to {stale.expected}"))
                continue
            positions.update({(c.stream, c.partition): c.next for c in request.consumed})
            good.append(request)
        return good, positions if any(request.consumed for request in good) else None

    def _answer(self, good: list[_Request], portions: list[Portion]) -> None:
        for portion in portions:
            self._streams.wrote(portion.part, portion.offsets[-1] + 1)
        for request in good:
            positions = [
                self._marks.wrote(batch, portion.offsets)
                for batch, portion in zip(request.batches, request.portions, strict=True)
            ]
            if not request.answer.done():
                request.answer.set_result(positions)
        GROUP_REQUESTS.labels(_LABEL).observe(len(good))
        APPENDED_EVENTS.labels(_LABEL).inc(sum(batch.count for request in good for batch in request.batches))
        APPENDED_BYTES.labels(_LABEL).inc(sum(request.size_bytes for request in good))

    def _fill(
        self, group: list[_Request], watermarks: list[list[tuple[int, int | None]]], now_ms: int
    ) -> list[_Request]:
        """Make the records of each request; one that cannot be written is answered and left out."""
        good = []
        for request, marks in zip(group, watermarks, strict=True):
            try:
                self._fill_one(request, marks, now_ms)
            except PenstockError as error:
                request.answer.get_loop().call_soon_threadsafe(_refuse, request.answer, error)
            else:
                good.append(request)
        return good

    def _fill_one(self, request: _Request, marks: list[tuple[int, int | None]], now_ms: int) -> None:
        specs = self._streams.catalog.state
        for batch, (epoch, watermark_ms) in zip(request.batches, marks, strict=True):
            spec = specs.stream(batch.stream)
            records = records_of(batch, spec, epoch=epoch, watermark_ms=watermark_ms, now_ms=now_ms)
            check_sizes(records, batch.stream, self._cluster.settings.record_max_bytes)
            request.portions.append(Portion((self._names.stream(batch.stream), batch.partition), records))
            if batch.ids:
                stamp: Headers = [("epoch", b"%d" % epoch), ("at_ms", b"%d" % now_ms)]
                pieces = _pieces(batch.ids, self._cluster.settings.record_max_bytes // 16 * 16)
                hashes = [Outgoing(None, piece, stamp) for piece in pieces]
                request.more.append(Portion((self._names.ids(batch.stream), 0), hashes))
        if request.rejected:
            request.more.append(Portion((self._names.rejected, 0), request.rejected))

    async def _make_id_topics(self, group: list[_Request]) -> None:
        streams = {batch.stream for request in group for batch in request.batches if batch.ids}
        missing = [name for name in map(self._names.ids, streams) if name not in self._id_topics]
        if missing:
            config = _IDS_CONFIG | {"retention.ms": str(round(self._settings.ids_retention_s * 1000))}
            await self._cluster.make_topics({name: (1, config) for name in missing})
            self._id_topics.update(missing)


def check_sizes(records: Sequence[Outgoing], stream: str, limit_bytes: int) -> None:
    """`too_large` if a record is larger than brokers take."""
    largest = max((len(record.value or b"") + len(record.key or b"") for record in records), default=0)
    if largest > limit_bytes:
        raise PenstockError(
            "too_large",
            f"an event of '{stream}' has {largest} bytes, a Kafka record may have {limit_bytes}; "
            "raise log.kafka.record_max_bytes and the brokers' message.max.bytes",
        )


def _refuse(answer: asyncio.Future[list[Position]], error: PenstockError) -> None:
    if not answer.done():
        answer.set_exception(error)
        answer.exception()


def _pieces(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]
