"""What a group of writes does to the log: decided without I/O, while the rows that it depends on are locked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from penstock.errors import Fenced, LogFull, Outrun, PenstockError
from penstock.logs.admissible import check_derived, check_source, follow
from penstock.logs.catalog_change import CatalogState
from penstock.logs.rejected_ids import RejectedIds
from penstock.model.batch import Batch, NewBatch, RejectedEvent
from penstock.model.position import Position
from penstock.ports.log import DeltaKind, Head, StateDelta, Transaction

__all__ = ["Changes", "Held", "IdRow", "Needs", "News", "Outcome", "Write", "decide", "needs_of"]

StreamPartition = tuple[str, int]
_ID_BYTES = 16


@dataclass(frozen=True, slots=True)
class Write:
    """One call of `append`, or of `commit` when there is a `cycle`; all or nothing."""

    batches: Sequence[NewBatch]
    rejected: Sequence[RejectedEvent] = ()
    replayed: Sequence[str] = ()
    known: Mapping[str, int] | None = None
    cycle: Transaction | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes that it brings along."""
        deltas = self.cycle.deltas if self.cycle else ()
        return (
            sum(len(batch.payload) + len(batch.ids) for batch in self.batches)
            + sum(len(event.raw) for event in self.rejected)
            + sum(len(delta.payload) for delta in deltas)
        )


@dataclass(frozen=True, slots=True)
class Needs:
    """Rows that a group depends on, each list in the order in which every process locks them."""

    tasks: list[str]
    marks: list[str]  # streams whose ids are appended
    known: dict[str, int]  # per stream, the least mark that a write of the group knows
    heads: list[StreamPartition]


@dataclass(frozen=True, slots=True)
class News:
    """Ids that other writers appended: (mark, hashes). Not `whole`: there are more, which were not read."""

    rows: Sequence[tuple[int, bytes]] = ()
    whole: bool = True

    def meets(self, ids: set[bytes], *, after: int) -> bool:
        """Whether one of `ids` is, or may be, among those with a mark greater than `after`."""
        if not self.whole:
            return True
        return any(
            hashes[at : at + _ID_BYTES] in ids
            for mark, hashes in self.rows
            if mark > after
            for at in range(0, len(hashes), _ID_BYTES)
        )


@dataclass(slots=True)
class Held:
    """Those rows as they are, locked, and the catalog, which cannot change meanwhile. `decide` moves them on."""

    state: CatalogState
    terms: dict[str, int]
    positions: dict[str, dict[StreamPartition, int]]
    heads: dict[StreamPartition, Head]
    marks: dict[str, int]
    news: dict[str, News]
    room_bytes: int | None  # None: no limit


@dataclass(frozen=True, slots=True)
class IdRow:
    """Hashes of one batch; its mark is greater than all before it in the stream."""

    stream: str
    mark: int
    epoch: int
    at_ms: int
    hashes: bytes


@dataclass(slots=True)
class Changes:
    """What to write for the whole group."""

    batches: list[Batch] = field(default_factory=list)
    heads: dict[StreamPartition, Head] = field(default_factory=dict)
    ids: list[IdRow] = field(default_factory=list)
    marks: dict[str, int] = field(default_factory=dict)
    positions: dict[tuple[str, str, int], int] = field(default_factory=dict)
    forgotten: set[tuple[str, str]] = field(default_factory=set)  # (task, operator) whose deltas so far go first
    deltas: list[tuple[str, StateDelta]] = field(default_factory=list)
    rejected: dict[str, RejectedEvent] = field(default_factory=dict)
    replayed: list[str] = field(default_factory=list)


Outcome = list[Position] | PenstockError


def needs_of(writes: Sequence[Write]) -> Needs:
    """What must be locked to decide about `writes`."""
    known: dict[str, int] = {}
    for write in writes:
        for stream, mark in (write.known or {}).items():
            known[stream] = min(mark, known.get(stream, mark))
    return Needs(
        tasks=sorted({write.cycle.app for write in writes if write.cycle}),
        marks=sorted({batch.stream for write in writes for batch in write.batches if batch.ids}),
        known=known,
        heads=sorted({(batch.stream, batch.partition) for write in writes for batch in write.batches}),
    )


