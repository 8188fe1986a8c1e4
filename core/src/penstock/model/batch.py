"""Batches: the unit that travels. Events of one stream and partition, within offsets `[first, next)`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum

__all__ = ["OP_COLUMN", "PENDING_COLUMN", "Batch", "Encoding", "NewBatch", "Op", "RejectedEvent"]

#: Extra columns of an ARROW payload beside the spec's columns, in this order at the end.
OP_COLUMN = "$op"  # Int8, values of Op; streams have INSERT only
PENDING_COLUMN = "$pending"  # Boolean, only for tables with emit=early: true while the window is still open


class Encoding(StrEnum):
    """NDJSON_ZSTD: the JSON objects exactly as received, one a line (source streams). ARROW: one IPC stream."""

    NDJSON_ZSTD = "ndjson+zstd"
    ARROW = "arrow"


class Op(IntEnum):
    """Changelog operation of a row (Flink RowKind); `-U` is never written to the log."""

    INSERT = 0
    UPDATE_BEFORE = 1
    UPDATE_AFTER = 2
    DELETE = 3

    @property
    def text(self) -> str:
        """`+I`, `-U`, `+U`, `-D`."""
        return ("+I", "-U", "+U", "-D")[self]


@dataclass(frozen=True, slots=True)
class NewBatch:
    """A batch before the log gave it offsets. `watermark_ms`: the stream is complete up to it (None: no news).

    A batch with `count == 0` carries only a watermark; it takes no offset.
    """

    stream: str
    partition: int
    encoding: Encoding
    payload: bytes
    count: int
    min_time_ms: int | None = None
    max_time_ms: int | None = None
    watermark_ms: int | None = None
    ids: bytes = b""  # 16-byte hashes of dedupe keys, concatenated in event order; empty: stream without dedupe
    trace: str = ""  # W3C traceparent of what wrote the batch (`model.traceparent`); empty: nobody follows it


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch read from the log. `appended_at_ms` is the log's clock at append (ingest's `_received_at`).

    It says what is at offsets `[first, next)`: its events have the last `count` of them, without a gap, and what lies
    before them is no event (a Kafka topic has offsets that hold none). So whoever is at `first` has missed nothing
    and is at `next` afterwards; an event's own offset is counted from `base`.
    """

    stream: str
    partition: int
    epoch: int
    first: int
    next: int
    encoding: Encoding
    payload: bytes
    min_time_ms: int | None
    max_time_ms: int | None
    watermark_ms: int | None
    appended_at_ms: int
    events: int | None = None  # None: every offset holds an event
    trace: str = ""  # as it was written

    @property
    def count(self) -> int:
        """Number of events."""
        return self.next - self.first if self.events is None else self.events

    @property
    def base(self) -> int:
        """Offset of the first event."""
        return self.next - self.count


@dataclass(frozen=True, slots=True)
class RejectedEvent:
    """An event that could not be accepted or processed; kept, listed, corrected, replayed.

    `statement` is None for admission, else the statement's name. `raw` is as received, capped at 64 KiB.
    """

    id: str
    at_ms: int
    stream: str
    app: str
    statement: str | None
    code: str
    detail: str
    raw: bytes
    position: tuple[int, int] | None = None  # (partition, offset) for processing errors
    replayed_at_ms: int | None = None
