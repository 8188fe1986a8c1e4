"""Batches as Kafka records, one event each, and records as batches again. Pure.

Value: the event's JSON text, exactly as received (sources) or as Penstock writes JSON (derived streams). Key: the
stream's key as text. Headers, all of them optional for whoever reads: `id` (hexadecimal, where the stream has dedupe
columns), `op` and `pending` (tables), `nonfinite` (JSON, columns that JSON cannot say), `traceparent` (W3C, where the
batch has a trace), and `penstock` on the last record of a batch. A record without value carries only a watermark;
other clients skip it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from penstock.codecs.arrow import decode_frame, encode_frame
from penstock.codecs.json_values import reader, wire_type
from penstock.codecs.keys import frame_keys, key_bytes
from penstock.codecs.ndjson import decode_lines, encode_lines
from penstock.errors import PenstockError
from penstock.logs.admissible import raised
from penstock.logs.kafka_rows import RowMarks, rows_from_texts, rows_to_texts
from penstock.model.batch import Batch, Encoding, NewBatch
from penstock.model.stream import Column, Relation, StreamSpec
from penstock.model.traceparent import HEADER as _TRACE
from penstock.model.traceparent import is_sampled, read_traceparent

__all__ = ["BatchCutter", "Headers", "Outgoing", "Record", "newest_mark", "records_of"]

_BATCH, _ID, _OP, _PENDING, _NONFINITE = "penstock", "id", "op", "pending", "nonfinite"
_ID_BYTES = 16

Headers = list[tuple[str, str | bytes | None]]  # the library's type; ours are bytes


class Record(NamedTuple):
    """A record as it was read."""

    offset: int
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] | None
    timestamp_ms: int


class Outgoing(NamedTuple):
    """A record to be written."""

    key: bytes | None
    value: bytes | None
    headers: Headers | None


class _BatchMark(msgspec.Struct, frozen=True, array_like=True):
    """Header `penstock`: what the batch that ends here is beside its events."""

    epoch: int
    count: int
    min_time_ms: int | None
    max_time_ms: int | None
    watermark_ms: int | None
    appended_at_ms: int


_marks = msgspec.json.Decoder(_BatchMark)
_numbers = msgspec.json.Decoder(dict[str, str])


def records_of(
    batch: NewBatch, spec: StreamSpec, *, epoch: int, watermark_ms: int | None, now_ms: int
) -> list[Outgoing]:
    """The records of a batch, the last of them with its mark. `bad_request` if the payload has another count.

    `watermark_ms` is the partition's watermark after this batch, so that the newest mark alone gives it.
    """
    mark = _BatchMark(epoch, batch.count, batch.min_time_ms, batch.max_time_ms, watermark_ms, now_ms)
    ending: Headers = [(_BATCH, msgspec.json.encode(mark))]
    if batch.count == 0:
        return [Outgoing(None, None, ending)]
    source = spec.relation is Relation.SOURCE
    keys, texts, headers = _source_records(batch, spec) if source else _derived_records(batch, spec)
    if len(texts) != batch.count:
        raise PenstockError("bad_request", f"batch for '{batch.stream}': {len(texts)} events, count {batch.count}")
    if batch.trace:
        followed: Headers = [(_TRACE, batch.trace.encode())]
        headers = [[*(own or []), *followed] for own in headers]
    headers[-1] = [*(headers[-1] or []), *ending]
    return list(map(Outgoing._make, zip(keys, texts, headers, strict=True)))


def newest_mark(records: Sequence[Record], *, epoch: int) -> tuple[int | None, int | None, bool]:
    """Of the last records of a partition: the offset after the last event, the watermark, and whether a mark of this
    epoch was among them (else both may lie further back)."""
    events = [record.offset for record in records if record.value is not None]
    found = [_mark_of(record.headers) for record in records if record.headers]
    marks = [mark for mark in found if mark is not None and mark.epoch == epoch]
    watermark_ms = None
    for mark in marks:
        watermark_ms = raised(watermark_ms, mark.watermark_ms)
    return (events[-1] + 1 if events else None), watermark_ms, bool(marks)


class BatchCutter:
    """Makes batches of the records of one partition as they come, in order, from offset `next` on.

    A batch ends where its writer ended it. Records of other producers, which mark nothing, become batches of what was
    there at a time. Marks of older epochs void what they end.
    """

    def __init__(self, spec: StreamSpec, partition: int, *, epoch: int, start: int, rows_max: int) -> None:
        self._spec, self._partition, self._epoch, self._rows_max = spec, partition, epoch, rows_max
        self._ours = not spec.topic  # in topics of others that header would be somebody else's
        self._held: list[Record] = []
        self.next = start  # after the last event that was given out
        self.watermark_ms: int | None = None

    def feed(self, records: Iterable[Record]) -> list[Batch]:
        """The batches that these records complete."""
        out: list[Batch] = []
        held, after = self._held, self._held[-1].offset + 1 if self._held else None
        for record in records:  # once a record: what most records do not need stands behind a test
            offset, value, headers, _ = record
            mark = _mark_of(headers) if headers and self._ours else None
            if value is None:
                out += self.flush()
                self._heed(mark)
                held, after = self._held, None
                continue
            if offset != after and held:
                out += self.flush()  # something that is no event lies between: the events of a batch adjoin
                held = self._held
            held.append(record)
            after = offset + 1
            if mark is not None:
                out += self._end(mark)
                held, after = self._held, None
            elif len(held) >= self._rows_max:
                out += self.flush()
                held, after = self._held, None
        return out

    def flush(self) -> list[Batch]:
        """What is held, as a batch of its own: nothing that would complete it has come."""
        held, self._held = self._held, []
        return [self._batch(held, None)] if held else []

    def _end(self, mark: _BatchMark) -> list[Batch]:
        held, self._held = self._held, []
        before, own = held[: -mark.count], held[-mark.count :]
        out = [self._batch(before, None)] if before else []
        if mark.epoch == self._epoch:
            self._heed(mark)
            out.append(self._batch(own, mark))
        return out

    def _heed(self, mark: _BatchMark | None) -> None:
        if mark is not None and mark.epoch == self._epoch:
            self.watermark_ms = raised(self.watermark_ms, mark.watermark_ms)

    def _batch(self, records: Sequence[Record], mark: _BatchMark | None) -> Batch:
        first, self.next = self.next, records[-1].offset + 1
        source = self._spec.relation is Relation.SOURCE
        return Batch(
            stream=self._spec.name,
            partition=self._partition,
            epoch=self._epoch,
            first=first,
            next=self.next,
            encoding=Encoding.NDJSON_ZSTD if source else Encoding.ARROW,
            payload=encode_lines([r.value or b"" for r in records]) if source else self._frame(records),
            min_time_ms=mark.min_time_ms if mark else None,
            max_time_ms=mark.max_time_ms if mark else None,
            watermark_ms=mark.watermark_ms if mark else None,
            appended_at_ms=mark.appended_at_ms if mark else records[-1].timestamp_ms,
            events=len(records),
            trace=_trace_of(records[:1] if mark else records),  # a batch of ours says it in every record
        )

    def _frame(self, records: Sequence[Record]) -> bytes:
        try:
            frame = rows_from_texts([r.value or b"" for r in records], [_row_marks(r) for r in records], self._spec)
        except (msgspec.MsgspecError, ValueError, KeyError) as error:
            place = f"{self._spec.name}/{self._partition} at {records[0].offset}"
            raise PenstockError(
                "internal", f"{place}: not rows of this stream ({error}); only its app may write to its topic"
            ) from error
        return encode_frame(frame)


def _source_records(
    batch: NewBatch, spec: StreamSpec
) -> tuple[list[bytes | None], list[bytes], list[Headers | None]]:
    texts = decode_lines(batch.payload).split(b"\n")
    headers: list[Headers | None] = [None] * len(texts)
    if spec.dedupe and len(batch.ids) == len(texts) * _ID_BYTES:
        digits = batch.ids.hex().encode()
        size = 2 * _ID_BYTES
        headers = [[(_ID, digits[i : i + size])] for i in range(0, len(digits), size)]
    if not spec.key:
        return [None] * len(texts), texts, headers
    return _keys_of_texts(texts, tuple(spec.column(name) for name in spec.key)), texts, headers


def _derived_records(
    batch: NewBatch, spec: StreamSpec
) -> tuple[list[bytes | None], list[bytes], list[Headers | None]]:
    frame = decode_frame(batch.payload)
    texts, marks = rows_to_texts(frame, spec)
    table = spec.relation is Relation.TABLE
    headers = [_row_headers(mark, table=table) for mark in marks]
    names = list(spec.primary_key or spec.key) if table else list(spec.key)
    return frame_keys(frame, names) if names else [None] * frame.height, texts, headers


def _keys_of_texts(texts: Sequence[bytes], key: tuple[Column, ...]) -> list[bytes | None]:
    """What admission has checked, so it reads; an event of another kind has no key."""
    readers = [reader(column.type) for column in key]
    try:
        events = _key_decoder(key).decode(b"[" + b",".join(texts) + b"]")
        columns: list[list[object]] = [
            [getattr(event, f"c{i}") for event in events]
            if read is None
            else [None if (value := getattr(event, f"c{i}")) is None else read(value) for event in events]
            for i, read in enumerate(readers)
        ]
    except (msgspec.MsgspecError, ValueError):
        # One of them cannot be read: it alone goes without a key.
        return _keys_one_by_one(texts, key)
    return key_bytes(columns)


def _keys_one_by_one(texts: Sequence[bytes], key: tuple[Column, ...]) -> list[bytes | None]:
    if len(texts) > 1:
        return [name for text in texts for name in _keys_of_texts([text], key)]
    return key_bytes([[None]] * len(key))


@lru_cache(maxsize=256)
def _key_decoder(key: tuple[Column, ...]) -> msgspec.json.Decoder[Any]:
    fields: list[Any] = [
        (f"c{i}", wire_type(column.type) | None, msgspec.field(name=column.name, default=None))
        for i, column in enumerate(key)
    ]
    return msgspec.json.Decoder(list[msgspec.defstruct("Key", fields, kw_only=True, gc=False)])  # type: ignore[misc]  # made at run time


def _row_headers(mark: RowMarks, *, table: bool) -> Headers | None:
    headers: Headers = []
    if table:
        headers.append((_OP, mark.op.encode()))
    if mark.pending:
        headers.append((_PENDING, b"true"))
    if mark.numbers:
        headers.append((_NONFINITE, msgspec.json.encode(mark.numbers)))
    return headers or None


def _row_marks(record: Record) -> RowMarks:
    if not record.headers:
        return RowMarks()
    headers = dict(record.headers)
    op, numbers = (headers.get(_OP) or b"+I").decode(), headers.get(_NONFINITE)
    return RowMarks(op, headers.get(_PENDING) == b"true", _numbers.decode(numbers) if numbers else {})


def _mark_of(headers: Sequence[tuple[str, bytes | None]]) -> _BatchMark | None:
    for name, value in headers:
        if name == _BATCH and value:
            try:
                return _marks.decode(value)
            except msgspec.MsgspecError:
                return None  # somebody else's header
    return None


def _trace_of(records: Sequence[Record]) -> str:
    """The first trace that is recorded, also of other producers' records; "" if there is none."""
    for headers in [record.headers for record in records if record.headers]:
        for name, value in headers:
            if name == _TRACE and value:
                trace = read_traceparent(value.decode("ascii", "replace"))
                if trace is not None and is_sampled(trace):
                    return trace
    return ""
