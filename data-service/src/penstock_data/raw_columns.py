"""Raw events as columns: what a source's batch holds, with the fields that every event has. Pure.

`_position` is `<partition>:<offset>`; `_id` the event's `id` field; `_time` its event time; `_key` its partition key
as text (a composite one as JSON array); `_body` the JSON text exactly as received.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any

import msgspec
import polars as pl

from penstock.codecs.frames import polars_type, series_of
from penstock.codecs.json_values import read_timestamp_ms, reader, wire_type
from penstock.codecs.ndjson import decode_lines
from penstock.codecs.text_timestamps import timestamps_of_text
from penstock.model.batch import Batch
from penstock.model.stream import Column, StreamSpec
from penstock.model.types import STRING, TIMESTAMP, TIMESTAMP_LTZ, Kind
from penstock_data.predicates import PLACE
from penstock_data.query import POSITION

__all__ = ["BODY", "ID", "KEY", "RECEIVED", "TIME", "parsed_columns", "raw_columns", "raw_frame", "raw_lines"]

BODY, ID, KEY, RECEIVED, TIME = "_body", "_id", "_key", "_received_at", "_time"
_NANOS_PER_MS = 1_000_000
_DECODED_AT_ONCE = 2000  # the interpreter is not free for others while a block of events is decoded
_encode = msgspec.json.Encoder(decimal_format="string").encode


def raw_columns(spec: StreamSpec) -> Mapping[str, Column]:
    """The columns of `raw.<stream>`, in order. A declared column of the same name as one of ours is not shown."""
    time_type = spec.column(spec.time_column).type if spec.time_column else TIMESTAMP
    own = [
        Column(POSITION, STRING, nullable=False),
        Column(RECEIVED, TIMESTAMP_LTZ, nullable=False),
        Column(ID, STRING),
        Column(TIME, time_type),
        Column(KEY, STRING),
        Column(BODY, STRING, nullable=False),
    ]
    columns = {column.name: column for column in own}
    for column in spec.columns:
        columns.setdefault(column.name, column)
    return columns


def raw_lines(batch: Batch) -> list[bytes]:
    """The JSON texts of a source's batch, one an event, at offsets from `batch.base` on."""
    lines = decode_lines(batch.payload).split(b"\n")
    if len(lines) != batch.count:
        raise ValueError(f"{batch.stream}: {len(lines)} lines for offsets [{batch.base}, {batch.next})")
    return lines


def raw_frame(
    spec: StreamSpec,
    *,
    partition: int,
    offsets: pl.Series,
    received_ms: pl.Series,
    lines: Sequence[bytes],
    wanted: Collection[str],
) -> pl.DataFrame:
    """The `wanted` columns, and PLACE, of the events at `offsets`: when they were received, and their texts."""
    columns: dict[str, pl.Series] = {PLACE: offsets}
    for name, column in raw_columns(spec).items():
        if name not in wanted:
            continue
        if name == POSITION:
            columns[name] = f"{partition}:" + offsets.cast(pl.String)
        elif name == RECEIVED:
            columns[name] = received_ms.cast(polars_type(column.type))
        elif name == BODY:
            columns[name] = pl.Series([line.decode("utf-8", "replace") for line in lines], dtype=pl.String)
    parsed = [name for name in wanted if name not in columns]
    if parsed:
        columns |= parsed_columns(spec, lines, parsed)
    return pl.DataFrame(columns)


def parsed_columns(spec: StreamSpec, lines: Sequence[bytes], names: Collection[str]) -> dict[str, pl.Series]:
    """The columns `names`, of those that are read from the JSON texts: ID, TIME, KEY and the declared ones."""
    fields = set(names) - {ID, TIME, KEY}
    if TIME in names and spec.time_column:
        fields.add(spec.time_column)
    if KEY in names:
        fields |= set(spec.key)
    columns = tuple(column for column in spec.columns if column.name in fields)
    struct, decoder = _decoder(columns)
    values: list[list[Any]] = [[] for _ in columns]
    ids: list[Any] = []
    for first in range(0, len(lines), _DECODED_AT_ONCE):
        events = _decoded(lines[first : first + _DECODED_AT_ONCE], struct, decoder)
        for i, column_values in enumerate(values):
            column_values += map(attrgetter(f"c{i}"), events)
        if ID in names:
            ids += [event.id for event in events]
    found = {column.name: _series(column, values[i]) for i, column in enumerate(columns)}
    if TIME in names:
        nothing = pl.Series([None] * len(lines), dtype=polars_type(TIMESTAMP))
        found[TIME] = found[spec.time_column] if spec.time_column else nothing
    if ID in names:
        found[ID] = _id_series(ids)
    if KEY in names:
        read = {c.name: _key_values(c, values[i]) for i, c in enumerate(columns) if c.name in spec.key}
        one_text = len(spec.key) == 1 and spec.column(spec.key[0]).type.kind is Kind.STRING
        texts = read[spec.key[0]] if one_text else _key_texts([read[name] for name in spec.key], len(lines))
        found[KEY] = pl.Series(texts, dtype=pl.String)
    return {name: found[name] for name in names}


