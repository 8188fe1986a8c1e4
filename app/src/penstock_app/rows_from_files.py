"""Reads event files for `penstock send`: NDJSON or CSV, plain or gzip, to JSON lines typed by the columns."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from penstock.codecs.csv_records import read_records, typed
from penstock.errors import PenstockError

__all__ = ["EventFile", "Numbered", "StreamShape", "csv_rows", "json_rows"]

MARK_BYTES = 8
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class StreamShape:
    """What `GET /v1/streams/{stream}` says: column name -> SQL type, and the dedupe columns."""

    types: dict[str, str]
    dedupe: Sequence[str]


@dataclass(frozen=True, slots=True)
class Numbered:
    """One event as a JSON line, with the number of its row (from 0) and the line (from 1) on which it starts."""

    row: int
    place: int
    line: bytes


class EventFile:
    """An open file of events. `bad_request` names what cannot be opened or read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._raw = path.open("rb")
            self.size_bytes = path.stat().st_size
        except OSError as error:
            raise PenstockError("bad_request", f"{path}: {error.strerror}") from error
        self._file: Iterable[bytes] = gzip.GzipFile(fileobj=self._raw) if path.suffix == ".gz" else self._raw

    def close(self) -> None:
        """Close it; afterwards everything counts as read."""
        self._raw.close()

    @property
    def fraction_read(self) -> float:
        """How far the reading is, 0 to 1, by bytes of the file as it lies there (compressed ones too)."""
        if self._raw.closed or not self.size_bytes:
            return 1.0
        return min(1.0, self._raw.tell() / self.size_bytes)

    def mark(self) -> str:
        """Short hash of the content: rows without an id get `<mark>-<row>`, so a repeated send adds nothing."""
        digest = hashlib.sha256()
        with self._path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
        return digest.hexdigest()[: 2 * MARK_BYTES]

    def rows(self, shape: StreamShape, *, mark: str | None) -> Iterator[Numbered]:
        """The events in order. With `mark`, one without an `id` gets one.

        CSV (by the file's name): an empty unquoted field is NULL, other fields are read as the declared type; a
        column that the stream does not declare is sent as text. `bad_request` names line and column.
        """
        read = csv_rows if self._path.name.removesuffix(".gz").endswith(".csv") else json_rows
        try:
            for row in read(self._file, shape):
                yield row if mark is None else _with_id(row, f"{mark}-{row.row}")
        except PenstockError as error:
            raise PenstockError(error.code, f"{self._path}: {error.detail}") from error
        except (OSError, EOFError, zlib.error) as error:
            raise PenstockError("bad_request", f"{self._path}: {error}") from error


def json_rows(lines: Iterable[bytes], _shape: StreamShape | None = None, *, first: int = 0) -> Iterator[Numbered]:
    """Lines that are not blank, as they are; whether they are events is for the server to say.

    `first` counts lines and rows that came before (they are the same where nothing was blank).
    """
    number = first
    for place, line in enumerate(lines, first + 1):
        if text := (line.removeprefix(_BYTE_ORDER_MARK) if place == 1 else line).strip():
            yield Numbered(number, place, text)
            number += 1


def csv_rows(lines: Iterable[bytes], shape: StreamShape) -> Iterator[Numbered]:
    """Records under a header line, as JSON objects with values of the declared types."""
    records = read_records(lines)
    _, header = next(records, (1, []))
    names = [name or "" for name in header]
    if "" in names or len(set(names)) < len(names):
        raise PenstockError("bad_request", "line 1: the header needs a name of its own for every column")
    types = [shape.types.get(name, "STRING") for name in names]
    for number, (place, fields) in enumerate(records):
        if len(fields) != len(names):
            raise PenstockError("bad_request", f"line {place}: {len(fields)} fields; the header has {len(names)}")
        event = {
            name: _value(text, sql_type, name=name, line=place)
            for name, text, sql_type in zip(names, fields, types, strict=True)
        }
        yield Numbered(number, place, msgspec.json.encode(event))


def _value(text: str | None, sql_type: str, *, name: str, line: int) -> object:
    try:
        return typed(text, sql_type.split("(")[0])
    except ValueError:
        raise PenstockError("bad_request", f"line {line}, column {name}: '{text}' is not {sql_type}") from None


class _Identified(msgspec.Struct):
    id: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


def _with_id(row: Numbered, event_id: str) -> Numbered:
    try:
        found = msgspec.json.decode(row.line, type=_Identified).id
    except msgspec.DecodeError:
        return row  # not an object: the server names the place; nothing is repaired in silence
    if found is msgspec.UNSET:
        # Put in front of the text as it is: number text and double fields reach the audit unchanged.
        rest = row.line[1:].lstrip()
        comma = b"" if rest.startswith(b"}") else b","
        return Numbered(row.row, row.place, b'{"id":"%b"%b%b' % (event_id.encode(), comma, rest))
    if bytes(found) == b"null":
        event = msgspec.json.decode(row.line)
        return Numbered(row.row, row.place, msgspec.json.encode({**event, "id": event_id}))
    return row
