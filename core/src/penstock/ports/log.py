"""The log port: where streams live. One truth; everything else follows from it and can be rebuilt from it.

Callers: ingest appends to source streams; the processor reads, restores and commits; hub and applier read.
Adapters: `logs.memory`, `logs.sqlite` (one file per writing role), `logs.postgres`, `logs.kafka`; `logs.open` maps
URL -> adapter. One contract suite (`testing.log_contract`) holds them all. Only adapters do arithmetic on offsets.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from penstock.model.batch import Batch, NewBatch, RejectedEvent
from penstock.model.position import Position
from penstock.model.stream import StreamSpec

__all__ = ["AppRecord", "Capabilities", "Catalog", "Consumed", "DeltaKind", "Head", "Log", "RejectedFilter",
           "Restored", "StateDelta", "Transaction"]  # fmt: skip

StreamPartition = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an adapter can do; checked at start by `app`, which refuses with the remedy."""

    scope: str  # "process" | "machine" | "cluster": how far apart two users of the log may be
    durable: bool
    retention_holds: bool  # retention never passes a durable consumer
    several_writers: bool = False  # several processes of one role may write at the same time
    brokers: frozenset[str] = frozenset()  # `host:port` of Kafka brokers whose topics it can read as sources
    commit_interval_s: float = 0.0  # cycles of one task should not be committed closer together than this


@dataclass(frozen=True, slots=True)
class Head:
    """End of a partition. `first`: earliest offset kept; `next`: offset of the next event to be appended.

    `watermark_ms`: the stream is complete up to it. Read the head *before* the batches: once everything below
    `next` has been processed, the watermark holds.
    """

    epoch: int
    first: int
    next: int
    watermark_ms: int | None


@dataclass(frozen=True, slots=True)
class AppRecord:
    """A deployed app. `version` counts deployments from 1 (the ETag)."""

    name: str
    version: int
    sql: str
    deployed_at_ms: int


@dataclass(frozen=True, slots=True)
class Catalog:
    """All streams and tables of all apps. `version` grows with every change."""

    version: int
    streams: Mapping[str, StreamSpec]
    apps: Mapping[str, AppRecord]


class DeltaKind(StrEnum):
    """UPSERT key -> new value, APPEND rows, DELETE keys, REPLACE everything. Never values to be merged again."""

    UPSERT = "upsert"
    APPEND = "append"
    DELETE = "delete"
    REPLACE = "replace"


@dataclass(frozen=True, slots=True)
class StateDelta:
    """What changed in one stateful operator in one cycle; opaque to the log. REPLACE drops earlier deltas."""

    operator: str
    kind: DeltaKind
    payload: bytes


@dataclass(frozen=True, slots=True)
class Consumed:
    """Input of a cycle: moved from `expected` (compare) to `next` (set). `expected` None: no position yet."""

    stream: str
    partition: int
    expected: int | None
    next: int


@dataclass(frozen=True, slots=True)
class Transaction:
    """One cycle of an app or of one of its tasks (`model.task`), all or nothing. `term` is that of `acquire`."""

    app: str
    term: int
    consumed: Sequence[Consumed] = ()
    appends: Sequence[NewBatch] = ()
    rejected: Sequence[RejectedEvent] = ()
    deltas: Sequence[StateDelta] = ()
    replayed: Sequence[str] = ()  # ids of rejected events that this cycle replayed
    dropped_operators: Sequence[str] = ()  # operators that left the app: their state goes


@dataclass(frozen=True, slots=True)
class Restored:
    """What an instance needs to go on: its term, positions and, per operator, deltas in commit order.

    `app`: the app in force once the term had begun, never an older one; the catalog may lag behind it.
    """

    term: int
    positions: Mapping[StreamPartition, int]
    deltas: Mapping[str, Sequence[StateDelta]]
    app: AppRecord


@dataclass(frozen=True, slots=True)
class RejectedFilter:
    """Which rejected events to list, newest first."""

    stream: str | None = None
    app: str | None = None
    code: str | None = None
    ids: Collection[str] = field(default_factory=tuple)  # empty: any
    include_replayed: bool = False
    limit: int = 100
    before_id: str | None = None  # page on from this id


