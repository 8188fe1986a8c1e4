"""What a batch must be before an adapter gives it offsets; and a batch's form once it has them. No I/O."""

from __future__ import annotations

from penstock.errors import PenstockError
from penstock.logs.catalog_change import CatalogState
from penstock.model.batch import Batch, NewBatch
from penstock.model.stream import Relation
from penstock.model.task import app_of
from penstock.ports.log import Head

__all__ = ["check_derived", "check_source", "follow", "raised"]

_ID_BYTES = 16


def check_source(state: CatalogState, batch: NewBatch) -> int:
    """The epoch for a batch that ingest appends; `unknown_stream` unless it is a source, `bad_request` if garbled."""
    spec = state.partition(batch.stream, batch.partition)
    if spec.relation is not Relation.SOURCE:
        raise PenstockError(
            "unknown_stream", f"'{batch.stream}' is written by app '{spec.app}'; events can be sent to sources only"
        )
    if spec.topic:
        raise PenstockError("unknown_stream", f"'{batch.stream}' is topic '{spec.topic}', which others fill")
    _check_shape(batch)
    return state.epochs[batch.stream]


def check_derived(state: CatalogState, batch: NewBatch, *, app: str) -> int:
    """The epoch for a batch that `app` or a task of it commits; `unknown_stream` unless the app writes the stream."""
    spec = state.partition(batch.stream, batch.partition)
    if spec.relation is Relation.SOURCE or spec.app != app_of(app):
        raise PenstockError("unknown_stream", f"'{batch.stream}' is not a stream that app '{app_of(app)}' writes")
    _check_shape(batch)
    return state.epochs[batch.stream]


def follow(head: Head, batch: NewBatch, *, now_ms: int) -> tuple[Head, Batch | None]:
    """The head after `batch`, and the batch with its offsets (None: it only raises the watermark)."""
    after = Head(head.epoch, head.first, head.next + batch.count, raised(head.watermark_ms, batch.watermark_ms))
    if batch.count == 0:
        return after, None
    return after, Batch(
        stream=batch.stream,
        partition=batch.partition,
        epoch=head.epoch,
        first=head.next,
        next=after.next,
        encoding=batch.encoding,
        payload=batch.payload,
        min_time_ms=batch.min_time_ms,
        max_time_ms=batch.max_time_ms,
        watermark_ms=batch.watermark_ms,
        appended_at_ms=now_ms,
        trace=batch.trace,
    )


def raised(old_ms: int | None, new_ms: int | None) -> int | None:
    """Watermarks never go back; None is no news."""
    if old_ms is None or new_ms is None:
        return new_ms if old_ms is None else old_ms
    return max(old_ms, new_ms)


def _check_shape(batch: NewBatch) -> None:
    if batch.count < 0 or len(batch.ids) % _ID_BYTES:
        raise PenstockError(
            "bad_request", f"batch for '{batch.stream}': count {batch.count}, {len(batch.ids)} bytes of ids"
        )
