"""CSV text to records (RFC 4180), keeping apart what `csv` does not: `""` is empty text, nothing at all is None.

A field has no type of its own: `typed` reads it as the type of its column, so that it can be a JSON value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator

from penstock.errors import PenstockError

__all__ = ["Record", "read_records", "typed"]

RECORD_CHARS_MAX = 16 * 1024 * 1024
_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_INTEGERS = frozenset({"TINYINT", "SMALLINT", "INT", "BIGINT"})
_FLOATS = frozenset({"FLOAT", "DOUBLE"})
_FIELD = re.compile(r'(?:"([^"]*(?:""[^"]*)*)"|([^",]*))(,|\Z)')

#: The line (from 1) on which a record starts, and its fields.
Record = tuple[int, list[str | None]]


def read_records(lines: Iterable[bytes]) -> Iterator[Record]:
    """Records of UTF-8 lines, with or without a byte order mark; empty lines between records are passed over.

    `bad_request` names the line of a quote out of place or never closed, and of bytes that are no UTF-8.
    """
    parts: list[str] = []
    quotes = 0
    size_chars = 0
    start = 1
    for number, line in enumerate(lines, 1):
        if not parts:
            start, quotes, size_chars = number, 0, 0
        text = _decoded(line, number)
        parts.append(text)
        quotes += text.count('"')
        size_chars += len(text)
        if quotes % 2 == 0:  # within an open quote the record goes on in the next line
            record = "".join(parts).removesuffix("\n").removesuffix("\r")
            parts = []
            if record:
                yield start, _fields(record, start)
        elif size_chars > RECORD_CHARS_MAX:
            break
    if parts:
        raise PenstockError("bad_request", f"line {start}: a quote is opened and never closed")


def typed(text: str | None, kind: str) -> str | int | float | bool | None:
    """The JSON value of a field in a column of this SQL type (its name, without precision). ValueError if it is none.

    Types that JSON has as texts (timestamps, decimals) stay texts: whether they are well-formed admission says.
    """
    if text is None:
        return None
    if kind in _INTEGERS:
        if _INTEGER.fullmatch(text) and -(2**63) <= (whole := int(text)) < 2**63:
            return whole
    elif kind in _FLOATS:
        if _NUMBER.fullmatch(text) and math.isfinite(number := float(text)):
            return number
    elif kind == "BOOLEAN":
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
    else:
        return text
    raise ValueError(f"'{text}' is not {kind}")


def _decoded(line: bytes, number: int) -> str:
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise PenstockError("bad_request", f"line {number}: not UTF-8 (byte {error.start + 1})") from None


def _fields(record: str, line: int) -> list[str | None]:
    if '"' not in record:
        return [field or None for field in record.split(",")]
    fields: list[str | None] = []
    position = 0
    while True:
        match = _FIELD.match(record, position)
        if match is None:
            raise PenstockError(
                "bad_request",
                f"line {line}, field {len(fields) + 1}: a quote out of place; quote the whole field and double "
                "the quotes within",
            )
        quoted, plain, separator = match.groups()
        fields.append((plain or None) if quoted is None else quoted.replace('""', '"'))
        if not separator:
            return fields
        position = match.end()
