"""What is said on a socket beside events: tokens one way, replies and notices the other. Pure.

A text message that is a JSON object with the member `auth`, perhaps `id`, and no other is a token. An event that
looks like one is sent in an array, or as a binary message.
"""

from __future__ import annotations

import math
import struct
from typing import Annotated

import msgspec

from penstock.errors import PenstockError
from penstock.http.problem import members_of
from penstock.http.tokens import TOKEN_BYTES_MAX
from penstock_ingest.gateway import Accepted

__all__ = ["Auth", "LineId", "auth_line", "expiring_line", "read_auth", "refusal_line", "reply_line", "text_frame"]

LineId = int | str | None
_ID_CHARS_MAX = 64
_SURROUNDINGS_BYTES = 1_000  # what may stand around a token
_TEXT = 0x81
_encode = msgspec.json.Encoder().encode


class Auth(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The first token after `?auth=message`, else a newer one of the same caller. `id` is repeated in the reply."""

    auth: str
    id: int | Annotated[str, msgspec.Meta(max_length=_ID_CHARS_MAX)] | None = None


_decode = msgspec.json.Decoder(Auth).decode


def read_auth(text: bytes) -> Auth | None:
    """The token that a text message brings; None: it is none."""
    if b'"auth"' not in text or len(text) > TOKEN_BYTES_MAX + _SURROUNDINGS_BYTES:
        return None
    try:
        return _decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def reply_line(number: int, accepted: Accepted) -> bytes:
    """The reply to a message: `n`, which message it was (from 1 on), and what a POST answers.

    All rejected is an error with the same members, as there.
    """
    refusal = accepted.refusal()
    if refusal is not None:
        return refusal_line(refusal, n=number)
    return _encode({"n": number, **accepted.as_json()})


def refusal_line(error: PenstockError, **named: object) -> bytes:
    """Problem details of what was refused, with `n` or `id` of it. `retry_ms`: the same may do after so long."""
    known = {name: value for name, value in named.items() if value is not None}
    extra = {name: value for name, value in error.extra.items() if name not in ("www_authenticate", "allow")}
    if error.retry_after_s is not None:
        extra["retry_ms"] = math.ceil(error.retry_after_s * 1000)
    return _encode({**known, **members_of(error, extra)})


def auth_line(line_id: LineId, in_s: float) -> bytes:
    """A token was taken; it expires in so many seconds."""
    exp = max(0, round(in_s))
    return _encode({"sys": "auth", "exp": exp} if line_id is None else {"id": line_id, "ok": True, "exp": exp})


def expiring_line(in_s: float) -> bytes:
    """The token expires in so many seconds."""
    return _encode({"sys": "expiring", "in": max(0, round(in_s))})


def text_frame(line: bytes) -> bytes:
    """A text message on the wire: one frame, unmasked as those of servers are (RFC 6455, 5.2)."""
    size_bytes = len(line)
    if size_bytes < 126:
        return struct.pack("!BB", _TEXT, size_bytes) + line
    if size_bytes < 65_536:
        return struct.pack("!BBH", _TEXT, 126, size_bytes) + line
    return struct.pack("!BBQ", _TEXT, 127, size_bytes) + line
