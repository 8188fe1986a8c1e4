"""The bytes of a stream's key: what is hashed for the partition and what a Kafka record has as its key. Pure.

One STRING column: its text, as other producers would write it. Another type: its JSON text (timestamps as epoch
milliseconds, DATE as days, TIME as milliseconds of the day, DECIMAL and BYTES as strings). Several columns: their
JSON array. A single NULL: no key.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import polars as pl

__all__ = ["frame_keys", "key_bytes"]

_encode = msgspec.json.Encoder(decimal_format="string").encode
_NANOSECONDS = 1_000_000  # in a millisecond


def key_bytes(columns: Sequence[Sequence[object]]) -> list[bytes | None]:
    """The key of each event of these key columns, which hold values as `codecs.json_values.reader` gives them."""
    if len(columns) == 1:
        return [
            value.encode() if isinstance(value, str) else None if value is None else _encode(value)
            for value in columns[0]
        ]
    return [_encode(values) for values in zip(*columns, strict=True)]


def frame_keys(frame: pl.DataFrame, names: Sequence[str]) -> list[bytes | None]:
    """The key of each row."""
    return key_bytes([_values(frame.get_column(name)) for name in names])


def _values(column: pl.Series) -> list[object]:
    kind = column.dtype.base_type()
    if kind is pl.Time:
        return (column.to_physical() // _NANOSECONDS).to_list()
    return (column.to_physical() if kind in (pl.Datetime, pl.Date) else column).to_list()