def decide(
    writes: Sequence[Write], held: Held, *, now_ms: int, rejected_ids: RejectedIds, limit_bytes: int | None
) -> tuple[list[Outcome], Changes]:
    """An outcome per write: its positions, or why it is refused, which leaves no trace of it."""
    changes = Changes()
    outcomes: list[Outcome] = []
    for write in writes:
        try:
            epochs = _check(write, held, limit_bytes=limit_bytes)
        except PenstockError as refusal:
            outcomes.append(refusal)
            continue
        outcomes.append(_take(write, epochs, held, changes, now_ms=now_ms, rejected_ids=rejected_ids))
    return outcomes, changes


def _check(write: Write, held: Held, *, limit_bytes: int | None) -> list[int]:
    """The epoch of each batch; raises what refuses the write."""
    if write.cycle is not None:
        _compare(write.cycle, held)
        app = write.cycle.app
        return [check_derived(held.state, batch, app=app) for batch in write.batches]
    epochs = [check_source(held.state, batch) for batch in write.batches]
    for stream, mark in (write.known or {}).items():
        ids = {
            batch.ids[at : at + _ID_BYTES]
            for batch in write.batches
            if batch.stream == stream
            for at in range(0, len(batch.ids), _ID_BYTES)
        }
        if ids and held.news[stream].meets(ids, after=mark):
            raise Outrun(stream)
    if held.room_bytes is not None and write.size_bytes > held.room_bytes:
        raise LogFull(
            f"the log has reached its limit of {limit_bytes} bytes; raise max_size_bytes or shorten the retention "
            "of its streams"
        )
    return epochs


def _compare(cycle: Transaction, held: Held) -> None:
    app = cycle.app
    term = held.terms.get(app)
    if term != cycle.term:
        raise Fenced(f"app '{app}' runs under term {term}, not {cycle.term}")
    positions = held.positions.get(app, {})
    for consumed in cycle.consumed:
        at = positions.get((consumed.stream, consumed.partition))
        if at != consumed.expected:
            raise Fenced(
                f"app '{app}' is at {at} of {consumed.stream}/{consumed.partition}, not at {consumed.expected}"
            )


def _take(
    write: Write, epochs: Sequence[int], held: Held, changes: Changes, *, now_ms: int, rejected_ids: RejectedIds
) -> list[Position]:
    if held.room_bytes is not None:
        held.room_bytes -= write.size_bytes
    if write.cycle is not None:
        _move(write.cycle, held, changes)
    positions: list[Position] = []
    for batch, epoch in zip(write.batches, epochs, strict=True):
        key = (batch.stream, batch.partition)
        before = held.heads[key]
        head, stored = follow(before, batch, now_ms=now_ms)
        positions.append(Position(epoch, batch.partition, head.next))
        if head != before:
            held.heads[key] = changes.heads[key] = head
        if stored is not None:
            changes.batches.append(stored)
        if batch.ids:
            mark = held.marks[batch.stream] = changes.marks[batch.stream] = held.marks[batch.stream] + 1
            changes.ids.append(IdRow(batch.stream, mark, epoch, now_ms, batch.ids))
    for event in write.rejected:
        id_ = event.id or rejected_ids.next(now_ms)
        changes.rejected[id_] = event
    changes.replayed += write.replayed
    return positions


def _move(cycle: Transaction, held: Held, changes: Changes) -> None:
    positions = held.positions.setdefault(cycle.app, {})
    for consumed in cycle.consumed:
        positions[consumed.stream, consumed.partition] = consumed.next
        changes.positions[cycle.app, consumed.stream, consumed.partition] = consumed.next
    for operator in cycle.dropped_operators:
        _forget(changes, cycle.app, operator)
    for delta in cycle.deltas:
        if delta.kind is DeltaKind.REPLACE:
            _forget(changes, cycle.app, delta.operator)
        changes.deltas.append((cycle.app, delta))


def _forget(changes: Changes, task: str, operator: str) -> None:
    changes.forgotten.add((task, operator))
    changes.deltas = [row for row in changes.deltas if (row[0], row[1].operator) != (task, operator)]
