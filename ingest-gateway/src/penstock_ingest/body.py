"""From a request's bytes to the texts of its events: content encoding, media type, array elements. Pure."""

from __future__ import annotations

import zlib
from enum import StrEnum
from functools import lru_cache
from typing import Any

import msgspec
import zstandard

from penstock.errors import PenstockError

__all__ = ["Form", "decompress", "form_of", "lines_of"]

_BOM = b"\xef\xbb\xbf"
_JSON = frozenset({"application/json"})
_NDJSON = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"})
_ABSENT = frozenset({"", "application/octet-stream"})
_CHARSETS = frozenset({"utf-8", "utf8", "us-ascii"})
_SPACE = b" \t\r\n"
_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_GZIP_WBITS = 31


class Form(StrEnum):
    """How events lie in a body. In OBJECT and ARRAY one syntax error spoils all; in NDJSON it spoils a line."""

    OBJECT = "object"
    ARRAY = "array"
    NDJSON = "ndjson"


def decompress(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """The body without its Content-Encoding (RFC 9110 section 8.4): gzip, zstd or identity.

    A body that the HTTP server has decoded already, header still in place, is known by the absence of the format's
    magic number, which no JSON text begins with. `too_large` beyond `max_bytes`, whatever was announced.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return body
    if name in ("gzip", "x-gzip"):
        return _gunzip(body, max_bytes) if body.startswith(_GZIP_MAGIC) else body
    if name == "zstd":
        return _unzstd(body, max_bytes) if body.startswith(_ZSTD_MAGIC) else body
    raise PenstockError(
        "unsupported_media_type", f"Content-Encoding '{encoding[:40]}' is not supported; send gzip, zstd or identity"
    )


def form_of(body: bytes, content_type: str) -> Form:
    """What the body holds, by its Content-Type (the header as it came, or empty); without one, by looking at it.

    Without a type, a body whose first line is a whole JSON value and that goes on after it is NDJSON.
    `unsupported_media_type` for other types and for charsets that are not UTF-8.
    """
    media_type = _media_type(content_type)
    if media_type in _NDJSON:
        return Form.NDJSON
    body = body.removeprefix(_BOM)
    start = body[:1] if body[:1] in (b"{", b"[") else body.lstrip(_SPACE)[:1]
    if media_type in _ABSENT and start == b"{":
        first, _, rest = body.strip(_SPACE).partition(b"\n")
        if rest and _is_json(first):
            return Form.NDJSON
    return Form.ARRAY if start == b"[" else Form.OBJECT


def lines_of(body: bytes, form: Form) -> bytes:
    """The events one a line, joined by `\\n`; `bad_json` if an array, or an object of several lines, is not JSON.

    Nothing but white space between tokens is changed, and only in what is known to be JSON, as a newline in a string
    is an error (RFC 8259 section 7): newlines inside an event become spaces. A byte order mark and space around the
    body go.
    """
    body = body.removeprefix(_BOM)
    if form is Form.ARRAY:
        elements: list[msgspec.Raw] = _parsed(body, list[msgspec.Raw], "array")
        return b"\n".join([_one_line(bytes(element)) for element in elements])
    if form is Form.OBJECT:
        text = body.strip(_SPACE)
        if b"\n" in text or b"\r" in text:
            _parsed(text, msgspec.Raw, "object")
        return _one_line(text)
    if b"\r" in body:
        body = body.replace(b"\r\n", b"\n")
    return body.rstrip(_SPACE) if body[-1:] in (b"\n", b" ", b"\t") else body


@lru_cache(maxsize=64)
def _media_type(content_type: str) -> str:
    """The checked media type of a Content-Type header (RFC 9110 section 8.3)."""
    media_type, *parameters = [part.strip().lower() for part in content_type.split(";")]
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name == "charset" and value.strip('"') not in _CHARSETS:
            raise PenstockError("unsupported_media_type", f"{value[:40]}: JSON is sent in UTF-8 (RFC 8259)")
    if not (media_type in _NDJSON or media_type in _JSON or media_type in _ABSENT):
        raise PenstockError(
            "unsupported_media_type",
            f"'{media_type[:80]}' is not accepted; send application/json or application/x-ndjson",
        )
    return media_type


def _one_line(text: bytes) -> bytes:
    if b"\n" in text or b"\r" in text:
        return text.replace(b"\n", b" ").replace(b"\r", b" ")
    return text


def _parsed(text: bytes, wanted: Any, name: str) -> Any:
    try:
        return msgspec.json.decode(text, type=wanted)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise PenstockError("bad_json", f"the {name} cannot be parsed, nothing was accepted: {error}") from None


def _is_json(text: bytes) -> bool:
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _gunzip(body: bytes, max_bytes: int) -> bytes:
    parts: list[bytes] = []
    room = max_bytes + 1
    while body and room > 0:  # RFC 1952 section 2.2: a file is a series of members
        inflater = zlib.decompressobj(wbits=_GZIP_WBITS)
        try:
            part = inflater.decompress(body, room)
        except zlib.error as error:
            raise PenstockError("bad_request", f"the body is not gzip: {error}") from None
        room -= len(part)
        parts.append(part)
        if room > 0 and not inflater.eof:
            raise PenstockError("bad_request", "the gzip body ends too early")
        body = inflater.unused_data
    return _within(b"".join(parts), max_bytes)


def _unzstd(body: bytes, max_bytes: int) -> bytes:
    parts: list[bytes] = []
    size_bytes = 0
    try:
        source = zstandard.ZstdDecompressor().stream_reader(body, read_across_frames=True)
        while size_bytes <= max_bytes and (part := source.read(max_bytes + 1 - size_bytes)):
            parts.append(part)
            size_bytes += len(part)
    except zstandard.ZstdError as error:
        raise PenstockError("bad_request", f"the body is not zstd: {error}") from None
    return _within(b"".join(parts), max_bytes)


def _within(text: bytes, max_bytes: int) -> bytes:
    if len(text) > max_bytes:
        raise PenstockError("too_large", f"the body is longer than {max_bytes} bytes when decompressed; send less")
    return text
