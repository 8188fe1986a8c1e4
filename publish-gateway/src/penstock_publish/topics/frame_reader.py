"""Frames from a client, octets in, messages out (RFC 6455, 5; with permessage-deflate RFC 7692). Pure.

Whatever can be refused is refused at the first octet that proves it: reserved bits and lengths in the header, bytes
that are no UTF-8 in the middle of a frame. An idle reader holds no buffer.
"""

from __future__ import annotations

import codecs
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

try:
    from websockets.speedups import apply_mask
except ImportError:  # a platform without its compiled part
    from websockets.utils import apply_mask

__all__ = ["CloseFrame", "FrameReader", "Inbound", "Message", "Ping", "Pong", "Refusal"]


@dataclass(frozen=True, slots=True)
class Message:
    """A whole message: `str` of a text message, `bytes` of a binary one."""

    data: str | bytes


@dataclass(frozen=True, slots=True)
class Ping:
    """To be answered with a pong of the same payload."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Pong:
    """A sign of life."""


@dataclass(frozen=True, slots=True)
class CloseFrame:
    """The other side closes; `code` None: it gave none."""

    code: int | None


class Refusal(Exception):
    """The connection must be failed with this close code (RFC 6455, 7.1.7)."""

    def __init__(self, code: int, detail: str) -> None:
        super().__init__(detail)
        self.code = code


#: What comes in.
Inbound = Message | Ping | Pong | CloseFrame


class _Opcode(IntEnum):
    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


_PROTOCOL_ERROR, _INVALID_PAYLOAD, _TOO_BIG = 1002, 1007, 1009
_CONTROL_BYTES_MAX = 125
_CONTROLS = (_Opcode.CLOSE, _Opcode.PING, _Opcode.PONG)
_CODES = frozenset((*range(1000, 1004), *range(1007, 1015)))  # registered; 3000 to 4999 are free to use
_EMPTY_BLOCK = b"\x00\x00\xff\xff"  # what a sender takes off the end of a compressed message (RFC 7692, 7.2.1)
_new_decoder = codecs.getincrementaldecoder("utf-8")


class FrameReader:
    """Reads one connection; `limit_bytes` is of a whole message, before and after it is inflated."""

    __slots__ = ("_compressed", "_decoder", "_final", "_held_bytes", "_inflates", "_left_bytes", "_limit_bytes",
                 "_mask", "_opcode", "_parts", "_rest")  # fmt: skip

    def __init__(self, *, limit_bytes: int, inflates: bool = False) -> None:
        """`inflates`: permessage-deflate was agreed on, without context takeover."""
        self._limit_bytes = limit_bytes
        self._inflates = inflates
        self._rest = b""  # the beginning of a header or of a control frame
        self._left_bytes = 0  # of the frame's payload, not yet seen
        self._mask = b""
        self._final = True
        self._opcode: _Opcode | None = None  # of the message that is being read
        self._compressed = False
        self._held_bytes = 0
        self._parts: list[str] | list[bytes] | None = None
        self._decoder: codecs.IncrementalDecoder | None = None

    def feed(self, data: bytes) -> Iterator[Inbound]:
        """What `data` completes, in order. Raises `Refusal` at its place; nothing can be read after it."""
        if self._rest:
            data, self._rest = self._rest + data, b""
        at = 0
        while True:
            if self._mask:  # within the payload of a data frame
                at = self._take(data, at)
                if self._left_bytes:
                    return
                self._mask = b""
                if self._final:
                    yield self._finish()
            if at >= len(data):
                return
            header = self._header(data, at)
            if header is None:
                self._rest = bytes(data[at:])
                return
            opcode, payload_at, size_bytes = header
            if opcode not in _CONTROLS:
                at = payload_at
                continue
            if len(data) < payload_at + size_bytes:
                self._rest = bytes(data[at:])
                return
            at = payload_at + size_bytes
            yield _control(opcode, apply_mask(data[payload_at:at], data[payload_at - 4 : payload_at]))

    def _header(self, data: bytes, at: int) -> tuple[_Opcode, int, int] | None:
        """Check a header; (opcode, where its payload begins, its length), or None while it is incomplete."""
        have = len(data) - at
        first = data[at]
        try:
            opcode = _Opcode(first & 0x0F)
        except ValueError:
            raise Refusal(_PROTOCOL_ERROR, f"opcode {first & 0x0F} is reserved") from None
        final, control = bool(first & 0x80), opcode in _CONTROLS
        self._check_first(opcode, first, final=final, control=control)
        if have < 2:
            return None
        second = data[at + 1]
        if not second & 0x80:
            raise Refusal(_PROTOCOL_ERROR, "a frame of a client is masked")
        size_bytes, payload_at = second & 0x7F, at + 6
        if control and size_bytes > _CONTROL_BYTES_MAX:
            raise Refusal(_PROTOCOL_ERROR, "a control frame has at most 125 bytes")
        if size_bytes >= 126:
            width, form = (2, "!H") if size_bytes == 126 else (8, "!Q")
            if have < 2 + width:
                return None
            (size_bytes,) = struct.unpack_from(form, data, at + 2)
            payload_at += width
        if not control and size_bytes + self._held_bytes > self._limit_bytes:
            raise Refusal(_TOO_BIG, f"a message has at most {self._limit_bytes} bytes")
        if len(data) < payload_at:
            return None
        if not control:
            self._begin(opcode, first, final=final, size_bytes=size_bytes)
            self._mask = bytes(data[payload_at - 4 : payload_at])
        return opcode, payload_at, size_bytes

    def _check_first(self, opcode: _Opcode, first: int, *, final: bool, control: bool) -> None:
        may_be_compressed = self._inflates and opcode in (_Opcode.TEXT, _Opcode.BINARY)
        if first & (0x30 if may_be_compressed else 0x70):
            raise Refusal(_PROTOCOL_ERROR, "a reserved bit is set")
        if control:
            if not final:
                raise Refusal(_PROTOCOL_ERROR, "a control frame is not fragmented")
        elif opcode is _Opcode.CONTINUATION:
            if self._opcode is None:
                raise Refusal(_PROTOCOL_ERROR, "there is no message to continue")
        elif self._opcode is not None:
            raise Refusal(_PROTOCOL_ERROR, "a message begins within another")

    def _begin(self, opcode: _Opcode, first: int, *, final: bool, size_bytes: int) -> None:
        if opcode is not _Opcode.CONTINUATION:
            self._opcode, self._compressed = opcode, bool(first & 0x40)
        self._final, self._left_bytes = final, size_bytes

    def _take(self, data: bytes, at: int) -> int:
        """The part of a payload that lies in `data`; where it ends."""
        piece = data[at : at + self._left_bytes]
        size_bytes = len(piece)
        self._left_bytes -= size_bytes
        self._held_bytes += size_bytes
        piece = apply_mask(piece, self._mask)
        if self._left_bytes and size_bytes % 4:
            turn = size_bytes % 4
            self._mask = self._mask[turn:] + self._mask[:turn]
        whole = self._final and not self._left_bytes
        if self._parts is None:
            self._parts = []
        decoded = self._decoded(piece, whole=whole)
        if decoded:  # a message may have any number of empty frames: they are not kept
            self._parts.append(decoded)  # type: ignore[arg-type]  # all str or all bytes
        return at + size_bytes

    def _decoded(self, piece: bytes, *, whole: bool) -> str | bytes:
        if self._opcode is not _Opcode.TEXT or self._compressed:
            return piece
        try:
            if self._decoder is None:
                if whole:
                    return piece.decode()
                self._decoder = _new_decoder()
            return self._decoder.decode(piece, whole)
        except UnicodeDecodeError:
            raise Refusal(_INVALID_PAYLOAD, "a text message is UTF-8") from None

    def _finish(self) -> Message:
        parts, text = self._parts or [], self._opcode is _Opcode.TEXT
        compressed = self._compressed
        self._opcode = self._parts = self._decoder = None
        self._held_bytes, self._compressed = 0, False
        if not compressed:
            return Message("".join(parts) if text else b"".join(parts))  # type: ignore[arg-type]  # as above
        data = _inflated(b"".join(parts), limit_bytes=self._limit_bytes)  # type: ignore[arg-type]  # as above
        if not text:
            return Message(data)
        try:
            return Message(data.decode())
        except UnicodeDecodeError:
            raise Refusal(_INVALID_PAYLOAD, "a text message is UTF-8") from None


def _inflated(data: bytes, *, limit_bytes: int) -> bytes:
    """A compressed message; never more than one byte beyond the limit is made of it."""
    found = b""
    try:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        found = inflater.decompress(data + _EMPTY_BLOCK, limit_bytes + 1)
        if inflater.eof and inflater.unused_data:  # a final block, then the empty one (RFC 7692, 7.2.3.4)
            rest = zlib.decompressobj(-zlib.MAX_WBITS)
            found += rest.decompress(inflater.unused_data, limit_bytes + 1 - len(found) or 1)
            inflater = rest
    except zlib.error:
        raise Refusal(_INVALID_PAYLOAD, "a compressed message cannot be inflated") from None
    if len(found) > limit_bytes:
        raise Refusal(_TOO_BIG, f"a message has at most {limit_bytes} bytes when it is inflated")
    if inflater.eof:
        raise Refusal(_INVALID_PAYLOAD, "a compressed message has something after its end")
    return found


def _control(opcode: _Opcode, payload: bytes) -> Inbound:
    if opcode is _Opcode.PING:
        return Ping(payload)
    if opcode is _Opcode.PONG:
        return Pong()
    if not payload:
        return CloseFrame(None)
    if len(payload) == 1:
        raise Refusal(_PROTOCOL_ERROR, "a close code has two bytes")
    code = int.from_bytes(payload[:2], "big")
    if code not in _CODES and not 3000 <= code <= 4999:
        raise Refusal(_PROTOCOL_ERROR, f"{code} is no close code that may be sent")
    try:
        payload[2:].decode()
    except UnicodeDecodeError:
        raise Refusal(_INVALID_PAYLOAD, "a close reason is UTF-8") from None
    return CloseFrame(code)
