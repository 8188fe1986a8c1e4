"""A task's state and positions as records of its own topic. Pure.

One transaction of a task ends with a manifest: term, number of the cycle, every position. Before it come the deltas,
cut into pieces that brokers take. Reading from any offset at or below `StateFold.floor` gives the same state.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from penstock.logs.kafka_records import Outgoing, Record
from penstock.ports.log import DeltaKind, StateDelta

__all__ = ["Manifest", "StateFold", "manifest_of", "state_records"]

StreamPartition = tuple[str, int]

_DELTA, _DROP, _MANIFEST = b"delta", b"drop", b"manifest"


class Manifest(msgspec.Struct, frozen=True):
    """What the last cycle of a task left. `born`: which app of that name (`ClusterCatalog.born`)."""

    term: int
    cycle: int
    born: int
    positions: list[tuple[str, int, int]] = []

    def by_partition(self) -> dict[StreamPartition, int]:
        """The positions as the port gives them."""
        return {(stream, partition): offset for stream, partition, offset in self.positions}


class _Piece(msgspec.Struct, frozen=True, array_like=True):
    """Key of a record of a delta: operator, kind, which of how many pieces."""

    operator: str
    kind: str
    number: int
    count: int


_pieces = msgspec.json.Decoder(_Piece)
_manifests = msgspec.json.Decoder(Manifest)


@dataclass(slots=True)
class StateFold:
    """State and positions from records in order. What a record without a manifest began is void."""

    manifest: Manifest | None = None
    manifest_offset: int = 0
    _live: dict[str, list[tuple[int, StateDelta]]] = field(default_factory=dict)
    _open: list[tuple[int, StateDelta]] = field(default_factory=list)
    _dropped: list[str] = field(default_factory=list)
    _pieces: list[bytes] = field(default_factory=list)

    def deltas(self) -> dict[str, list[StateDelta]]:
        """Deltas by operator, in commit order."""
        return {name: [delta for _, delta in live] for name, live in self._live.items() if live}

    def first_offsets(self) -> dict[str, int]:
        """Per operator, the offset from which its state is needed."""
        return {name: live[0][0] for name, live in self._live.items() if live}

    def feed(self, records: Iterable[Record]) -> None:
        """Take the next records."""
        for record in records:
            kind = next((value for name, value in record.headers or () if name == "kind"), None)
            if kind == _DROP:
                self._dropped = msgspec.json.decode(record.value or b"[]", type=list[str])
            elif kind == _DELTA:
                self._piece(record)
            elif kind == _MANIFEST:
                self._end(record)

    def _piece(self, record: Record) -> None:
        piece = _pieces.decode(_key_of(record))
        if piece.number == 0:
            self._pieces = []
        self._pieces.append(record.value or b"")
        if piece.number == piece.count - 1:
            delta = StateDelta(piece.operator, DeltaKind(piece.kind), b"".join(self._pieces))
            self._open.append((record.offset - piece.number, delta))

    def _end(self, record: Record) -> None:
        manifest = _manifests.decode(record.value or b"")
        if self.manifest is not None and manifest.born != self.manifest.born:
            self._live.clear()
        self.manifest, self.manifest_offset = manifest, record.offset
        for operator in self._dropped:
            self._live.pop(operator, None)
        for offset, delta in self._open:
            if delta.kind is DeltaKind.REPLACE:
                self._live[delta.operator] = []
            self._live.setdefault(delta.operator, []).append((offset, delta))
        self._open, self._dropped = [], []


def state_records(
    manifest: Manifest, deltas: Sequence[StateDelta] = (), dropped: Sequence[str] = (), *, piece_bytes: int
) -> list[Outgoing]:
    """The records of one cycle, the manifest last."""
    out: list[Outgoing] = []
    if dropped:
        out.append(Outgoing(None, msgspec.json.encode(list(dropped)), [("kind", _DROP)]))
    for delta in deltas:
        count = max(1, -(-len(delta.payload) // piece_bytes))
        for number in range(count):
            piece = _Piece(delta.operator, delta.kind.value, number, count)
            payload = delta.payload[number * piece_bytes : (number + 1) * piece_bytes]
            out.append(Outgoing(None, payload, [("kind", _DELTA), ("piece", msgspec.json.encode(piece))]))
    out.append(Outgoing(None, msgspec.json.encode(manifest), [("kind", _MANIFEST)]))
    return out


def manifest_of(records: Sequence[Record]) -> Manifest | None:
    """The newest manifest among these records."""
    for record in reversed(records):
        if ("kind", _MANIFEST) in (record.headers or ()):
            return _manifests.decode(record.value or b"")
    return None


def _key_of(record: Record) -> bytes:
    return next((value or b"" for name, value in record.headers or () if name == "piece"), b"")
