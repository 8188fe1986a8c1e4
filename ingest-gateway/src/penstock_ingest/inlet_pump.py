"""The admitter's work: records of the inlet are read, claimed, admitted and appended as those of requests are."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from penstock.errors import PenstockError
from penstock.model.batch import Encoding, NewBatch
from penstock.observe.traces import Traces, trace_of, within
from penstock.ports.clock import Clock
from penstock.ports.inlet import Inlet, Taken
from penstock.ports.log import Consumed, Log, RejectedFilter
from penstock_ingest import metrics
from penstock_ingest.inlet_notes import Note
from penstock_ingest.inlet_reading import Piece, pieces_of, read_pieces, refuse_all, traces_of
from penstock_ingest.reading import Reading
from penstock_ingest.spans import begin_intake, describe
from penstock_ingest.storing import Storing, count
from penstock_ingest.streams import OpenStream

__all__ = ["InletPump"]

_NOT_THE_RECORDS_FAULT = frozenset({"fenced", "unknown_stream", "log_full", "internal"})
_logger = structlog.get_logger("penstock.ingest")


class _NotYet(Exception):
    """An order whose time has not come: other partitions have to be taken first."""


class InletPump:
    """Takes from the inlet while this gateway is the admitter. `run` once."""

    def __init__(
        self, storing: Storing, *, log: Log, inlet: Inlet, clock: Clock, traces: Traces | None = None
    ) -> None:
        self._storing, self._streams = storing, storing.streams
        self._settings = storing.settings.inlet
        self._log, self._inlet, self._clock = log, inlet, clock
        self._traces = traces or Traces()
        self._newest_ms: dict[str, int] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            if not self._inlet.is_admitter:
                await self._clock.sleep(self._settings.poll_s)
                continue
            try:
                taken = await self._inlet.take(
                    records_max=self._settings.records_max, timeout_s=self._settings.poll_s
                )
                again = await self._admit_all(taken)
                if again:
                    await self._inlet.rewind()
                    await self._clock.sleep(self._settings.poll_s / 10)
            except PenstockError as error:
                _logger.warning("what was left in the inlet was not admitted; trying again", detail=error.detail)
                await self._clock.sleep(self._settings.retry_s)
                await self._inlet.rewind()

    async def measure(self) -> None:
        """Refresh the gauges of what waits."""
        if not self._inlet.is_admitter:
            return
        for stream, newest_ms in list(self._newest_ms.items()):
            try:
                ends = await self._inlet.ends(stream)
                reached = self._inlet.reached(stream)
            except PenstockError:
                continue  # the stream is gone, or the log away: the next measure tells
            waiting = sum(max(0, end - at) for end, at in zip(ends, reached, strict=False))
            age_s = max(0, self._clock.now_ms() - newest_ms) / 1000
            metrics.INLET_LAG_EVENTS.labels(stream).set(waiting)
            metrics.INLET_LAG_SECONDS.labels(stream).set(age_s if waiting else 0)

    async def _admit_all(self, taken: Sequence[Taken]) -> bool:
        """Streams at the same time; True if some of it has to be taken again. An error once all have ended."""
        by_stream: dict[str, list[Taken]] = {}
        for one in taken:
            by_stream.setdefault(one.stream, []).append(one)
        outcomes = await asyncio.gather(
            *(self._admit(stream, parts) for stream, parts in by_stream.items()), return_exceptions=True
        )
        errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        for error in errors:
            if not isinstance(error, _NotYet):
                raise error
        return bool(errors)

    async def _admit(self, name: str, taken: Sequence[Taken]) -> None:
        stream = await self._streams.get(name)
        queues = [pieces_of(one) for one in taken]
        while any(queues):
            plain = [queue.pop(0) for queue in queues if queue and queue[0].order is None]
            if plain:
                await self._admit_events(stream, plain)
                continue
            for queue in queues:
                if queue:
                    await self._obey(stream, queue.pop(0))
        self._newest_ms[name] = max(one.records[-1].at_ms for one in taken)

    async def _admit_events(self, stream: OpenStream, pieces: Sequence[Piece]) -> None:
        """All together; each for itself, where one of them is what the log does not take."""
        now_ms = self._clock.now_ms()
        limit = self._storing.settings.event_max_bytes
        reading = read_pieces(pieces, stream.record, now_ms=now_ms, event_max_bytes=limit)
        try:
            await self._store(stream, reading, pieces, now_ms=now_ms)
        except PenstockError as error:
            if error.retryable or error.code in _NOT_THE_RECORDS_FAULT:
                raise
            single = [_single(piece, number) for piece in pieces for number in range(len(piece.taken.records))]
            if len(single) == 1:
                refused = refuse_all(pieces, stream.record, error)
                await self._store(stream, refused, pieces, now_ms=now_ms)
                return
            for piece in single:
                await self._admit_events(stream, [piece])

    async def _store(self, stream: OpenStream, reading: Reading, pieces: Sequence[Piece], *, now_ms: int) -> None:
        span = begin_intake(self._traces, stream.spec.name, traces_of(pieces))
        with within(span):
            admission, _, _ = await self._storing.store(
                stream, reading, now_ms=now_ms, trace=trace_of(span), consumed=_consumed(pieces)
            )
            if span is not None:
                describe(span, admission, stream=stream.spec.name, rejected=len(reading.refusals))
        body_bytes = sum(len(one.value or b"") for piece in pieces for one in piece.taken.records)
        count(stream, reading, admission, body_bytes=body_bytes)
        outcomes = {
            "accepted": admission.accepted,
            "duplicate": admission.duplicate,
            "rejected": len(reading.refusals),
        }
        for outcome, number in outcomes.items():
            if number:
                metrics.INLET_RECORDS.labels(stream.spec.name, outcome).inc(number)

    async def _obey(self, stream: OpenStream, piece: Piece) -> None:
        note = piece.order
        assert note is not None
        if note.through_ms is not None:
            await self._complete(stream, piece, note)
        else:
            await self._replay(stream, piece, note)

    async def _complete(self, stream: OpenStream, piece: Piece, note: Note) -> None:
        name = stream.spec.name
        reached = self._inlet.reached(name)
        for partition, (at, after) in enumerate(zip(reached, note.after, strict=False)):
            if partition != piece.taken.partition and at < after:
                raise _NotYet
        marks = [
            NewBatch(name, partition, Encoding.NDJSON_ZSTD, b"", 0, watermark_ms=note.through_ms)
            for partition in range(stream.spec.partitions)
        ]
        await self._inlet.append(marks, (), known=None, consumed=_consumed([piece]))

    async def _replay(self, stream: OpenStream, piece: Piece, note: Note) -> None:
        """As `Gateway.replay_admission`: what was replayed before, or is still no good, changes nothing."""
        now_ms = self._clock.now_ms()
        limit = self._storing.settings.event_max_bytes
        reading = read_pieces([piece], stream.record, now_ms=now_ms, event_max_bytes=limit)
        where = RejectedFilter(ids=(note.replays,), include_replayed=True, limit=1)
        waiting = [event for event in await self._log.rejected(where) if event.replayed_at_ms is None]
        if reading.refusals or not waiting:
            await self._inlet.append((), (), known=None, consumed=_consumed([piece]))
            return
        await self._storing.store(
            stream, reading, now_ms=now_ms, replayed=[note.replays], consumed=_consumed([piece])
        )


def _consumed(pieces: Sequence[Piece]) -> list[Consumed]:
    return [Consumed(p.taken.stream, p.taken.partition, p.taken.expected, p.taken.next) for p in pieces]


def _single(piece: Piece, number: int) -> Piece:
    """One record of a piece; the position goes on from the one before it."""
    taken = piece.taken
    expected = taken.expected if number == 0 else taken.records[number - 1].offset + 1
    return Piece(Taken(taken.stream, taken.partition, [taken.records[number]], expected))
