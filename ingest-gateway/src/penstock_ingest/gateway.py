"""The gateway: read, claim, admit, append, reply. All that awaits and is not HTTP."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import structlog

from penstock.errors import LogUnavailable, Outrun, PenstockError
from penstock.model.batch import Encoding, NewBatch, RejectedEvent
from penstock.model.position import Position
from penstock.role import Ports
from penstock_ingest import metrics
from penstock_ingest.admit import Admission, admit, read, read_together
from penstock_ingest.body import Form, lines_of
from penstock_ingest.dedupe import Claim
from penstock_ingest.gather import Gatherer
from penstock_ingest.reading import Reading
from penstock_ingest.settings import IngestSettings
from penstock_ingest.streams import OpenStream, Streams

__all__ = ["Accepted", "Gateway"]

_logger = structlog.get_logger("penstock.ingest")

#: An admission, the positions after its batches, and `Claim.fresh` (None: all events are).
Stored = tuple[Admission, list[Position], Sequence[bool] | None]
#: Attempts after which the pause before the next has its full length.
_PAUSES_MAX = 4


@dataclass(frozen=True, slots=True)
class Accepted:
    """The reply to one request, after the append is durable."""

    accepted: int
    duplicate: int
    rejected: int
    errors: list[dict[str, object]]
    positions: list[str]
    trace: str = ""  # that the events travel under: of requests in one append, that of the first who has one

    def as_json(self) -> dict[str, object]:
        """`{"accepted", "duplicate", "rejected", "errors", "positions"}`."""
        return {
            "accepted": self.accepted,
            "duplicate": self.duplicate,
            "rejected": self.rejected,
            "errors": self.errors,
            "positions": self.positions,
        }


class Gateway:
    """Accepts events into source streams. `draw` gives numbers from 0 to 1, for pauses."""

    def __init__(self, settings: IngestSettings, ports: Ports, *, draw: Callable[[], float] = random.random) -> None:
        self.settings = settings
        self.streams = Streams(ports.log, ports.clock, settings.dedupe)
        self._log = ports.log
        self._clock = ports.clock
        self._draw = draw
        self._gatherers: dict[str, Gatherer[Accepted]] = {}
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="penstock-admit")

    def close(self) -> None:
        """Release the thread; nothing may be in flight."""
        self._threads.shutdown(wait=False)

    async def learn_always(self) -> None:
        """Where several gateways share the log: learn the others' ids now and then. Until cancelled."""
        while self._log.capabilities.several_writers:
            await self._clock.sleep(self.settings.dedupe.news_poll_s)
            await self.streams.learn_all()

    async def accept(self, name: str, body: bytes, form: Form, *, trace: str = "") -> Accepted:
        """Append the good events of a body and keep the rejected ones. Errors: see `admit.read`, `Log.append`.

        `trace`: the `Batch.trace` under which they travel on.
        """
        if form is Form.OBJECT and len(body) <= self.settings.gather_event_max_bytes:
            gatherer = self._gatherers.get(name)
            if gatherer is None:
                gatherer = await self._open_gatherer(name)
            return await gatherer.add(lines_of(body, form), trace)
        return await self._accept_alone(await self.streams.get(name), body, form, trace=trace)

    async def complete(self, name: str, through_ms: int) -> list[str]:
        """Record that the stream is complete through that event time, in every partition; the cursors reached."""
        stream = await self.streams.get(name)
        spec = stream.spec
        if spec.time_column is None:
            raise PenstockError("bad_request", f"'{name}' has no event time; its app declares no WATERMARK for it")
        if through_ms > self._clock.now_ms() + round(spec.max_ahead_s * 1000):
            raise PenstockError(
                "time_out_of_range",
                f"a stream cannot be complete so far ahead; at most {spec.max_ahead_s:g} s from now",
            )
        marks = [
            NewBatch(name, partition, Encoding.NDJSON_ZSTD, b"", 0, watermark_ms=through_ms)
            for partition in range(spec.partitions)
        ]
        return stream.cursors(await self._log.append(marks))

    async def replay_admission(self, event: RejectedEvent, raw: bytes) -> dict[str, object]:
        """Try a rejected event of admission again with corrected bytes; it is marked replayed with the append.

        Returns the reply of `accept`. Rejected again: nothing is written. `bad_json` if `raw` is no JSON object,
        `conflict` if the event was replayed before, `bad_request` if it was not rejected by admission.
        """
        if event.statement is not None:
            raise PenstockError(
                "bad_request", f"{event.id} was rejected by statement '{event.statement}', not at admission"
            )
        if event.replayed_at_ms is not None:
            raise PenstockError("conflict", f"{event.id} has been replayed already")
        stream = await self.streams.get(event.stream)
        now_ms = self._clock.now_ms()
        reading = await self._read(stream, raw, Form.OBJECT, now_ms=now_ms)
        if reading.refusals:
            refused = admit(reading, stream.spec, fresh=None, now_ms=now_ms, errors_max=self.settings.errors_max)
            return Accepted(0, 0, len(reading.refusals), refused.errors, []).as_json()
        admission, positions, _ = await self._store(stream, reading, now_ms=now_ms, replayed=[event.id])
        stream.accepted.inc(admission.accepted)
        stream.duplicate.inc(admission.duplicate)
        return Accepted(admission.accepted, admission.duplicate, 0, [], stream.cursors(positions)).as_json()

    async def _open_gatherer(self, name: str) -> Gatherer[Accepted]:
        await self.streams.get(name)  # `unknown_stream`: only streams that there are have one
        settings = self.settings
        return self._gatherers.setdefault(
            name,
            Gatherer(
                partial(self._accept_group, name),
                group_max=settings.gather_group_max,
                waiting_max=settings.gather_waiting_max,
                retry_after_s=settings.retry_after_s,
            ),
        )

    async def _accept_group(
        self, name: str, texts: Sequence[bytes], traces: Sequence[str]
    ) -> Sequence[Accepted | BaseException]:
        """Append single events, one a text, together; where one of them is no good, each for itself."""
        try:
            stream = await self.streams.get(name)
        except PenstockError:
            self._gatherers.pop(name, None)
            raise
        now_ms = self._clock.now_ms()
        reading = None
        if len(texts) > 1 and stream.spec.partitions == 1:
            reading = read_together(texts, stream.record, now_ms=now_ms, limits=self.settings)
        if reading is None:
            alone = [
                self._accept_alone(stream, text, Form.OBJECT, trace=trace)
                for text, trace in zip(texts, traces, strict=True)
            ]
            return await asyncio.gather(*alone, return_exceptions=True)
        trace = next(filter(None, traces), "")
        admission, positions, fresh = await self._store(stream, reading, now_ms=now_ms, trace=trace)
        _count(stream, reading, admission, body_bytes=sum(map(len, texts)))
        duplicate = Accepted(0, 1, 0, [], [])
        cursors = iter(stream.cursors_within(positions[-1], admission.accepted) if positions else ())
        return [
            Accepted(1, 0, 0, [], [next(cursors)], trace) if is_fresh else duplicate
            for is_fresh in fresh or [True] * len(texts)
        ]

    async def _accept_alone(self, stream: OpenStream, body: bytes, form: Form, *, trace: str = "") -> Accepted:
        now_ms = self._clock.now_ms()
        reading = await self._read(stream, body, form, now_ms=now_ms)
        admission, positions, _ = await self._store(stream, reading, now_ms=now_ms, trace=trace)
        _count(stream, reading, admission, body_bytes=len(body))
        rejected = len(reading.refusals)
        return Accepted(
            admission.accepted, admission.duplicate, rejected, admission.errors, stream.cursors(positions), trace
        )

    async def _read(self, stream: OpenStream, body: bytes, form: Form, *, now_ms: int) -> Reading:
        if len(body) < self.settings.thread_min_bytes:
            return read(body, form, stream.record, now_ms=now_ms, limits=self.settings)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._threads, lambda: read(body, form, stream.record, now_ms=now_ms, limits=self.settings)
        )

    async def _store(
        self, stream: OpenStream, reading: Reading, *, now_ms: int, replayed: Sequence[str] = (), trace: str = ""
    ) -> Stored:
        """Claim, admit and append; again with what other gateways have appended, where one of them was faster.

        `outrun` once `dedupe.outrun_attempts_max` attempts were in vain.
        """
        if not stream.record.dedupe:
            admission = await self._admit(stream, reading, None, now_ms=now_ms, trace=trace)
            return admission, await self._append(admission, replayed, known=None), None
        limits = self.settings.dedupe
        for attempt in range(1, limits.outrun_attempts_max):
            try:
                return await self._store_claimed(stream, reading, now_ms=now_ms, replayed=replayed, trace=trace)
            except Outrun:
                metrics.OUTRUN_APPENDS.labels(stream.spec.name).inc()
                await self._clock.sleep(
                    self._draw() * min(attempt, _PAUSES_MAX) / _PAUSES_MAX * limits.outrun_pause_s
                )
                await self.streams.learn(stream)
        return await self._store_claimed(stream, reading, now_ms=now_ms, replayed=replayed, trace=trace)

    async def _store_claimed(
        self, stream: OpenStream, reading: Reading, *, now_ms: int, replayed: Sequence[str], trace: str
    ) -> Stored:
        """One attempt; the claim is settled whatever happens."""
        claim, mark = await self._claim(stream, reading, now_ms=now_ms)
        is_confirmed = False
        is_unsure = True
        try:
            admission = await self._admit(stream, reading, claim.fresh, now_ms=now_ms, trace=trace)
            known = None if mark is None else {stream.spec.name: mark}
            positions = await self._append(admission, replayed, known=known)
            is_confirmed = True
        except PenstockError as error:
            is_unsure = isinstance(error, LogUnavailable)  # any other says that nothing was written
            raise
        finally:
            if is_confirmed:
                stream.index.confirm(claim, now_ms)
            else:  # also when cancelled
                stream.unsure |= is_unsure
                stream.index.give_up(claim)
        return admission, positions, claim.fresh

    async def _claim(self, stream: OpenStream, reading: Reading, *, now_ms: int) -> tuple[Claim, int | None]:
        """Ids of this request, and the mark up to which those of other gateways were known when it claimed them.

        Waits while one of them is in a request whose append is not durable yet.
        """
        ids = reading.ids
        while True:
            while stream.unsure:  # another request's append ended without a known outcome: ask the log first
                await self.streams.get(stream.spec.name)
            outcome = stream.index.claim(ids, now_ms)
            if isinstance(outcome, Claim):
                return outcome, stream.mark
            settled = asyncio.Event()
            outcome[0].on_settled(settled.set)
            await settled.wait()

    async def _admit(
        self, stream: OpenStream, reading: Reading, fresh: Sequence[bool] | None, *, now_ms: int, trace: str
    ) -> Admission:
        admitting = partial(
            admit, reading, stream.spec, fresh=fresh, now_ms=now_ms, errors_max=self.settings.errors_max
        )
        if reading.size_bytes < self.settings.thread_min_bytes:
            admission = admitting()
        else:
            admission = await asyncio.get_running_loop().run_in_executor(self._threads, admitting)
        if not trace:
            return admission
        return replace(admission, batches=[replace(batch, trace=trace) for batch in admission.batches])

    async def _append(
        self, admission: Admission, replayed: Sequence[str], *, known: Mapping[str, int] | None
    ) -> list[Position]:
        if not (admission.batches or admission.rejected or replayed):
            return []
        started_s = self._clock.monotonic_s()
        if known is None:
            positions = await self._log.append(admission.batches, admission.rejected, replayed)
        else:
            positions = await self._log.append(admission.batches, admission.rejected, replayed, known=known)
        metrics.APPEND_SECONDS.observe(self._clock.monotonic_s() - started_s)
        metrics.APPEND_EVENTS.observe(admission.accepted)
        return positions


def _count(stream: OpenStream, reading: Reading, admission: Admission, *, body_bytes: int) -> None:
    stream.accepted.inc(admission.accepted)
    stream.body_bytes.inc(body_bytes)
    if admission.duplicate:
        stream.duplicate.inc(admission.duplicate)
    if reading.refusals:
        stream.rejected.inc(len(reading.refusals))
        for code, count in Counter(refusal.code for refusal in reading.refusals).items():
            metrics.REJECTED_EVENTS.labels(stream.spec.name, code).inc(count)
    if reading.unknown_fields:
        metrics.UNKNOWN_FIELD_REQUESTS.labels(stream.spec.name).inc()
