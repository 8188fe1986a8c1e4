"""The gateway: read, claim, admit, append, reply. All that awaits and is not HTTP."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from penstock.errors import PenstockError
from penstock.model.batch import Encoding, NewBatch, RejectedEvent
from penstock.role import LogPorts
from penstock_ingest.admit import admit, read_together
from penstock_ingest.body import Form, lines_of
from penstock_ingest.gather import Gatherer
from penstock_ingest.handover import Handover
from penstock_ingest.settings import IngestSettings
from penstock_ingest.standing import Standing
from penstock_ingest.storing import Storing, count
from penstock_ingest.streams import OpenStream, Streams

__all__ = ["Accepted", "Gateway"]


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

    def refusal(self) -> PenstockError | None:
        """`all_rejected` if events were rejected and none was accepted."""
        if not self.rejected or self.accepted or self.duplicate:
            return None
        return PenstockError("all_rejected", "no event was accepted; 'errors' says why", extra=self.as_json())


class Gateway:
    """Accepts events into source streams. `draw` gives numbers from 0 to 1, for pauses."""

    def __init__(
        self, settings: IngestSettings, ports: LogPorts, *, draw: Callable[[], float] = random.random
    ) -> None:
        self.settings = settings
        self.streams = Streams(ports.log, ports.clock, settings.dedupe)
        self._log = ports.log
        self._clock = ports.clock
        self.storing = Storing(settings, ports, streams=self.streams, draw=draw)
        #: Where the log has an inlet: whether this gateway is the one that admits, and what the others do.
        self.standing = Standing.among(settings.inlet, ports)
        self.handover = None if self.standing is None else Handover(self.standing)
        self._gatherers: dict[str, Gatherer[Accepted]] = {}

    def close(self) -> None:
        """Release the thread; nothing may be in flight."""
        self.storing.close()

    async def learn_always(self) -> None:
        """Where several gateways share the log: learn the others' ids now and then. Until cancelled."""
        while self._log.capabilities.several_writers:
            await self._clock.sleep(self.settings.dedupe.news_poll_s)
            await self.streams.learn_all()

    async def accept(self, name: str, body: bytes, form: Form, *, trace: str = "") -> Accepted:
        """Append the good events of a body and keep the rejected ones. Errors: see `admit.read`, `Log.append`.

        `trace`: the `Batch.trace` under which they travel on. Where another gateway admits, they are handed over to
        it: `accepted` counts what it has durably, duplicates are settled there, and there are no positions yet.
        """
        if self.handover is not None and not await self.handover.is_direct(name):
            return await self._hand_over(name, body, form, trace=trace)
        if form is Form.OBJECT and len(body) <= self.settings.gather_event_max_bytes:
            gatherer = self._gatherers.get(name)
            if gatherer is None:
                gatherer = await self._open_gatherer(name)
            return await gatherer.add(lines_of(body, form), trace)
        return await self._accept_alone(await self.streams.get(name), body, form, trace=trace)

    async def accept_each(self, name: str, bodies: Sequence[bytes]) -> Sequence[Accepted | BaseException]:
        """As `accept` for several bodies of a single event each, in their order; they share appends where they may.

        An error stands in the place of its reply. Where too many events wait for the log, this waits.
        """
        if self.handover is not None and not await self.handover.is_direct(name):
            return [await _caught(self._hand_over(name, body, Form.OBJECT, trace="")) for body in bodies]
        replies: list[asyncio.Future[Accepted]] = []
        for body in bodies:
            try:
                gatherer = self._gatherers.get(name) or await self._open_gatherer(name)
                await gatherer.room()
                replies.append(gatherer.add(lines_of(body, Form.OBJECT)))
            except PenstockError as error:
                refused: asyncio.Future[Accepted] = asyncio.get_running_loop().create_future()
                refused.set_exception(error)
                replies.append(refused)
        return await asyncio.gather(*replies, return_exceptions=True)

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
        if self.handover is not None and not await self.handover.is_direct(name):
            await self.handover.complete(name, through_ms)
            return []
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
        reading = await self.storing.read(stream, raw, Form.OBJECT, now_ms=now_ms)
        if reading.refusals:
            refused = admit(reading, stream.spec, fresh=None, now_ms=now_ms, errors_max=self.settings.errors_max)
            return Accepted(0, 0, len(reading.refusals), refused.errors, []).as_json()
        if self.handover is not None and not await self.handover.is_direct(event.stream):
            await self.handover.replay(event.stream, reading, event.id)
            return Accepted(reading.count, 0, 0, [], []).as_json()
        admission, positions, _ = await self.storing.store(stream, reading, now_ms=now_ms, replayed=[event.id])
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
        admission, positions, fresh = await self.storing.store(stream, reading, now_ms=now_ms, trace=trace)
        count(stream, reading, admission, body_bytes=sum(map(len, texts)))
        duplicate = Accepted(0, 1, 0, [], [])
        cursors = iter(stream.cursors_within(positions[-1], admission.accepted) if positions else ())
        return [
            Accepted(1, 0, 0, [], [next(cursors)], trace) if is_fresh else duplicate
            for is_fresh in fresh or [True] * len(texts)
        ]

    async def _hand_over(self, name: str, body: bytes, form: Form, *, trace: str) -> Accepted:
        assert self.handover is not None
        stream = await self.streams.get(name)
        now_ms = self._clock.now_ms()
        reading = await self.storing.read(stream, body, form, now_ms=now_ms)
        await self.handover.leave(name, reading, trace=trace)
        stream.handed_over.inc(reading.count)
        refused = admit(reading, stream.spec, fresh=None, now_ms=now_ms, errors_max=self.settings.errors_max)
        return Accepted(reading.count, 0, len(reading.refusals), refused.errors, [], trace)

    async def _accept_alone(self, stream: OpenStream, body: bytes, form: Form, *, trace: str = "") -> Accepted:
        now_ms = self._clock.now_ms()
        reading = await self.storing.read(stream, body, form, now_ms=now_ms)
        admission, positions, _ = await self.storing.store(stream, reading, now_ms=now_ms, trace=trace)
        count(stream, reading, admission, body_bytes=len(body))
        rejected = len(reading.refusals)
        return Accepted(
            admission.accepted, admission.duplicate, rejected, admission.errors, stream.cursors(positions), trace
        )


async def _caught(accepting: Awaitable[Accepted]) -> Accepted | BaseException:
    """The error in the place of the reply."""
    try:
        return await accepting
    except PenstockError as error:
        return error
