"""Stream specs as text, as they are kept in the catalog on disk."""

from __future__ import annotations

import msgspec

from penstock.model.stream import StreamSpec

__all__ = ["spec_from_text", "spec_text"]

_DECODER = msgspec.json.Decoder(StreamSpec)


def spec_text(spec: StreamSpec) -> str:
    """JSON of a spec; fields that a later version adds are ignored by an earlier one."""
    return msgspec.json.encode(spec).decode()


def spec_from_text(text: str) -> StreamSpec:
    """The spec of `spec_text`."""
    return _DECODER.decode(text)
