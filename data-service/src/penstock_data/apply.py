"""From batches of a derived relation to a change of the store. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from penstock.codecs.arrow import decode_frame
from penstock.codecs.frames import polars_schema
from penstock.model.batch import OP_COLUMN, PENDING_COLUMN, Batch, Encoding
from penstock.model.stream import Relation, StreamSpec
from penstock.ports.log import Head
from penstock.ports.store import Apply

__all__ = ["Place", "Reading", "change_of", "is_stored", "keyless_rows", "place_after", "skipped_events"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the store stands in one partition. `applied` False: nothing of this epoch has been applied."""

    epoch: int
    next: int
    watermark_ms: int | None
    applied: bool


@dataclass(frozen=True, slots=True)
class Reading:
    """What one look at a partition gave: the head, read first, then the batches from `place.next` on."""

    spec: StreamSpec
    partition: int
    place: Place
    head: Head
    batches: Sequence[Batch]


def is_stored(spec: StreamSpec) -> bool:
    """True for relations that the store keeps: derived ones whose option `store` is on."""
    return spec.store and spec.relation is not Relation.SOURCE


def change_of(reading: Reading) -> Apply:
    """The change that brings the store to the end of the batches, or only its watermark up to date."""
    place, batches = reading.place, reading.batches
    first = max(place.next, batches[0].first) if batches else place.next
    end = batches[-1].next if batches else place.next
    frames = [_rows(reading.spec, batch, from_offset=first) for batch in batches]
    return Apply(
        relation=reading.spec.name,
        partition=reading.partition,
        epoch=place.epoch,
        expected_next=place.next if place.applied else None,
        first=first,
        next=end,
        frame=pl.concat(frames) if frames else pl.DataFrame(schema=_schema(reading.spec)),
        watermark_ms=_watermark_ms(reading, end=end),
        offsets=_offsets(batches, first),
    )


def place_after(change: Apply, before: Place) -> Place:
    """Where the store stands once `change` has been applied."""
    marks = [mark for mark in (before.watermark_ms, change.watermark_ms) if mark is not None]
    return Place(change.epoch, change.next, max(marks, default=None), applied=True)


def skipped_events(reading: Reading) -> int:
    """Events that the log no longer had: they are missing in the store."""
    return max(0, reading.batches[0].first - reading.place.next) if reading.batches else 0


def keyless_rows(reading: Reading, change: Apply) -> int:
    """Rows of a table without a whole key: a table cannot keep them. The processor should have rejected them."""
    key = list(reading.spec.primary_key) if reading.spec.relation is Relation.TABLE else []
    return change.frame.height - change.frame.drop_nulls(key).height if key else 0


def _watermark_ms(reading: Reading, *, end: int) -> int | None:
    # The head was read before the batches: its watermark holds once everything below its end is applied.
    if end >= reading.head.next and reading.head.watermark_ms is not None:
        return reading.head.watermark_ms
    marks = [batch.watermark_ms for batch in reading.batches if batch.watermark_ms is not None]
    return marks[-1] if marks else None


def _offsets(batches: Sequence[Batch], first: int) -> pl.Series | None:
    """Offsets of the rows from `first` on; None where every offset has one."""
    if all(batch.base <= max(batch.first, first) for batch in batches):
        return None
    return pl.concat(
        pl.int_range(max(first, batch.base), batch.next, dtype=pl.Int64, eager=True) for batch in batches
    )


def _schema(spec: StreamSpec) -> dict[str, pl.DataType]:
    schema: dict[str, pl.DataType] = {**polars_schema(spec.columns), OP_COLUMN: pl.Int8()}
    if spec.relation is Relation.TABLE and spec.emit == "early":
        schema[PENDING_COLUMN] = pl.Boolean()
    return schema


def _rows(spec: StreamSpec, batch: Batch, *, from_offset: int) -> pl.DataFrame:
    if batch.encoding is not Encoding.ARROW:
        raise ValueError(f"{batch.stream}: a derived batch is Arrow, this one is {batch.encoding}")
    frame = decode_frame(batch.payload)
    if frame.height != batch.count:
        raise ValueError(f"{batch.stream}: {frame.height} rows for offsets [{batch.first}, {batch.next})")
    return frame.select(list(_schema(spec))).slice(max(0, from_offset - batch.base))
