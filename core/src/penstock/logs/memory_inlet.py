"""The inlet in memory, for tests of ingest: several gateways share one `MemoryInletTopics`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from penstock.errors import Fenced, LogUnavailable
from penstock.logs.memory import MemoryLog
from penstock.model.batch import NewBatch, RejectedEvent
from penstock.model.position import Position
from penstock.ports.inlet import InletRecord, NewInletRecord, Taken
from penstock.ports.log import Consumed

__all__ = ["MemoryInlet", "MemoryInletTopics"]

StreamPartition = tuple[str, int]


@dataclass(slots=True)
class MemoryInletTopics:
    """What was left, how far it is taken, and who may take: the state that processes would share."""

    records: dict[StreamPartition, list[InletRecord]] = field(default_factory=dict)
    positions: dict[StreamPartition, int] = field(default_factory=dict)
    term: int = 0

    def leave(self, stream: str, record: NewInletRecord, *, at_ms: int = 0) -> int:
        """Leave a record as any producer does; the position after it."""
        held = self.records.setdefault((stream, record.partition), [])
        held.append(InletRecord(len(held), record.value, record.headers, at_ms))
        return len(held)


class MemoryInlet:
    """Implements `ports.inlet.Inlet` over a memory log."""

    def __init__(self, log: MemoryLog, topics: MemoryInletTopics) -> None:
        self._log, self._topics = log, topics
        self._term = -1
        self._next: dict[StreamPartition, int] = {}

    @property
    def is_admitter(self) -> bool:
        """See `Inlet.is_admitter`."""
        return self._term == self._topics.term

    async def take_over(self) -> None:
        """See `Inlet.take_over`."""
        self._topics.term += 1
        self._term = self._topics.term
        self._next = dict(self._topics.positions)

    async def cease(self) -> None:
        """See `Inlet.cease`."""
        self._term = -1

    async def take(self, *, records_max: int, timeout_s: float) -> list[Taken]:
        """See `Inlet.take`."""
        if not self.is_admitter:
            raise LogUnavailable("another gateway takes")
        taken = []
        for place, held in self._topics.records.items():
            expected = self._next.get(place)
            records = held[expected or 0 :][:records_max]
            records_max -= len(records)
            if records:
                taken.append(Taken(*place, records, expected))
                self._next[place] = taken[-1].next
        await asyncio.sleep(0 if taken else min(timeout_s, 0.001))
        return taken

    async def rewind(self) -> None:
        """See `Inlet.rewind`."""
        self._next = dict(self._topics.positions)

    async def append(
        self,
        batches: Sequence[NewBatch],
        rejected: Sequence[RejectedEvent],
        replayed: Sequence[str] = (),
        *,
        known: Mapping[str, int] | None,
        consumed: Sequence[Consumed],
    ) -> list[Position]:
        """See `Inlet.append`."""
        del known
        if not self.is_admitter:
            raise LogUnavailable("another gateway appends")
        for one in consumed:
            at = self._topics.positions.get((one.stream, one.partition))
            if at != one.expected:
                raise Fenced(f"{one.stream}/{one.partition} was taken up to {at}, not to {one.expected}")
        positions = self._log.append_now(batches, rejected, replayed)
        self._topics.positions.update({(one.stream, one.partition): one.next for one in consumed})
        return positions

    async def put(self, stream: str, records: Sequence[NewInletRecord]) -> dict[int, int]:
        """See `Inlet.put`."""
        await asyncio.sleep(0)
        return {record.partition: self._topics.leave(stream, record) for record in records}

    async def ends(self, stream: str) -> list[int]:
        """See `Inlet.ends`."""
        partitions = range(self._log.partitions_of(stream))
        return [len(self._topics.records.get((stream, partition), ())) for partition in partitions]

    def reached(self, stream: str) -> list[int]:
        """See `Inlet.reached`."""
        partitions = range(self._log.partitions_of(stream))
        return [self._topics.positions.get((stream, partition), 0) for partition in partitions]
