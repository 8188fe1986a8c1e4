"""What a delivery takes from the log at once, and what becomes of rows that the other side refused. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import polars as pl

from penstock.codecs.arrow import decode_frame
from penstock.model.batch import Batch, RejectedEvent
from penstock.model.stream import StreamSpec
from penstock.outlets.rows import json_lines
from penstock.ports.outlet import OutBatch, RefusedRow

__all__ = ["lost_before", "merged", "refusals"]


def merged(batches: Sequence[Batch], *, at: int, rows_max: int) -> OutBatch:
    """The first `rows_max` rows at or after offset `at`; `batches` has one at least, as `Log.read` gave them."""
    frames: list[pl.DataFrame] = []
    offsets: list[int] = []
    through = at
    for batch in batches:
        if len(offsets) >= rows_max:
            break
        skipped = max(0, at - batch.base)
        if batch.count > skipped:
            frames.append(decode_frame(batch.payload).slice(skipped))
            offsets += range(batch.base + skipped, batch.next)
        through = batch.next
    first = batches[0]
    frame = pl.concat(frames) if frames else pl.DataFrame()
    whole = OutBatch(first.stream, first.partition, first.epoch, at, through, frame, offsets)
    return whole if whole.count <= rows_max else whole.part(0, rows_max)


def lost_before(batches: Sequence[Batch], *, at: int) -> int:
    """Offsets from `at` on that the log had let go of."""
    return max(0, batches[0].first - at) if batches else 0


def refusals(
    batch: OutBatch, refused: Sequence[RefusedRow], *, spec: StreamSpec, code: str, now_ms: int,
    raw_max_bytes: int, detail_max_chars: int,
) -> list[RejectedEvent]:  # fmt: skip
    """Rejected events of these rows, as they would have been delivered. The log gives the ids."""
    events = []
    lines = json_lines(replace(batch, frame=batch.frame[[row.row for row in refused]]), spec) if refused else []
    for row, line in zip(refused, lines, strict=True):
        events.append(
            RejectedEvent(
                id="",
                at_ms=now_ms,
                stream=spec.name,
                app=spec.app,
                statement=spec.name,
                code=code,
                detail=row.detail[:detail_max_chars],
                raw=line[:raw_max_bytes],
                position=(batch.partition, batch.offsets[row.row]),
            )
        )
    return events
