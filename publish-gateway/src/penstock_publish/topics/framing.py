"""Envelopes, notices and frames as bytes, made once and shared by every subscriber of the same kind. Pure.

An encoding is how lines travel: `ws` one text frame a line (RFC 6455, 5.2; server frames carry no mask, so they are
the same for everybody), `ws-deflate` the same with longer lines compressed (RFC 7692; each by itself, so that
these too are the same for everybody), `sse` one event a line (HTML standard, 9.2), `lines` NDJSON.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence
from enum import StrEnum

import msgspec

from penstock.model.position import Cursor
from penstock_publish.topics.rows import Row

__all__ = [
    "DEFLATE_WINDOW_BITS",
    "PING_FRAME",
    "Encoding",
    "Form",
    "auth_notice",
    "close_frame",
    "end_notice",
    "envelopes",
    "expiring_notice",
    "frame",
    "frame_notice",
    "gap_notice",
    "hb_notice",
    "open_notice",
    "pong_frame",
    "quota_notice",
]  # fmt: skip

PING_FRAME = b"\x89\x00"
#: Window of what we compress. Lines are short: more than 4 KiB finds little, and costs time at each line's end.
DEFLATE_WINDOW_BITS = 12

_encode = msgspec.json.Encoder().encode
_TEXT, _CLOSE, _PONG = 0x81, 0x88, 0x8A
_COMPRESSED = 0x40  # RFC 7692, 6: RSV1 of a message's first frame
#: Shorter lines grow or hardly shrink, and inflating costs every subscriber.
_COMPRESS_BYTES_MIN = 256
_COMPRESS_LEVEL = 1


class Encoding(StrEnum):
    """How lines travel on a transport."""

    WS = "ws"
    WS_DEFLATE = "ws-deflate"
    SSE = "sse"
    LINES = "lines"

    @property
    def answers_pings(self) -> bool:
        """Whether the other side shows by itself that it is alive."""
        return self in (Encoding.WS, Encoding.WS_DEFLATE)


class Form(StrEnum):
    """`format=`: the whole envelope, or the columns alone."""

    ENVELOPE = "envelope"
    RAW = "raw"


def envelopes(topic: str, rows: Sequence[Row], cursors: Sequence[bytes], *, form: Form) -> list[bytes]:
    """One JSON object a row: `t`, `c`, `k` where the topic has a key, `op` and `complete` for tables, `d`."""
    if form is Form.RAW:
        return [row.columns for row in rows]
    head = b'{"t":%b,"c":"' % _encode(topic)
    lines = []
    for row, cursor in zip(rows, cursors, strict=True):
        key = b"" if row.key is None else b',"k":' + row.key
        if row.op is None:
            lines.append(b'%b%b"%b,"d":%b}' % (head, cursor, key, row.columns))
        else:
            table = (head, cursor, key, row.op, row.complete or b"true", row.columns)
            lines.append(b'%b%b"%b,"op":"%b","complete":%b,"d":%b}' % table)
    return lines


def frame(lines: Sequence[bytes], cursors: Sequence[bytes], encoding: Encoding) -> bytes:
    """Lines as one run of bytes for the wire."""
    if encoding is Encoding.WS:
        return b"".join([part for line in lines for part in (_header(_TEXT, len(line)), line)])
    if encoding is Encoding.WS_DEFLATE:
        return _deflated(lines)
    if encoding is Encoding.SSE:
        return b"".join([b"id: %b\ndata: %b\n\n" % pair for pair in zip(cursors, lines, strict=True)])
    return b"".join([part for line in lines for part in (line, b"\n")])


def frame_notice(notice: dict[str, object], encoding: Encoding) -> bytes:
    """A `sys` line. Over SSE it has the type `sys`, and its cursor, where it has one, becomes the last event id."""
    line = _encode(notice)
    if encoding in (Encoding.WS, Encoding.WS_DEFLATE):
        return _header(_TEXT, len(line)) + line
    if encoding is Encoding.SSE:
        cursor = notice.get("c", notice.get("to"))
        return (b"" if cursor is None else b"id: %b\n" % str(cursor).encode()) + b"event: sys\ndata: %b\n\n" % line
    return line + b"\n"


def open_notice(topic: str, cursor: str) -> dict[str, object]:
    """What follows begins after this cursor; whoever resumes from it misses nothing of it."""
    return {"sys": "open", "t": topic, "c": cursor}


def gap_notice(after: Cursor, to: Cursor, *, events: int | None) -> dict[str, object]:
    """Events after `after` up to and with `to` are left out; `events` None: unknown how many."""
    return {"sys": "gap", "t": to.topic, "from": after.text(), "to": to.text(), "n": events}


def expiring_notice(in_s: float) -> dict[str, object]:
    """The token expires in so many seconds."""
    return {"sys": "expiring", "in": max(0, round(in_s))}


def end_notice(topic: str, code: str, *, after: str, retry_ms: int | None) -> dict[str, object]:
    """Nothing more comes of this topic, though the socket stays; `retry_ms` None: do not subscribe to it again."""
    return {"sys": "end", "t": topic, "code": code, "after": after, "retry_ms": retry_ms}


def auth_notice(in_s: float) -> dict[str, object]:
    """A newer token was taken; it expires in so many seconds."""
    return {"sys": "auth", "exp": max(0, round(in_s))}


def hb_notice(cursor: Cursor, *, named: bool = False) -> dict[str, object]:
    """Nothing to send; everything up to this cursor has been looked at. `named`: say of which topic."""
    return {"sys": "hb", **({"t": cursor.topic} if named else {}), "c": cursor.text()}


def quota_notice(limit: str, wait_s: float) -> dict[str, object]:
    """Nothing comes for so long because of this limit of the plan; then it goes on where it stopped."""
    return {"sys": "quota", "wait_ms": math.ceil(wait_s * 1000), "limit": limit}


def close_frame(code: int | None, reason: bytes) -> bytes:
    """A close frame; without a code it is empty."""
    payload = b"" if code is None else struct.pack("!H", code) + reason
    return bytes((_CLOSE, len(payload))) + payload


def pong_frame(payload: bytes) -> bytes:
    """The answer to a ping with that payload, at most 125 bytes."""
    return bytes((_PONG, len(payload))) + payload


def _deflated(lines: Sequence[bytes]) -> bytes:
    """Text frames; a full flush after each line lets the reader begin anew with any of them (RFC 7692, 7.1.1.1)."""
    if all(len(line) < _COMPRESS_BYTES_MIN for line in lines):
        return frame(lines, (), Encoding.WS)
    deflater = zlib.compressobj(_COMPRESS_LEVEL, zlib.DEFLATED, -DEFLATE_WINDOW_BITS)
    parts: list[bytes] = []
    for line in lines:
        if len(line) >= _COMPRESS_BYTES_MIN:
            small = deflater.compress(line) + deflater.flush(zlib.Z_FULL_FLUSH)
            if len(small) - 4 < len(line):
                parts += _header(_TEXT | _COMPRESSED, len(small) - 4), small[:-4]  # less 00 00 FF FF (7.2.1)
                continue
        parts += _header(_TEXT, len(line)), line
    return b"".join(parts)


def _header(first: int, size_bytes: int) -> bytes:
    if size_bytes < 126:
        return _SHORT_HEADERS[size_bytes] if first == _TEXT else bytes((first, size_bytes))
    if size_bytes < 65_536:
        return struct.pack("!BBH", first, 126, size_bytes)
    return struct.pack("!BBQ", first, 127, size_bytes)


_SHORT_HEADERS = [struct.pack("!BB", _TEXT, size_bytes) for size_bytes in range(126)]
