"""Rows of a typed frame as JSON, one object a line, vectorised. The one place that knows how SQL values look in JSON.

BOOLEAN and integers as such, FLOAT and DOUBLE as the shortest text that reads back the same, DECIMAL as a string with
its scale, TIMESTAMP `2018-01-01T00:00:00.000`, TIMESTAMP_LTZ with `Z`, DATE and TIME in ISO form, BYTES in base64,
NULL, NaN and infinities as null. Text stays UTF-8. ARRAY is an array, ROW an object, MAP an object, its keys as text.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal

import msgspec
import polars as pl

from penstock.codecs.metrics import NONFINITE_VALUES
from penstock.codecs.nested import JsonValue, part_writer
from penstock.model.stream import Column
from penstock.model.types import DataType, Kind

__all__ = ["SMALL_ROWS", "JsonValue", "json_frame", "json_value", "nested_texts", "rows_to_lines",
           "rows_to_ndjson"]  # fmt: skip

#: Up to here rows are written one by one: the vectorised writer costs 0.2 ms before its first row (measured), a wait
#: that an event alone in its batch need not have.
SMALL_ROWS = 32

_encode = msgspec.json.Encoder().encode
_TIMESTAMP = "%Y-%m-%dT%H:%M:%S%.3f"


def rows_to_ndjson(frame: pl.DataFrame, columns: Sequence[Column]) -> bytes:
    """The rows of `frame`, its `columns` in that order (others are left out), one JSON object and a newline each."""
    if frame.height == 0:
        return b""
    if any(column.type.is_nested for column in columns):
        return b"".join(line + b"\n" for line in _nested_rows_to_lines(frame, columns))
    out = io.BytesIO()
    json_frame(frame, columns).write_ndjson(out)
    return out.getvalue()


def rows_to_lines(frame: pl.DataFrame, columns: Sequence[Column]) -> list[bytes]:
    """As `rows_to_ndjson`, one element a row, without the newline."""
    # FLOAT is left to Polars: as a Python float it would show digits that a 32-bit number does not have.
    if any(column.type.is_nested for column in columns):
        return _nested_rows_to_lines(frame, columns)
    if frame.height <= SMALL_ROWS and all(column.type.kind is not Kind.FLOAT for column in columns):
        return _few_rows_to_lines(frame, [column.name for column in columns])
    return rows_to_ndjson(frame, columns).split(b"\n")[:-1]


def json_frame(frame: pl.DataFrame, columns: Sequence[Column]) -> pl.DataFrame:
    """`columns` of `frame` with every value in the form that JSON has for it, ARRAY, MAP and ROW as JSON text.

    Counts what becomes null.
    """
    floats = [c.name for c in columns if c.type.kind in (Kind.FLOAT, Kind.DOUBLE)]
    if floats:
        lost = frame.select(pl.sum_horizontal((~pl.col(name).is_finite()).sum() for name in floats)).item()
        if lost:
            NONFINITE_VALUES.inc(lost)
    shown = frame.select(_json_column(column) for column in columns)
    nested = [column for column in columns if column.type.is_nested]
    return shown.with_columns(nested_texts(frame[c.name], c.type) for c in nested) if nested else shown


def nested_texts(values: pl.Series, data_type: DataType) -> pl.Series:
    """An ARRAY, MAP or ROW column as JSON texts."""
    show = part_writer(data_type, json_value)
    texts = [None if value is None else _encode(show(value)).decode() for value in values.to_list()]
    return pl.Series(values.name, texts, dtype=pl.String)


def json_value(value: object) -> JsonValue:
    """One Python value (as Polars gives it) in the form that JSON has for it; TypeError for other types."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case Decimal():
            return f"{value:f}"
        case datetime():
            local = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
            return local.isoformat(timespec="milliseconds") + ("Z" if value.tzinfo else "")
        case date():
            return value.isoformat()
        case time():
            return value.isoformat("milliseconds" if value.microsecond else "seconds")
        case bytes():
            return base64.b64encode(value).decode()
        case list():
            return [json_value(each) for each in value]
        case dict():
            return {name: json_value(each) for name, each in value.items()}
        case _:
            raise TypeError(f"{type(value).__name__} is no SQL value")


def _nested_rows_to_lines(frame: pl.DataFrame, columns: Sequence[Column]) -> list[bytes]:
    names = [column.name for column in columns]
    show = [part_writer(column.type, json_value) for column in columns]
    rows = zip(*(frame.get_column(name).to_list() for name in names), strict=True)
    return [_encode({n: s(v) for n, s, v in zip(names, show, row, strict=True)}) for row in rows]


def _few_rows_to_lines(frame: pl.DataFrame, names: Sequence[str]) -> list[bytes]:
    lines = []
    lost = 0
    for row in zip(*(frame.get_column(name).to_list() for name in names), strict=True):
        lost += sum(1 for value in row if isinstance(value, float) and not math.isfinite(value))
        lines.append(_encode({name: json_value(value) for name, value in zip(names, row, strict=True)}))
    if lost:
        NONFINITE_VALUES.inc(lost)
    return lines


def _json_column(column: Column) -> pl.Expr:
    value = pl.col(column.name)
    match column.type.kind:
        case Kind.DECIMAL:
            return value.cast(pl.String)
        case Kind.TIMESTAMP:
            return value.dt.to_string(_TIMESTAMP)
        case Kind.TIMESTAMP_LTZ:
            return value.dt.to_string(_TIMESTAMP + "Z")
        case Kind.DATE:
            return value.dt.to_string("%Y-%m-%d")
        case Kind.TIME:
            return value.dt.to_string("%H:%M:%S%.f")
        case Kind.BYTES:
            return value.bin.encode("base64")
        case Kind.FLOAT | Kind.DOUBLE:
            return pl.when(value.is_finite()).then(value)
        case _:
            return value
