"""The inlet port: where producers other than our HTTP gateway leave events for a source stream, to be admitted later.

A log that has one (Kafka: the topic `<stream>.in`) keeps what is left there durably and in order per partition. One
ingest gateway at a time, the *admitter*, takes records, admits them as it admits a request, and appends what it
accepted together with how far it has come, in one transaction. So a crash at any place neither loses nor doubles one.
Callers: ingest only. Adapters: `logs.kafka_inlet`, `logs.memory_inlet`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from penstock.model.batch import NewBatch, RejectedEvent
from penstock.model.position import Position
from penstock.ports.log import Consumed

__all__ = ["Inlet", "InletRecord", "NewInletRecord", "Taken"]

StreamPartition = tuple[str, int]


@dataclass(frozen=True, slots=True)
class InletRecord:
    """A record as it was left. `value` None: a tombstone. `at_ms`: when it was left, by the inlet's clock."""

    offset: int
    value: bytes | None
    headers: Mapping[str, bytes] = field(default_factory=dict)
    at_ms: int = 0


@dataclass(frozen=True, slots=True)
class NewInletRecord:
    """A record to be left in a partition of an inlet."""

    partition: int
    value: bytes
    key: bytes | None = None
    headers: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Taken:
    """Records of one partition, in order, and how the position moves once they are dealt with."""

    stream: str
    partition: int
    records: Sequence[InletRecord]
    expected: int | None

    @property
    def next(self) -> int:
        """Position after the last of them."""
        return self.records[-1].offset + 1


class Inlet(Protocol):
    """What producers left for all sources of one log. Errors: LogUnavailable."""

    @property
    def is_admitter(self) -> bool:
        """Whether this process may take and append; False again once another has taken over."""
        ...

    async def take_over(self) -> None:
        """Become the admitter: whoever was it is fenced, what it had begun is undone, and positions are reread.

        What waits in this process to be appended is refused (LogUnavailable), as it was decided before.
        """
        ...

    async def cease(self) -> None:
        """Stop being the admitter, of one's own accord: `Inlet.append` and `Log.append` are refused from now on."""
        ...

    async def take(self, *, records_max: int, timeout_s: float) -> list[Taken]:
        """The records after those taken before, of any source, in order per partition; [] if none come in time.

        The first call after `take_over` or `rewind` begins at the committed positions. Records that expired before
        they were taken are passed over, and counted. For one caller at a time.
        """
        ...

    async def rewind(self) -> None:
        """Take again what was taken but not appended: an append has failed."""
        ...

    async def append(
        self,
        batches: Sequence[NewBatch],
        rejected: Sequence[RejectedEvent],
        replayed: Sequence[str] = (),
        *,
        known: Mapping[str, int] | None,
        consumed: Sequence[Consumed],
    ) -> list[Position]:
        """`Log.append` in which positions in the inlet move too, all or nothing; `Consumed` as in `Log.commit`.

        Fenced, and nothing is written, if a position is not where it was expected.
        """
        ...

    async def put(self, stream: str, records: Sequence[NewInletRecord]) -> dict[int, int]:
        """Leave records for whoever is the admitter; durable when it returns. Position after them, per partition.

        Any process may. Each record is written once; after LogUnavailable some of them may have been written.
        `too_large` if one is larger than the inlet takes, `unknown_stream` for what is no source.
        """
        ...

    async def ends(self, stream: str) -> list[int]:
        """Where what was left for a stream ends now, per partition."""
        ...

    def reached(self, stream: str) -> list[int]:
        """How far a stream's records have been dealt with, per partition, as the admitter knows it."""
        ...
