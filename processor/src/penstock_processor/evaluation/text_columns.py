"""Columns of text (CSV) as the declared types. An empty unquoted field is NULL; the rest is read, or refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
import polars as pl

from penstock.codecs.frames import polars_type
from penstock.codecs.json_values import reader, wire_type
from penstock.codecs.text_timestamps import dates_of_text, timestamps_of_text
from penstock.model.stream import Column
from penstock.model.types import DataType, Kind
from penstock_processor.runtime.decode import Decoded
from penstock_processor.runtime.decode_exact import BadRow, series_of_values

__all__ = ["columns_of_text"]

_SHOWN_CHARS = 40


def columns_of_text(texts: pl.DataFrame, columns: Sequence[Column]) -> Decoded:
    """Rows whose every field is of its column's type; columns that the text lacks are NULL, others are left out."""
    bad: dict[int, BadRow] = {}
    series = []
    for column in columns:
        if column.name not in texts.columns:
            nulls = pl.Series(column.name, [None], dtype=polars_type(column.type))
            series.append(nulls.new_from_index(0, texts.height))
            continue
        text = texts[column.name]
        typed = _typed(text, column)
        if typed.null_count() > text.null_count():
            typed = _by_hand(text, typed, column=column, bad=bad)
        series.append(typed)
    frame = pl.DataFrame(series)
    if not bad:
        return Decoded(frame, None, [])
    keep = np.delete(np.arange(texts.height, dtype=np.int64), sorted(bad))
    return Decoded(frame[keep], keep, [bad[row] for row in sorted(bad)])


def _typed(text: pl.Series, column: Column) -> pl.Series:
    """The column as far as it can be read at once; null where it must be read by hand."""
    match column.type.kind:
        case Kind.STRING:
            return text
        case Kind.BOOLEAN:
            lower = pl.col(text.name).str.to_lowercase()
            value = pl.when(lower == "true").then(True).when(lower == "false").then(False)
            return text.to_frame().select(value.alias(text.name))[text.name]
        case Kind.TIMESTAMP:
            return timestamps_of_text(text)
        case Kind.TIMESTAMP_LTZ:
            return timestamps_of_text(text).dt.replace_time_zone("UTC")
        case Kind.DATE:
            return dates_of_text(text)
        case Kind.FLOAT | Kind.DOUBLE:
            number = text.cast(polars_type(column.type), strict=False)
            name = text.name
            return number.to_frame().select(pl.when(pl.col(name).is_finite()).then(pl.col(name)).alias(name))[name]
        case Kind.DECIMAL | Kind.BYTES | Kind.TIME | Kind.ARRAY | Kind.MAP | Kind.ROW:
            return pl.Series(text.name, [None], dtype=polars_type(column.type)).new_from_index(0, len(text))
        case _:
            return text.cast(polars_type(column.type), strict=False)


def _by_hand(text: pl.Series, typed: pl.Series, *, column: Column, bad: dict[int, BadRow]) -> pl.Series:
    """Fill in what the column-wise reading left out, value by value; name what is no value of the type."""
    rows = (typed.is_null() & text.is_not_null()).arg_true()
    read: Callable[[Any], Any] | None = reader(column.type) if _is_text(column.type.kind) else None
    if column.type.is_nested:
        read = _json_reader(column.type)
    values: list[Any] = []
    for row, value in zip(rows, text.gather(rows), strict=True):
        try:
            if read is None:
                raise ValueError(f"'{value[:_SHOWN_CHARS]}' is not {column.type}")
            values.append(read(value))
        except (ValueError, msgspec.MsgspecError) as error:
            values.append(None)
            bad.setdefault(row, BadRow(row, "wrong_type", f"'{column.name}': {error}"))
    return typed.scatter(rows, series_of_values(column, values))


def _json_reader(data_type: DataType) -> Callable[[Any], Any]:
    """A field of JSON text."""
    decode, read = msgspec.json.Decoder(wire_type(data_type)).decode, reader(data_type)
    assert read is not None  # nested types have one
    return lambda text: read(decode(text))


def _is_text(kind: Kind) -> bool:
    """Whether the JSON form of the type is text, so that its reader takes a field as it stands."""
    return kind in (Kind.TIMESTAMP, Kind.TIMESTAMP_LTZ, Kind.DATE, Kind.TIME, Kind.DECIMAL, Kind.BYTES)
