"""Rows of NDJSON by Polars' reader, with a proof per row that msgspec would have read the same.

Polars differs from msgspec where (measured with 2.1): a key stands twice (its first value wins), a number or an
object stands for a STRING (it becomes text), an escape is a lone surrogate. The proof counts: in a line without white
space before a colon, every key token ends in `":`, so #`":` >= #keys >= #declared keys >= #non-null cells. Where the
first equals the last there is no duplicate, no unknown field and no explicit null; where the string values among them
equal the non-null text cells, no text came from another type. Rows without the proof are read exactly.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from penstock.codecs.frames import polars_type
from penstock.codecs.json_values import TIMESTAMP_MAX_MS, TIMESTAMP_MIN_MS
from penstock.codecs.text_timestamps import dates_of_text, timestamps_of_text
from penstock.model.stream import Column
from penstock.model.types import Kind

__all__ = ["FAST_KINDS", "read_fast"]

#: Kinds that this path reads; a stream with a column of another kind is read exactly.
FAST_KINDS = frozenset(
    {Kind.BOOLEAN, Kind.TINYINT, Kind.SMALLINT, Kind.INT, Kind.BIGINT, Kind.FLOAT, Kind.DOUBLE, Kind.STRING,
     Kind.DATE, Kind.TIMESTAMP, Kind.TIMESTAMP_LTZ}
)  # fmt: skip

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_QUOTE, _COLON, _NEWLINE, _SPACE = 0x22, 0x3A, 0x0A, 0x20

Mask = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]


def read_fast(text: bytes, columns: Sequence[Column], *, count: int) -> tuple[pl.DataFrame, Mask | None] | None:
    """The frame of all `count` lines and a mask of the rows that are proven (None: all are); None: not sure."""
    if b"\\" in text and _SURROGATE.search(text):
        return None
    first = text[: text.find(b"\n")] if b"\n" in text else text
    schema = _schema(first, columns)
    try:
        raw = pl.read_ndjson(io.BytesIO(text), schema=schema)
    except (pl.exceptions.PolarsError, UnicodeDecodeError):
        return None
    if raw.height != count:
        return None
    proven = _provable(text, raw)
    series = []
    for column in columns:
        typed = _typed(raw[column.name], column)
        if typed.null_count() != raw[column.name].null_count():
            lost = (typed.is_null() & raw[column.name].is_not_null()).to_numpy()
            proven = ~lost if proven is None else proven & ~lost
        series.append(typed)
    return pl.DataFrame(series), proven


def _schema(first: bytes, columns: Sequence[Column]) -> dict[str, pl.DataType]:
    """How to ask Polars: times as text or as integers, whichever the first line has."""
    try:
        sample = msgspec.json.decode(first, type=dict[str, object])
    except (msgspec.DecodeError, UnicodeDecodeError):
        sample = {}
    schema: dict[str, pl.DataType] = {}
    for column in columns:
        if column.type.is_timestamp:
            schema[column.name] = pl.Int64() if isinstance(sample.get(column.name), int) else pl.String()
        elif column.type.kind is Kind.DATE:
            schema[column.name] = pl.String()
        elif column.type.is_integer:
            schema[column.name] = pl.Int64()  # Polars' reader knows no narrower ones
        elif column.type.kind is Kind.FLOAT:
            schema[column.name] = pl.Float64()
        else:
            schema[column.name] = polars_type(column.type)
    return schema


def _provable(text: bytes, raw: pl.DataFrame) -> Mask | None:
    """Rows for which the counts agree; None when all do."""
    data: Bytes = np.frombuffer(text, dtype=np.uint8)
    colons = np.flatnonzero(data == _COLON)
    before = data[colons - 1]  # a text that begins with a colon is no JSON object, and Polars has read it
    keys = colons[before == _QUOTE]
    spaced = colons[before <= _SPACE]
    strings = keys[_value_starts(data, keys) == _QUOTE]
    textual = [name for name, dtype in raw.schema.items() if dtype == pl.String]
    cells = sum(raw.height - raw[name].null_count() for name in raw.columns)
    text_cells = sum(raw.height - raw[name].null_count() for name in textual)
    if len(keys) == cells and len(strings) == text_cells and not len(spaced):
        return None
    ends = np.append(np.flatnonzero(data == _NEWLINE), len(data))
    same_keys = _per_line(keys, ends) == _filled(raw, raw.columns)
    same_strings = _per_line(strings, ends) == _filled(raw, textual)
    unspaced = _per_line(spaced, ends) == 0
    mask: Mask = np.logical_and(np.logical_and(same_keys, same_strings), unspaced)
    return mask


def _value_starts(data: Bytes, keys: npt.NDArray[np.intp]) -> Bytes:
    """The first byte of each value: after the colon, or after one byte of white space (as most encoders write it)."""
    last = len(data) - 1
    after = data[np.minimum(keys + 1, last)]
    blank = np.flatnonzero(after <= _SPACE)
    if len(blank):
        after[blank] = data[np.minimum(keys[blank] + 2, last)]
    return after


def _per_line(positions: npt.NDArray[np.intp], ends: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    return np.diff(np.searchsorted(positions, ends), prepend=0)


def _filled(raw: pl.DataFrame, names: Sequence[str]) -> npt.NDArray[np.intp]:
    if not names:
        return np.zeros(raw.height, dtype=np.intp)
    counts = raw.select(n=pl.sum_horizontal(pl.col(list(names)).is_not_null().cast(pl.Int64)))["n"]
    return counts.to_numpy().astype(np.intp)


def _typed(raw: pl.Series, column: Column) -> pl.Series:
    """The column's own type; null where the value must be read by hand."""
    match column.type.kind:
        case Kind.DATE:
            return dates_of_text(raw)
        case Kind.TIMESTAMP | Kind.TIMESTAMP_LTZ:
            if raw.dtype == pl.String:
                times = timestamps_of_text(raw)
            else:
                inside = pl.col(raw.name).is_between(TIMESTAMP_MIN_MS, TIMESTAMP_MAX_MS)
                kept = raw.to_frame().select(pl.when(inside).then(pl.col(raw.name)).alias(raw.name))
                times = kept[raw.name].cast(pl.Datetime("ms"))
            return times if column.type.kind is Kind.TIMESTAMP else times.dt.replace_time_zone("UTC")
        case Kind.FLOAT:
            narrow = raw.cast(pl.Float32)
            if narrow.is_infinite().any():
                kept = pl.DataFrame([narrow]).select(pl.when(pl.col(raw.name).is_finite()).then(pl.col(raw.name)))
                return kept[raw.name]
            return narrow
        case Kind.TINYINT | Kind.SMALLINT | Kind.INT:
            return raw.cast(polars_type(column.type), strict=False)
        case _:
            return raw
