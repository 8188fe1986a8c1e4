"""Batches as rows that subscribers can be shown: which rows, their keys, and their columns as JSON. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import msgspec
import polars as pl
import xxhash

from penstock.codecs.arrow import decode_frame
from penstock.codecs.frames import polars_type
from penstock.codecs.json_values import reader, wire_type
from penstock.codecs.ndjson import decode_lines
from penstock.codecs.rows import SMALL_ROWS, json_frame, json_value, rows_to_lines
from penstock.model.batch import OP_COLUMN, PENDING_COLUMN, Batch, Encoding, Op
from penstock.model.stream import Column, Relation, StreamSpec
from penstock.model.types import Kind

__all__ = ["Predicate", "Row", "Rows", "SnapshotRows", "key_columns", "key_texts"]

#: A compiled filter: a Boolean for each row, without nulls (`penstock.expressions.predicate`).
Predicate = Callable[[pl.DataFrame], pl.Series]

_encode = msgspec.json.Encoder().encode
_INSERT, _DELETE = int(Op.INSERT), int(Op.DELETE)
_OP_TEXTS = [op.text.encode() for op in Op]


class Row(msgspec.Struct, frozen=True, gc=False):
    """One event: its offset, columns as a JSON object, key as a JSON value; for tables `op` and `complete`."""

    offset: int
    columns: bytes
    key: bytes | None
    op: bytes | None
    complete: bytes | None


class Rows:
    """The events of one batch with offsets `[start, stop)`, decoded once for all filters and encodings."""

    def __init__(self, spec: StreamSpec, batch: Batch, start: int, *, stop: int | None = None) -> None:
        self._spec = spec
        self._batch = batch
        self._skip = max(0, start - batch.base)
        self.next = batch.next if stop is None else min(batch.next, stop)
        self.first = min(batch.base + self._skip, self.next)

    def select(self, predicate: Predicate | None, mandatory: Predicate | None = None) -> list[Row]:
        """The rows for which both are true, in order; all of them without any.

        A deletion that carries its key columns only passes `predicate`: nobody can tell what the rest of the row was.
        It does not pass `mandatory` unless the key decides: keys of rows that a caller may not see are not shown.
        """
        if predicate is None:
            return self._rows(None if mandatory is None else mandatory(self.frame).arg_true().to_list())
        matches = predicate(self.frame)
        if OP_COLUMN in self.frame.columns and (self.frame[OP_COLUMN] == _DELETE).any():
            others = [c.name for c in self._spec.columns if c.name not in self._spec.primary_key]
            bare = [pl.col(OP_COLUMN) == _DELETE, *(pl.col(name).is_null() for name in others)]
            matches = matches | self.frame.select(pl.all_horizontal(bare)).to_series()
        if mandatory is not None:
            matches = matches & mandatory(self.frame)
        return self._rows(matches.arg_true().to_list())

    @cached_property
    def frame(self) -> pl.DataFrame:
        """The typed rows, with `$op` and `$pending` where the payload has them."""
        if self._batch.encoding is Encoding.NDJSON_ZSTD:
            return _lenient_frame(self._lines, self._spec.columns)
        return decode_frame(self._batch.payload).slice(self._skip, self.next - self.first)

    @cached_property
    def _lines(self) -> list[bytes]:
        return decode_lines(self._batch.payload).split(b"\n")[self._skip : self._skip + self.next - self.first]

    def _rows(self, indices: list[int] | None) -> list[Row]:
        if self._batch.encoding is Encoding.NDJSON_ZSTD:
            return self._source_rows(indices)
        frame = self.frame if indices is None else self.frame[indices]
        if frame.height == 0:
            return []
        offsets = range(self.first, self.next) if indices is None else [self.first + i for i in indices]
        return _typed_rows(frame, offsets, self._spec)

    def _source_rows(self, indices: list[int] | None) -> list[Row]:
        """Source events go out as they came in: unknown fields, number text and all."""
        names = key_columns(self._spec)
        numbers = range(len(self._lines)) if indices is None else indices
        rows = []
        for i in numbers:
            line = self._lines[i]
            if self._spec.topic and _object(line) is None:
                continue  # no admission has seen it; the processor lists it where an app reads the topic
            key = _key_of([_field(line, name) for name in names]) if names else None
            rows.append(Row(self.first + i, line, key, None, None))
        return rows


class SnapshotRows:
    """The current rows of a table, in an order that does not change with the table: by a hash of the key.

    `offset` of a row is that hash, from 1 on, so "all rows after this one" means the same in the next snapshot.
    """

    def __init__(
        self,
        spec: StreamSpec,
        frame: pl.DataFrame,
        predicate: Predicate | None,
        *,
        mandatory: Predicate | None = None,
    ) -> None:
        self._spec = spec
        for condition in (mandatory, predicate):
            if condition is not None:
                frame = frame.filter(condition(frame))
        keys = key_texts(frame, spec)
        hashes = pl.Series([max(1, xxhash.xxh3_64_intdigest(key or b"") >> 1) for key in keys], dtype=pl.Int64)
        order = hashes.arg_sort()
        self._frame = frame[order]
        self._hashes: list[int] = hashes[order].to_list()

    def after(self, key_hash: int, *, limit: int) -> tuple[list[Row], bool]:
        """The next rows, at most `limit` plus those that share the last one's hash; True if there are no more."""
        first = bisect_right(self._hashes, key_hash)
        last = min(first + limit, len(self._hashes))
        while 0 < last < len(self._hashes) and self._hashes[last] == self._hashes[last - 1]:
            last += 1
        rows = _typed_rows(self._frame[first:last], self._hashes[first:last], self._spec) if last > first else []
        return rows, last >= len(self._hashes)


