"""Storing: what was read is claimed, admitted and appended; the same for requests and for the inlet."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Protocol

from penstock.errors import LogUnavailable, Outrun, PenstockError
from penstock.model.position import Position
from penstock.ports.log import Consumed
from penstock.role import LogPorts
from penstock_ingest import metrics
from penstock_ingest.admit import Admission, admit, read
from penstock_ingest.body import Form
from penstock_ingest.dedupe import Claim
from penstock_ingest.reading import Reading
from penstock_ingest.settings import IngestSettings
from penstock_ingest.streams import OpenStream, Streams

__all__ = ["Stored", "Storing", "count"]

#: An admission, the positions after its batches, and `Claim.fresh` (None: all events are).
Stored = tuple[Admission, list[Position], Sequence[bool] | None]
#: Attempts after which the pause before the next has its full length.
_PAUSES_MAX = 4


class _Appending(Protocol):
    """`Storing._append` for one request."""

    async def __call__(self, admission: Admission, *, known: Mapping[str, int] | None) -> list[Position]: ...


class Storing:
    """Stores readings in streams of the log. `draw` gives numbers from 0 to 1, for pauses."""

    def __init__(
        self, settings: IngestSettings, ports: LogPorts, *, streams: Streams, draw: Callable[[], float]
    ) -> None:
        self.settings = settings
        self.streams = streams
        self._log = ports.log
        self._inlet = ports.inlet
        self._clock = ports.clock
        self._draw = draw
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="penstock-admit")

    def close(self) -> None:
        """Release the thread; nothing may be in flight."""
        self._threads.shutdown(wait=False)

    async def read(self, stream: OpenStream, body: bytes, form: Form, *, now_ms: int) -> Reading:
        """`admit.read`, in a thread where it takes long."""
        if len(body) < self.settings.thread_min_bytes:
            return read(body, form, stream.record, now_ms=now_ms, limits=self.settings)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._threads, lambda: read(body, form, stream.record, now_ms=now_ms, limits=self.settings)
        )

    async def store(
        self,
        stream: OpenStream,
        reading: Reading,
        *,
        now_ms: int,
        replayed: Sequence[str] = (),
        trace: str = "",
        consumed: Sequence[Consumed] = (),
    ) -> Stored:
        """Claim, admit and append; again with what other gateways have appended, where one of them was faster.

        `consumed`: positions in the inlet that move with it. `outrun` once `dedupe.outrun_attempts_max` attempts
        were in vain.
        """
        appending = partial(self._append, replayed=replayed, consumed=consumed)
        if not stream.record.dedupe:
            admission = await self._admit(stream, reading, None, now_ms=now_ms, trace=trace)
            return admission, await appending(admission, known=None), None
        limits = self.settings.dedupe
        for attempt in range(1, limits.outrun_attempts_max):
            try:
                return await self._store_claimed(stream, reading, now_ms=now_ms, appending=appending, trace=trace)
            except Outrun:
                metrics.OUTRUN_APPENDS.labels(stream.spec.name).inc()
                await self._clock.sleep(
                    self._draw() * min(attempt, _PAUSES_MAX) / _PAUSES_MAX * limits.outrun_pause_s
                )
                await self.streams.learn(stream)
        return await self._store_claimed(stream, reading, now_ms=now_ms, appending=appending, trace=trace)

    async def _store_claimed(
        self, stream: OpenStream, reading: Reading, *, now_ms: int, appending: _Appending, trace: str
    ) -> Stored:
        """One attempt; the claim is settled whatever happens."""
        claim, mark = await self._claim(stream, reading)
        is_confirmed = False
        is_unsure = True
        try:
            admission = await self._admit(stream, reading, claim.fresh, now_ms=now_ms, trace=trace)
            known = None if mark is None else {stream.spec.name: mark}
            positions = await appending(admission, known=known)
            is_confirmed = True
        except PenstockError as error:
            is_unsure = isinstance(error, LogUnavailable)  # any other says that nothing was written
            raise
        finally:
            if is_confirmed:
                stream.index.confirm(claim, stream.index_ms())
            else:  # also when cancelled
                stream.unsure |= is_unsure
                stream.index.give_up(claim)
        return admission, positions, claim.fresh

    async def _claim(self, stream: OpenStream, reading: Reading) -> tuple[Claim, int | None]:
        """Ids of this request, and the mark up to which those of other gateways were known when it claimed them.

        Waits while one of them is in a request whose append is not durable yet.
        """
        ids = reading.ids
        while True:
            while stream.unsure:  # another request's append ended without a known outcome: ask the log first
                await self.streams.get(stream.spec.name)
            outcome = stream.index.claim(ids, stream.index_ms())
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
        self,
        admission: Admission,
        *,
        replayed: Sequence[str],
        consumed: Sequence[Consumed],
        known: Mapping[str, int] | None,
    ) -> list[Position]:
        if not (admission.batches or admission.rejected or replayed or consumed):
            return []
        started_s = self._clock.monotonic_s()
        what = (admission.batches, admission.rejected, replayed)
        if consumed:
            assert self._inlet is not None, "what was consumed came from there"
            positions = await self._inlet.append(*what, known=known, consumed=consumed)
        elif known is None:
            positions = await self._log.append(*what)
        else:
            positions = await self._log.append(*what, known=known)
        metrics.APPEND_SECONDS.observe(self._clock.monotonic_s() - started_s)
        metrics.APPEND_EVENTS.observe(admission.accepted)
        return positions


def count(stream: OpenStream, reading: Reading, admission: Admission, *, body_bytes: int) -> None:
    """Show what was admitted."""
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
