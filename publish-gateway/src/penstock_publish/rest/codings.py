"""Content codings: which one a caller takes (RFC 9110, 12.5.3), which replies are worth it, what it changes. Pure.

A compressed reply is another representation, so its tag is weak (RFC 9110, 8.8.1 and 8.8.3): what it holds is equal,
its bytes are not.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from enum import StrEnum
from typing import Protocol

import zstandard
from multidict import CIMultiDict

__all__ = ["Coding", "Encoder", "agreed_coding", "encoder_of", "is_compressible", "mark_encoded", "match_known_tag"]

_GZIP_LEVEL = 5
_ZSTD_LEVEL = 3  # its window is far below the 8 MiB that every client must take (RFC 9659)
_GZIP_WINDOW = 16 + zlib.MAX_WBITS
_QUALITY = re.compile(r"(?:0(?:\.\d{0,3})?|1(?:\.0{0,3})?)")
_TYPES = frozenset({"application/json", "application/x-ndjson", "application/xml", "application/javascript"})
#: Fields that speak of the very bytes.
_OF_BYTES = ("Content-Range", "Content-Digest", "Digest", "Content-MD5")


class Coding(StrEnum):
    """What we can make, the better one first."""

    ZSTD = "zstd"
    GZIP = "gzip"


class Encoder(Protocol):
    """Compresses one body, piece by piece."""

    def encode(self, piece: bytes) -> bytes:
        """All of the piece: nothing is held back, so that a reply that trickles goes on trickling."""
        ...

    def finish(self) -> bytes:
        """What ends the body."""
        ...


def agreed_coding(accept_encoding: str | None) -> Coding | None:
    """The coding to use; None: as it is. What is not named is not used, and a value that is none counts as 0."""
    qualities: dict[str, float] = {}
    for part in (accept_encoding or "").split(","):
        name, _, parameter = part.partition(";")
        name = name.strip().lower().removeprefix("x-")
        qualities.setdefault(name, _quality(parameter))
    anything = qualities.get("*", 0.0)
    best = max(Coding, key=lambda coding: qualities.get(coding, anything))  # the first of equals
    quality = qualities.get(best, anything)
    return best if quality > 0 and quality >= qualities.get("identity", 0.0) else None


def is_compressible(status: int, headers: Mapping[str, str], *, size_bytes: int | None, bytes_min: int) -> bool:
    """Whether a reply may be compressed and is worth it. `headers` ignores case; `size_bytes` None: not known."""
    media = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    by_type = media in _TYPES or media.endswith("+json") or media.startswith("text/")
    return (
        status == 200
        and by_type
        and media != "text/event-stream"
        and "Content-Encoding" not in headers
        and "no-transform" not in headers.get("Cache-Control", "").lower()
        and not any(name in headers for name in _OF_BYTES)
        and (size_bytes is None or size_bytes >= bytes_min)
    )


def mark_encoded(headers: CIMultiDict[str], coding: Coding) -> None:
    """Change the fields of a reply whose body goes out in this coding."""
    headers["Content-Encoding"] = coding
    headers.popall("Content-Length", None)
    headers.popall("Accept-Ranges", None)
    tag = headers.get("ETag")
    if tag is not None and not tag.startswith("W/"):
        headers["ETag"] = f"W/{tag}"


def match_known_tag(headers: CIMultiDict[str], if_none_match: str | None) -> None:
    """In a 304, name the tag as the caller has it: weak, if it kept a compressed reply (RFC 9111, 4.3.4)."""
    tag = headers.get("ETag")
    known = [part.strip() for part in (if_none_match or "").split(",")]
    if tag is not None and tag not in known and f"W/{tag}" in known:
        headers["ETag"] = f"W/{tag}"


def encoder_of(coding: Coding) -> Encoder:
    """A new one, for one body."""
    return _Zstd() if coding is Coding.ZSTD else _Gzip()


class _Gzip:
    def __init__(self) -> None:
        self._compressor = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)

    def encode(self, piece: bytes) -> bytes:
        return self._compressor.compress(piece) + self._compressor.flush(zlib.Z_SYNC_FLUSH)

    def finish(self) -> bytes:
        return self._compressor.flush()


class _Zstd:
    def __init__(self) -> None:
        self._compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compressobj()

    def encode(self, piece: bytes) -> bytes:
        return self._compressor.compress(piece) + self._compressor.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)

    def finish(self) -> bytes:
        return self._compressor.flush(zstandard.COMPRESSOBJ_FLUSH_FINISH)


def _quality(parameter: str) -> float:
    if not parameter.strip():
        return 1.0
    name, _, value = parameter.partition("=")
    if name.strip().lower() != "q" or _QUALITY.fullmatch(value.strip()) is None:
        return 0.0
    return float(value)
