"""Raw events as columns: what a source's batch holds, with the fields that every event has. Pure.

`_position` is `<partition>:<offset>`; `_id` the event's `id` field; `_time` its event time; `_key` its partition key
as text (a composite one as JSON array); `_body` the JSON text exactly as received.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any

import msgspec
import polars as pl

from penstock.codecs.frames import polars_type
from penstock.codecs.json_values import reader, wire_type
from penstock.codecs.ndjson import decode_lines
from penstock.model.batch import Batch
from penstock.model.stream import Column, StreamSpec
from penstock.model.types import STRING, TIMESTAMP, TIMESTAMP_LTZ, Kind
from penstock_data.predicates import PLACE
from penstock_data.query import POSITION

__all__ = ["raw_columns", "raw_frame", "raw_lines"]

_BODY, _ID, _KEY, _RECEIVED, _TIME = "_body", "_id", "_key", "_received_at", "_time"
_NANOS_PER_MS = 1_000_000
_encode = msgspec.json.Encoder(decimal_format="string").encode


def raw_columns(spec: StreamSpec) -> Mapping[str, Column]:
    """The columns of `raw.<stream>`, in order. A declared column of the same name as one of ours is not shown."""
    time_type = spec.column(spec.time_column).type if spec.time_column else TIMESTAMP
    own = [
        Column(POSITION, STRING, nullable=False),
        Column(_RECEIVED, TIMESTAMP_LTZ, nullable=False),
        Column(_ID, STRING),
        Column(_TIME, time_type),
        Column(_KEY, STRING),
        Column(_BODY, STRING, nullable=False),
    ]
    columns = {column.name: column for column in own}
    for column in spec.columns:
        columns.setdefault(column.name, column)
    return columns


def raw_lines(batch: Batch) -> list[bytes]:
    """The JSON texts of a source's batch, one an event."""
    lines = decode_lines(batch.payload).split(b"\n")
    if len(lines) != batch.count:
        raise ValueError(f"{batch.stream}: {len(lines)} lines for offsets [{batch.first}, {batch.next})")
    return lines


def raw_frame(
    spec: StreamSpec, batch: Batch, *, lines: Sequence[bytes], offsets: pl.Series, wanted: Collection[str]
) -> pl.DataFrame:
    """The `wanted` columns, and PLACE, of the events at `offsets`, whose texts are `lines`."""
    columns: dict[str, pl.Series] = {PLACE: offsets}
    for name, column in raw_columns(spec).items():
        if name not in wanted:
            continue
        if name == POSITION:
            columns[name] = f"{batch.partition}:" + offsets.cast(pl.String)
        elif name == _RECEIVED:
            columns[name] = pl.Series([batch.appended_at_ms] * len(lines), dtype=pl.Int64).cast(
                polars_type(column.type)
            )
        elif name == _BODY:
            columns[name] = pl.Series([line.decode("utf-8", "replace") for line in lines], dtype=pl.String)
    parsed = [name for name in wanted if name not in columns]
    if parsed:
        columns |= _parsed(spec, lines, parsed)
    return pl.DataFrame(columns)


def _parsed(spec: StreamSpec, lines: Sequence[bytes], names: Collection[str]) -> dict[str, pl.Series]:
    fields = set(names) - {_ID, _TIME, _KEY}
    if _TIME in names and spec.time_column:
        fields.add(spec.time_column)
    if _KEY in names:
        fields |= set(spec.key)
    columns = tuple(column for column in spec.columns if column.name in fields)
    events = _decoded(lines, *_decoder(columns))
    values = {c.name: _read(map(attrgetter(f"c{i}"), events), reader(c.type)) for i, c in enumerate(columns)}
    found = {column.name: _series(column, values[column.name]) for column in columns}
    if _TIME in names:
        nothing = pl.Series([None] * len(lines), dtype=polars_type(TIMESTAMP))
        found[_TIME] = found[spec.time_column] if spec.time_column else nothing
    if _ID in names:
        found[_ID] = pl.Series([_id_text(event.id) for event in events], dtype=pl.String)
    if _KEY in names:
        found[_KEY] = pl.Series(_key_texts([values[name] for name in spec.key], len(lines)), dtype=pl.String)
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


def _read(values: Iterable[Any], read: Callable[[Any], Any] | None) -> list[Any]:
    if read is None:
        return list(values)
    texts = list(values)
    # Dates and times repeat within a batch; each text is read once.
    known = {text: None if text is None else _lenient(read, text) for text in set(texts)}
    return [known[text] for text in texts]


def _lenient(read: Callable[[Any], Any], value: Any) -> Any:
    """NULL for what the column cannot hold: `_body` still shows it."""
    try:
        return read(value)
    except ValueError:
        return None


def _series(column: Column, values: Sequence[Any]) -> pl.Series:
    kind, target = column.type.kind, polars_type(column.type)
    if column.type.is_timestamp:
        return pl.Series(values, dtype=pl.Int64).cast(target)
    if kind is Kind.DATE:
        return pl.Series(values, dtype=pl.Int32).cast(target)
    if kind is Kind.TIME:
        return (pl.Series(values, dtype=pl.Int64) * _NANOS_PER_MS).cast(target)
    return pl.Series(values, dtype=target)


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
