"""Why an event is refused: the code and the place, found by reading one line again, slowly. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from penstock.codecs.json_values import OutOfRange, json_type_name
from penstock_ingest.record import Field, Record

__all__ = ["Reason", "bad_text", "event_id", "explain"]

Reason = tuple[str, str]  # (code, detail)

_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_SHOWN_CHARS = 40
_ID_CHARS_MAX = 200
_FRACTION_MARKS = (b".", b"e", b"E")


def bad_text(line: bytes) -> Reason | None:
    """`bad_json` for invalid UTF-8, with the byte; None if the text is valid."""
    if line.isascii():
        return None
    try:
        line.decode()
    except UnicodeDecodeError as error:
        return "bad_json", f"invalid UTF-8 at byte {error.start}; JSON is sent in UTF-8 (RFC 8259 section 8.1)"
    return None


def explain(line: bytes, record: Record) -> Reason:
    """The first thing wrong with an event that the record's decoders refused."""
    try:
        found = _FIELDS.decode(line)
    except RecursionError:
        return "bad_json", "nested too deeply"
    except msgspec.ValidationError:
        return _not_an_object(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return "bad_json", str(error)
    for field in record.fields:
        reason = _check(field, found.get(field.column.name), is_time=field is record.time)
        if reason is not None:
            return reason
    if record.spec.unknown == "reject":
        names = {field.column.name for field in record.fields}
        for name in found:
            if name not in names:
                return "unknown_field", f"'{_short(name)}' is not a column of {record.spec.name}"
    return "wrong_type", f"the event does not fit {record.spec.name}"


def event_id(line: bytes) -> str | None:
    """The event's `id` as text, for replies about refused events; None if it has none or is no object."""
    try:
        raw = _FIELDS.decode(line).get("id")
        value = None if raw is None else msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return str(value)[:_ID_CHARS_MAX] if isinstance(value, str | int | float) else None


def _not_an_object(line: bytes) -> Reason:
    try:
        msgspec.json.decode(line, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return "bad_json", str(error)
    return "wrong_type", f"an event is a JSON object, found {json_type_name(line)}"


def _check(field: Field, raw: msgspec.Raw | None, *, is_time: bool) -> Reason | None:
    name = field.column.name
    text = b"" if raw is None else bytes(raw)
    if raw is None or text == b"null":
        if not field.required:
            return None
        found = "is missing" if raw is None else "is null"
        if is_time:
            return "no_event_time", f"'{name}' {found}; it is the event time"
        return "missing_column", f"'{name}' {found}; it is {field.column.type} and needed"
    try:
        value: Any = field.decoder.decode(text)
        if field.read is not None:
            field.read(value)
    except msgspec.ValidationError as error:
        return _mismatch(field, text, error)
    except OutOfRange as error:
        return "out_of_range", f"'{name}': {error}"
    except (ValueError, RecursionError) as error:
        return "wrong_type", f"'{name}' is {field.column.type}, found {json_type_name(text)}: {error}"
    return None


def _mismatch(field: Field, text: bytes, error: msgspec.ValidationError) -> Reason:
    name, wanted, found = field.column.name, field.column.type, json_type_name(text)
    whole = not any(mark in text for mark in _FRACTION_MARKS)
    if found == "number" and ((wanted.is_integer and whole) or (wanted.is_numeric and not wanted.is_integer)):
        return "out_of_range", f"'{name}': {_short(text.decode())} does not fit {wanted}"
    shown = f" {_short(text.decode())}" if found == "number" else ""
    return "wrong_type", f"'{name}' is {wanted}, found {found}{shown}; nothing is converted ({error})"


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "..."
