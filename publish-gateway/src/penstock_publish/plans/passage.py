"""What goes with a metered request: header fields for its reply, and how much the reply delivers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web

__all__ = ["PASSAGE", "Passage"]


@dataclass(slots=True)
class Passage:
    """`fields` are for whoever begins the reply before its handler has ended; `events` and `size_bytes` it counts."""

    fields: Mapping[str, str]
    events: int = 0
    size_bytes: int = 0


#: Where a request that is metered has its passage.
PASSAGE = web.RequestKey("penstock_passage", Passage)
