"""Reads event files for `penstock send`: NDJSON or CSV, plain or gzip, to JSON lines typed by the columns."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import msgspec

from penstock.errors import PenstockError

__all__ = ["Numbered", "StreamShape", "file_mark", "read_rows"]

MARK_BYTES = 8
_QUOTED_EMPTY = re.compile(r'(?:(?<=,)|(?<=^))""(?=,|\r?\n|$)')
_EMPTY = "\x00"  # stands for a quoted empty field, which is the empty string and not NULL
_INTEGERS = frozenset({"TINYINT", "SMALLINT", "INT", "BIGINT"})
_FLOATS = frozenset({"FLOAT", "DOUBLE"})


@dataclass(frozen=True, slots=True)
class StreamShape:
    """What `GET /v1/streams/{stream}` says: column name -> SQL type, and the dedupe columns."""

    types: dict[str, str]
    dedupe: Sequence[str]


@dataclass(frozen=True, slots=True)
class Numbered:
    """One event as a JSON line with the number of its row, from 0."""

    row: int
    line: bytes


def file_mark(path: Path) -> str:
    """Short hash of the file's content: rows without an id get `<mark>-<row>`, so a repeated send adds nothing."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()[: 2 * MARK_BYTES]


def read_rows(path: Path | None, shape: StreamShape, *, mark: str | None) -> Iterator[Numbered]:
    """Rows of a file (None: standard input). With `mark`, a row without an `id` gets one.

    CSV (by the file's name): an empty unquoted field is NULL, other fields are read as the declared type; a column
    that the stream does not declare is sent as text. `bad_request` names line and column of what cannot be read.
    """
    is_csv = path is not None and path.name.removesuffix(".gz").endswith(".csv")
    with _opened(path) as file:
        rows = _csv_rows(file, shape) if is_csv else _json_rows(file)
        for number, line in rows:
            yield Numbered(number, line if mark is None else _with_id(line, f"{mark}-{number}"))


def _opened(path: Path | None) -> BinaryIO:
    if path is None:
        return sys.stdin.buffer
    try:
        if path.name.endswith(".gz"):
            return cast("BinaryIO", gzip.open(path, "rb"))
        return path.open("rb")
    except OSError as error:
        raise PenstockError("bad_request", f"{path}: {error.strerror}") from error


def _json_rows(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    number = 0
    for line in file:
        if text := line.strip():
            yield number, text
            number += 1


def _csv_rows(file: BinaryIO, shape: StreamShape) -> Iterator[tuple[int, bytes]]:
    lines = (_QUOTED_EMPTY.sub(f'"{_EMPTY}"', line) for line in io.TextIOWrapper(file, "utf-8-sig", newline=""))
    reader = csv.DictReader(lines, strict=True)
    for number, row in enumerate(reader):
        if None in row:
            raise PenstockError("bad_request", f"line {reader.line_num}: more fields than the header has")
        event = {
            name: _value(text, shape.types.get(name, "STRING"), name=name, line=reader.line_num)
            for name, text in row.items()
        }
        yield number, msgspec.json.encode(event)


def _value(text: str | None, sql_type: str, *, name: str, line: int) -> object:
    if text is None or text == "":
        return None
    if text == _EMPTY:
        return ""
    kind = sql_type.split("(")[0]
    try:
        if kind in _INTEGERS:
            return int(text)
        if kind in _FLOATS:
            return float(text)
        if kind == "BOOLEAN":
            return {"true": True, "false": False}[text.lower()]
    except (ValueError, KeyError):
        raise PenstockError("bad_request", f"line {line}, column {name}: '{text}' is not {sql_type}") from None
    return text


def _with_id(line: bytes, event_id: str) -> bytes:
    try:
        event = msgspec.json.decode(line)
    except msgspec.DecodeError:
        return line  # the server names the place; nothing is repaired in silence
    if not isinstance(event, dict) or event.get("id") is not None:
        return line
    return msgspec.json.encode({"id": event_id, **{k: v for k, v in event.items() if k != "id"}})
