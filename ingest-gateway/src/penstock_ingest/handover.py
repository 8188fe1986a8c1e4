"""Handing over: while another gateway admits, or may be about to, events go to it by way of the inlet.

While there are several gateways all of them hand over, the admitter too: so events of a key that a client sends one
after the other keep their order whichever gateway each reaches. A single gateway appends directly, but only once what
was left before has been admitted.
"""

from __future__ import annotations

from collections import Counter

from penstock.model.traceparent import HEADER as TRACE_HEADER
from penstock.ports.inlet import NewInletRecord
from penstock_ingest.admit import RAW_MAX_BYTES
from penstock_ingest.inlet_notes import Note
from penstock_ingest.reading import Reading
from penstock_ingest.standing import Standing

__all__ = ["Handover"]


class Handover:
    """The inlet as requests see it."""

    def __init__(self, standing: Standing) -> None:
        self._standing, self._inlet = standing, standing.inlet
        self._term = -1
        self._direct: set[str] = set()  # streams whose events need no detour in this term
        self._settle: dict[str, list[int]] = {}  # up to where the inlet must be taken before that is so
        self._leaving: Counter[str] = Counter()  # puts that have begun

    async def is_direct(self, stream: str) -> bool:
        """Whether this gateway may append to the stream now. `not_ready` while that is not decided."""
        await self._standing.known()
        if not self._standing.is_sole:
            return False
        if self._term != self._standing.term:
            self._term = self._standing.term
            self._direct.clear()
            self._settle.clear()
        if stream in self._direct:
            return True
        if stream not in self._settle:
            term, ends = self._term, await self._inlet.ends(stream)
            if term != self._standing.term:
                return False
            self._settle[stream] = [
                max(pair) for pair in zip(ends, self._settle.get(stream, [0] * len(ends)), strict=True)
            ]
        reached = self._inlet.reached(stream)
        if self._leaving[stream] or any(at < end for at, end in zip(reached, self._settle[stream], strict=False)):
            return False
        self._direct.add(stream)
        return True

    async def leave(self, stream: str, reading: Reading, *, trace: str) -> None:
        """Leave the good events and the refused ones, durably, in order."""
        headers = {TRACE_HEADER: trace.encode()} if trace else {}
        records = [
            NewInletRecord(partition, line, None, headers)
            for block in reading.blocks
            for line, partition in zip(block.text.split(b"\n"), block.partitions or [0] * block.count, strict=True)
        ]
        records += [
            NewInletRecord(0, refusal.raw[:RAW_MAX_BYTES], None, Note(refusal.code, refusal.detail).header())
            for refusal in reading.refusals
        ]
        await self._put(stream, records)

    async def complete(self, stream: str, through_ms: int) -> None:
        """Leave the word that the stream is complete, for when everything left until now has been admitted."""
        after = tuple(await self._inlet.ends(stream))
        await self._put(stream, [NewInletRecord(0, b"", None, Note(through_ms=through_ms, after=after).header())])

    async def replay(self, stream: str, reading: Reading, rejected_id: str) -> None:
        """Leave a corrected event, of which `reading` is, in the place of a rejected one."""
        for block in reading.blocks:
            (partition,) = block.partitions or [0]
            await self._put(stream, [NewInletRecord(partition, block.text, None, Note(replays=rejected_id).header())])

    async def _put(self, stream: str, records: list[NewInletRecord]) -> None:
        self._leaving[stream] += 1
        try:
            after = await self._inlet.put(stream, records)
        finally:
            self._leaving[stream] -= 1
        settle = self._settle.get(stream)
        if settle is not None:
            for partition, offset in after.items():
                settle[partition] = max(settle[partition], offset)
