"""Rows of NDJSON lines by msgspec, value by value as admission reads them: what the fast path must equal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import msgspec
import polars as pl

from penstock.codecs.frames import polars_type, series_of
from penstock.codecs.json_values import OutOfRange, reader, wire_type
from penstock.codecs.text_timestamps import timestamps_of_text
from penstock.model.stream import Column
from penstock.model.types import Kind

__all__ = ["BadRow", "ExactReader", "series_of_values"]

#: From here on a column of timestamps is read at once; before, the fixed cost of an expression is more than reading.
_COLUMN_ROWS_MIN = 256
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


@dataclass(frozen=True, slots=True)
class BadRow:
    """A line that is not a row of the stream: its index, the code of the rejected event, and what is wrong."""

    row: int
    code: str
    detail: str


class ExactReader:
    """Reads lines as rows of `columns`: the last of duplicate keys wins, unknown fields are skipped."""

    def __init__(self, columns: Sequence[Column], *, forbid_unknown: bool = False) -> None:
        self._columns = tuple(columns)
        fields = [
            (f"c{i}", wire_type(c.type) | None, msgspec.field(default=None, name=c.name))
            for i, c in enumerate(self._columns)
        ]
        self._decoder = msgspec.json.Decoder(
            msgspec.defstruct("Row", fields, gc=False, forbid_unknown_fields=forbid_unknown)
        )

    def read(self, lines: Sequence[bytes]) -> tuple[pl.DataFrame, list[BadRow]]:
        """The frame of all good lines, in order, and the bad ones (their indices are missing from the frame)."""
        bad: dict[int, BadRow] = {}
        rows = self._rows(lines, bad)
        series = [self._series(i, rows, bad) for i in range(len(self._columns))]
        frame = pl.DataFrame(series) if series else pl.DataFrame()
        if bad:
            keep = [i for i in range(len(lines)) if i not in bad]
            frame = frame[keep]
        return frame, [bad[i] for i in sorted(bad)]

    def _rows(self, lines: Sequence[bytes], bad: dict[int, BadRow]) -> list[Any]:
        text = b"\n".join(lines)
        try:
            if not text.isascii():
                text.decode()  # msgspec skips unknown fields without looking at their bytes
            # It takes any white space between two objects; `}`, newline, `{` cannot be inside of one.
            if len(lines) == 1 or text.count(b"}\n{") == len(lines) - 1:
                rows: list[Any] = self._decoder.decode_lines(text)
                if len(rows) == len(lines):
                    return rows
        except _UNREADABLE:
            pass  # one of them is bad: find out which
        empty = self._decoder.decode(b"{}")
        rows = []
        for i, line in enumerate(lines):
            try:
                line.decode()
                rows.append(self._decoder.decode(line))
            except msgspec.ValidationError as error:
                rows.append(empty)
                code = "unknown_field" if "unknown field" in str(error) else "wrong_type"
                bad[i] = BadRow(i, code, self._named(str(error)))
            except _UNREADABLE as error:
                rows.append(empty)
                bad[i] = BadRow(i, "bad_json", f"not a JSON object: {error}")
        return rows

    def _series(self, index: int, rows: list[Any], bad: dict[int, BadRow]) -> pl.Series:
        column = self._columns[index]
        values = list(map(attrgetter(f"c{index}"), rows))
        read = reader(column.type)
        if read is None:
            return pl.Series(column.name, values, dtype=polars_type(column.type))
        if column.type.is_timestamp and len(values) >= _COLUMN_ROWS_MIN and all(type(v) is str for v in values):
            parsed = timestamps_of_text(pl.Series(column.name, values, dtype=pl.String))
            if not parsed.null_count():
                return parsed.cast(polars_type(column.type)) if column.type.kind is Kind.TIMESTAMP else _zoned(parsed)
        return series_of_values(column, _read_all(column, values, read, bad))

    def _named(self, detail: str) -> str:
        """msgspec's path names the field as it stands in JSON already: `... - at `$.price``."""
        return detail.replace("`$.", "`")


def series_of_values(column: Column, values: list[Any]) -> pl.Series:
    """The column of values as `codecs.json_values.reader` makes them."""
    match column.type.kind:
        case Kind.TIMESTAMP:
            return pl.Series(column.name, values, dtype=pl.Int64).cast(pl.Datetime("ms"))
        case Kind.TIMESTAMP_LTZ:
            return _zoned(pl.Series(column.name, values, dtype=pl.Int64).cast(pl.Datetime("ms")))
        case Kind.DATE:
            return pl.Series(column.name, values, dtype=pl.Int32).cast(pl.Date)
        case Kind.TIME:
            return (pl.Series(column.name, values, dtype=pl.Int64) * 1_000_000).cast(pl.Time)
        case Kind.ARRAY | Kind.MAP | Kind.ROW:
            return series_of(column.name, values, column.type)
        case _:
            return pl.Series(column.name, values, dtype=polars_type(column.type))


def _read_all(column: Column, values: list[Any], read: Callable[[Any], Any], bad: dict[int, BadRow]) -> list[Any]:
    try:
        return [None if v is None else read(v) for v in values]
    except ValueError:
        pass  # one of them is bad: find out which
    out: list[Any] = []
    for i, value in enumerate(values):
        try:
            out.append(None if value is None else read(value))
        except ValueError as error:
            out.append(None)
            code = "out_of_range" if isinstance(error, OutOfRange) else "wrong_type"
            bad.setdefault(i, BadRow(i, code, f"{column.name}: {error}"))
    return out


def _zoned(series: pl.Series) -> pl.Series:
    return series.dt.replace_time_zone("UTC")
