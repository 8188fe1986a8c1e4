"""Payloads of state deltas: frames as length-prefixed Arrow IPC streams, in order."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from penstock.codecs.arrow import decode_frame, encode_frame

__all__ = ["pack", "unpack"]

_LENGTH_BYTES = 8


def pack(frames: Sequence[pl.DataFrame]) -> bytes:
    """One payload for these frames."""
    parts = []
    for frame in frames:
        encoded = encode_frame(frame)
        parts += [len(encoded).to_bytes(_LENGTH_BYTES, "big"), encoded]
    return b"".join(parts)


def unpack(payload: bytes) -> list[pl.DataFrame]:
    """The frames of a payload."""
    frames, at = [], 0
    while at < len(payload):
        start = at + _LENGTH_BYTES
        at = start + int.from_bytes(payload[at:start], "big")
        frames.append(decode_frame(payload[start:at]))
    return frames
