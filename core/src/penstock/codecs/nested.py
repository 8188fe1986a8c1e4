"""ARRAY, MAP and ROW columns as JSON texts and back: what stores hold, and what a format has that knows only text."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import numpy as np
import polars as pl

from penstock.codecs.frames import series_of
from penstock.codecs.json_values import reader, wire_type
from penstock.model.types import DataType, Kind

__all__ = ["JsonValue", "part_writer", "series_of_texts"]

JsonValue = bool | int | float | str | None | list["JsonValue"] | dict[str, "JsonValue"]

_encode = msgspec.json.Encoder().encode


def part_writer(data_type: DataType, scalar: Callable[[Any], JsonValue]) -> Callable[[Any], JsonValue]:
    """From the Python value of a column (as Polars gives it) to what JSON has for it; `scalar` does plain ones.

    ARRAY: array. ROW: object. MAP: object, its keys as text.
    """
    match data_type.kind:
        case Kind.ARRAY:
            element = part_writer(data_type.element, scalar)
            return lambda values: None if values is None else [element(value) for value in values]
        case Kind.MAP:
            key, part = (part_writer(each, scalar) for each in data_type.key_and_value)
            return lambda pairs: (
                None if pairs is None else {_key_text(key(pair["key"])): part(pair["value"]) for pair in pairs}
            )
        case Kind.ROW:
            parts = [(name, part_writer(each, scalar)) for name, each in data_type.parts]
            return lambda row: None if row is None else {name: show(row[name]) for name, show in parts}
        case Kind.FLOAT:  # as a Python float it would show digits that a 32-bit number does not have
            return lambda value: scalar(value if value is None else float(str(np.float32(value))))
    return scalar


def series_of_texts(name: str, texts: Iterable[str | None], data_type: DataType) -> pl.Series:
    """The column of JSON texts of an ARRAY, MAP or ROW. ValueError or msgspec.MsgspecError for other texts."""
    decode, read = msgspec.json.Decoder(wire_type(data_type)).decode, reader(data_type)
    assert read is not None  # nested types have one
    return series_of(name, [None if text is None else read(decode(text)) for text in texts], data_type)


def _key_text(value: JsonValue) -> str:
    return value if isinstance(value, str) else _encode(value).decode()
