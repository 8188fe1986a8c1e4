"""Batches of a source stream as rows of an archive file. Pure.

| column | type | what |
|---|---|---|
| `_position` | INT64 | offset in the partition |
| `_partition`, `_epoch` | INT32, INT64 | |
| `_received_at`, `_time` | TIMESTAMP(ms, UTC) | when the log took it; its event time |
| `_id`, `_key` | STRING | as in `raw.<stream>` |
| `_body` | STRING | the JSON text as received |
| `_body_bytes` | BYTES | the bytes as received where they are no UTF-8, else NULL |
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl

from penstock.codecs.ndjson import decode_lines
from penstock.model.batch import Batch
from penstock.model.stream import StreamSpec
from penstock_data.query import POSITION
from penstock_data.raw_columns import BODY, ID, KEY, RECEIVED, TIME, parsed_columns

__all__ = ["BODY_BYTES", "EPOCH_COLUMN", "PARTITION_COLUMN", "archive_frame", "body_bytes", "groups"]

PARTITION_COLUMN, EPOCH_COLUMN, BODY_BYTES = "_partition", "_epoch", "_body_bytes"

_MOMENT = pl.Datetime("ms", "UTC")


def groups(batches: Sequence[Batch], *, rows: int, size_bytes: int) -> Iterator[Sequence[Batch]]:
    """Neighbouring batches together, with at most `rows` events and `size_bytes` of payload; or one batch alone."""
    group: list[Batch] = []
    left_rows, left_bytes = rows, size_bytes
    for batch in batches:
        if group and (batch.count > left_rows or len(batch.payload) > left_bytes):
            yield group
            group, left_rows, left_bytes = [], rows, size_bytes
        group.append(batch)
        left_rows -= batch.count
        left_bytes -= len(batch.payload)
    if group:
        yield group


def archive_frame(spec: StreamSpec, batches: Sequence[Batch], *, from_offset: int) -> tuple[pl.DataFrame, int]:
    """(rows of the events at or after `from_offset`, bytes of their texts). The batches are of one partition."""
    texts = [decode_lines(batch.payload) for batch in batches]
    counts = [text.count(b"\n") + 1 for text in texts]
    for batch, count in zip(batches, counts, strict=True):
        if count != batch.count:
            raise ValueError(f"{batch.stream}: {count} lines for offsets [{batch.base}, {batch.next})")
    text = b"\n".join(texts)
    offsets = np.concatenate([np.arange(b.base, b.next) for b in batches])
    received_ms = np.repeat([batch.appended_at_ms for batch in batches], counts)
    parsed = parsed_columns(spec, text.split(b"\n"), [ID, TIME, KEY])
    frame = pl.DataFrame(
        {
            POSITION: pl.Series(offsets, dtype=pl.Int64),
            PARTITION_COLUMN: pl.Series([batches[0].partition], dtype=pl.Int32).new_from_index(0, len(offsets)),
            EPOCH_COLUMN: pl.Series([batches[0].epoch], dtype=pl.Int64).new_from_index(0, len(offsets)),
            RECEIVED: pl.Series(received_ms, dtype=pl.Int64).cast(_MOMENT),
            ID: parsed[ID],
            TIME: parsed[TIME].to_physical().cast(_MOMENT),
            KEY: parsed[KEY],
            **_texts(text),
        }
    )
    if from_offset > batches[0].first:
        frame = frame.filter(pl.col(POSITION) >= from_offset)
    return frame, len(text)


def body_bytes(frame: pl.DataFrame) -> list[bytes]:
    """The JSON texts of rows with BODY and BODY_BYTES, exactly as they were received."""
    return frame.select(pl.coalesce(BODY_BYTES, pl.col(BODY).cast(pl.Binary))).to_series().to_list()


def _texts(text: bytes) -> dict[str, pl.Series]:
    try:
        lines: list[str] = text.decode().split("\n")
        exact = pl.Series([None], dtype=pl.Binary).new_from_index(0, len(lines))
    except UnicodeDecodeError:  # a field that admission passes over may hold anything
        raw = text.split(b"\n")
        lines = [line.decode("utf-8", "replace") for line in raw]
        exact = pl.Series([None if s.encode() == b else b for s, b in zip(lines, raw, strict=True)], dtype=pl.Binary)
    return {BODY: pl.Series(lines, dtype=pl.String), BODY_BYTES: exact}