class Log(Protocol):
    """Named, partitioned, append-only sequences of events. Errors: LogFull, LogUnavailable, Fenced."""

    @property
    def capabilities(self) -> Capabilities:
        """Fixed for the life of the adapter."""
        ...

    async def append(
        self,
        batches: Sequence[NewBatch],
        rejected: Sequence[RejectedEvent] = (),
        replayed: Sequence[str] = (),
        *,
        known: Mapping[str, int] | None = None,
    ) -> list[Position]:
        """Append to source streams, all or nothing, durable when it returns. Called by ingest only.

        Returns the position after each batch, in order of `batches`. A batch with count 0 only raises the watermark.
        `unknown_stream` if a stream is not in the catalog. Concurrent calls are grouped into one commit.
        `known`: per stream with dedupe, the mark (`ids_after`) up to which the caller knows the ids that other
        writers appended. `Outrun`, and nothing is written, if another has since appended one of the ids in `batches`
        (or so many that it was not looked for): read `ids_after`, decide again, append again. A log without
        `several_writers` has no other writers.
        """
        ...

    async def read(
        self, stream: str, partition: int, offset: int, max_bytes: int, max_batches: int = 1000
    ) -> list[Batch]:
        """Batches that hold events at or after `offset`, in order; [] at the end; at least one if there is any.

        The first may begin before `offset` (the reader skips), or after it when retention has deleted what was
        there (the reader announces the gap). LogUnavailable if `offset` lies beyond the end (restored log).
        """
        ...

    async def head(self, stream: str, partition: int) -> Head:
        """End of a partition; `unknown_stream` if there is none."""
        ...

    async def wait(self, streams: Collection[str], since: int, timeout_s: float) -> int:
        """Return the current tick as soon as a stream of `streams` has changed after tick `since`, or at timeout.

        Ticks count changes (appends, watermarks) of this log as this process knows them; start with 0. The
        catalog is the stream named "" (empty).
        """
        ...

    async def catalog(self) -> Catalog:
        """The streams, tables and apps in force. Cheap: cached until it changes."""
        ...

    async def put_app(
        self, app: str, sql: str, streams: Sequence[StreamSpec], expected_version: int | None
    ) -> AppRecord:
        """Deploy or replace an app: its record and its streams, atomically. Called by the processor only.

        `expected_version` 0: must not exist; n: must be at n; None: do not check (`precondition_failed`).
        `name_taken` if a stream belongs to another app. A stream whose columns, key or relation changed starts a new
        epoch (its batches go, offsets go on); one that is no longer declared is dropped with its batches.
        """
        ...

    async def delete_app(self, app: str, expected_version: int | None) -> None:
        """Remove an app with its streams, and positions and state of all its tasks; its rejected events stay."""
        ...

    async def acquire(self, app: str) -> Restored:
        """Start a new term for this instance (fences every older one) and return what to restore.

        `app` is an app or one of its tasks (`model.task.task_name`); each task has terms, positions and state of its
        own. `unknown_app` if the app is not deployed.
        """
        ...

    async def commit(self, transaction: Transaction) -> list[Position]:
        """Write one cycle, all or nothing, durable when it returns: the positions after each append.

        First the compare-and-set on (positions, term); Fenced if it fails. After an unknown outcome the adapter
        rereads the positions: a transaction that did take place is not repeated. After any error the caller drops
        its memory and calls `acquire` again.
        """
        ...

    async def positions(self, app: str) -> Mapping[StreamPartition, int]:
        """Committed input positions of an app (lag, retention)."""
        ...

    async def rejected(self, where: RejectedFilter) -> list[RejectedEvent]:
        """Rejected events of admission and processing, newest first."""
        ...

    async def ids(self, stream: str, since_ms: int) -> list[tuple[int, bytes]]:
        """(appended_at_ms, concatenated 16-byte id hashes) of batches since then, oldest first: the dedupe index."""
        ...

    async def ids_after(self, stream: str, mark: int | None) -> tuple[list[tuple[int, bytes]], int]:
        """What *other* writers have appended after `mark`, in the form of `ids`, and the mark to pass next time.

        `mark` None: no ids, only the mark as of now (take it before `ids`, so that nothing falls in between).
        """
        ...

    async def beat(self, group: str, member: str, ttl_s: float) -> list[str]:
        """Say that `member` of `group` is alive for the next `ttl_s`, and learn who else is: sorted, itself included.

        Membership only says who should work; terms make sure that one of them can commit. `ttl_s` 0: it leaves.
        """
        ...

    async def trim(self, floors: Mapping[StreamPartition, int]) -> int:
        """Delete, in small chunks, batches older than their retention and below `floors` (missing: not held) and
        below every app's committed position. Returns the number of events deleted. Called by the owner of the file.
        """
        ...

    async def probe(self) -> None:
        """Ask the place where the log lives whether it answers this process. Cheap; writes nothing.

        LogUnavailable, with the place and the reason, if it does not; LogFull while it has no room for what this
        process wants to write. How long that may take is for the caller to
        bound: the call may be cancelled.
        """
        ...

    def failure(self) -> str | None:
        """Why this log can never be written again by this process (a sync that failed), or None. The process ends."""
        ...

    def describe(self) -> dict[str, object]:
        """Adapter, place and the settings that the database says it runs with; for logs and benches."""
        ...

    async def close(self) -> None:
        """Finish what was promised and release files."""
        ...