@lru_cache(maxsize=256)
def _decoder(columns: tuple[Column, ...]) -> tuple[type[Any], Any]:
    """The struct of these columns (c0, c1, ... so that a column may have any name) and a decoder of many of them."""
    fields: list[Any] = [
        (f"c{i}", wire_type(column.type) | None, msgspec.field(name=column.name, default=None))
        for i, column in enumerate(columns)
    ]
    ids = [i for i, column in enumerate(columns) if column.name == "id"]
    if not ids:
        fields.append(("id", Any, None))
    struct = msgspec.defstruct("RawEvent", fields, kw_only=True, gc=False)
    if ids:
        struct.id = property(attrgetter(f"c{ids[0]}"))  # type: ignore[attr-defined]  # a view of the declared column
    return struct, msgspec.json.Decoder(list[struct])  # type: ignore[valid-type]  # made at run time


def _decoded(lines: Sequence[bytes], struct: type[Any], decoder: Any) -> list[Any]:
    """All lines in one call; one by one only when a line does not fit the columns any more."""
    try:
        events: list[Any] = decoder.decode(b"[" + b",".join(lines) + b"]")
    except (msgspec.MsgspecError, RecursionError):
        return [_one(line, struct) for line in lines]
    return events


def _one(line: bytes, struct: type[Any]) -> Any:
    try:
        return msgspec.json.decode(line, type=struct)
    except (msgspec.MsgspecError, RecursionError):
        return struct()


def _read(values: Sequence[Any], read: Callable[[Any], Any] | None) -> Sequence[Any]:
    if read is None:
        return values
    if any(isinstance(value, list | dict | msgspec.Struct) for value in values):
        return [None if value is None else _lenient(read, value) for value in values]
    # Dates and times repeat within a batch; each text is read once.
    known = {value: None if value is None else _lenient(read, value) for value in set(values)}
    return [known[value] for value in values]


def _lenient(read: Callable[[Any], Any], value: Any) -> Any:
    """NULL for what the column cannot hold: `_body` still shows it."""
    try:
        return read(value)
    except ValueError:
        return None


def _key_values(column: Column, values: Sequence[Any]) -> Sequence[Any]:
    """As values of the column: a time is epoch milliseconds, whatever it was written as."""
    return _read(values, reader(column.type))


def _series(column: Column, values: Sequence[Any]) -> pl.Series:
    kind, target = column.type.kind, polars_type(column.type)
    if column.type.is_timestamp:
        return _milliseconds(values).cast(target)
    values = _read(values, reader(column.type))
    if column.type.is_nested:
        return series_of("", values, column.type)
    if kind is Kind.DATE:
        return pl.Series(values, dtype=pl.Int32).cast(target)
    if kind is Kind.TIME:
        return (pl.Series(values, dtype=pl.Int64) * _NANOS_PER_MS).cast(target)
    return pl.Series(values, dtype=target)


def _milliseconds(values: Sequence[Any]) -> pl.Series:
    """Epoch milliseconds; texts of a common form are read together, the others one by one."""
    try:
        texts = pl.Series(values, dtype=pl.String)
    except TypeError:  # numbers, or numbers among texts
        return pl.Series(_read(values, read_timestamp_ms), dtype=pl.Int64)
    found = timestamps_of_text(texts).to_physical()
    left = (found.is_null() & texts.is_not_null()).arg_true()
    if len(left):
        found = found.scatter(left, pl.Series(_read(texts.gather(left).to_list(), read_timestamp_ms), dtype=pl.Int64))
    return found


def _id_series(values: Sequence[Any]) -> pl.Series:
    try:
        return pl.Series(values, dtype=pl.String)
    except TypeError:  # not all are texts
        return pl.Series([_id_text(value) for value in values], dtype=pl.String)


def _id_text(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _key_texts(columns: Sequence[Sequence[Any]], count: int) -> list[str | None]:
    if not columns:
        return [None] * count
    if len(columns) == 1:
        return [None if v is None else v if isinstance(v, str) else _encode(v).decode() for v in columns[0]]
    return [_encode(values).decode() for values in zip(*columns, strict=True)]