def _typed_rows(frame: pl.DataFrame, offsets: Sequence[int], spec: StreamSpec) -> list[Row]:
    lines = rows_to_lines(frame, spec.columns)
    keys = key_texts(frame, spec)
    if spec.relation is not Relation.TABLE:
        return [Row(*row, None, None) for row in zip(offsets, lines, keys, strict=True)]
    ops = frame[OP_COLUMN].to_list() if OP_COLUMN in frame.columns else [_INSERT] * frame.height
    if _DELETE in ops:
        deleted = [i for i, op in enumerate(ops) if op == _DELETE]
        columns = [c for c in spec.columns if c.name in spec.primary_key]
        for i, line in zip(deleted, rows_to_lines(frame[deleted], columns), strict=True):
            lines[i] = line
    pending = frame[PENDING_COLUMN].to_list() if PENDING_COLUMN in frame.columns else [False] * frame.height
    return [
        Row(offset, line, key, _OP_TEXTS[op], b"false" if open_window else b"true")
        for offset, line, key, op, open_window in zip(offsets, lines, keys, ops, pending, strict=True)
    ]


def key_columns(spec: StreamSpec) -> tuple[str, ...]:
    """The columns of the envelope's `k`: the primary key of a table, the partition key of a stream."""
    return spec.primary_key if spec.relation is Relation.TABLE and spec.primary_key else spec.key


def key_texts(frame: pl.DataFrame, spec: StreamSpec) -> Sequence[bytes | None]:
    """`k` of each row as a JSON value: the key as a string, a composite key as its JSON array in a string."""
    names = key_columns(spec)
    if not names:
        return [None] * frame.height
    if frame.height <= SMALL_ROWS:  # as in the codec: for few rows the fixed cost of a frame is most of the work
        values = zip(*(frame.get_column(name).to_list() for name in names), strict=True)
        return [_key_of([json_value(value) for value in row]) for row in values]
    shown = json_frame(frame, [spec.column(name) for name in names])
    if len(names) == 1:
        return [_key_of([value]) for value in shown.to_series().to_list()]
    return [_key_of(row) for row in shown.rows()]


def _key_of(values: Sequence[object]) -> bytes:
    if len(values) > 1:
        return _encode(_encode(list(values)).decode())
    value = values[0]
    if value is None:
        return b"null"
    return _encode(value if isinstance(value, str) else _encode(value).decode())


def _field(line: bytes, name: str) -> object:
    return msgspec.json.decode(line, type=dict[str, Any]).get(name)


def _lenient_frame(lines: Sequence[bytes], columns: Sequence[Column]) -> pl.DataFrame:
    """Source events as columns for a filter; what does not fit its column is NULL (the processor rejects it)."""
    objects = [_object(line) or {} for line in lines]
    series = []
    for column in columns:
        wire, read = wire_type(column.type) | None, reader(column.type)
        values = [_lenient(o.get(column.name), wire, read=read) for o in objects]
        series.append(_series(values, column))
    return pl.DataFrame(series)


def _object(line: bytes) -> dict[str, msgspec.Raw] | None:
    """The fields of a JSON object; None if it is none, which only topics that others fill have."""
    try:
        return msgspec.json.decode(line, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _lenient(raw: msgspec.Raw | None, wire: Any, *, read: Callable[[Any], Any] | None) -> object:
    if raw is None:
        return None
    try:
        value = msgspec.json.decode(raw, type=wire)
        return value if read is None or value is None else read(value)
    except ValueError:
        return None


def _series(values: list[object], column: Column) -> pl.Series:
    dtype = polars_type(column.type)
    if column.type.is_timestamp:
        return pl.Series(column.name, values, dtype=pl.Int64).cast(dtype)
    if column.type.kind is Kind.DATE:
        return pl.Series(column.name, values, dtype=pl.Int32).cast(dtype)
    if column.type.kind is Kind.TIME:
        return (pl.Series(column.name, values, dtype=pl.Int64) * 1_000_000).cast(dtype)
    return pl.Series(column.name, values, dtype=dtype)
