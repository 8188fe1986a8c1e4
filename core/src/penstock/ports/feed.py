"""The feed port: a place of others that events of a source are fetched from, by one ingest gateway at a time.

What a feed gives is admitted as a request is, and appended before the cursor behind it is kept. So after a crash the
last piece may be fetched again where the place can give it again (`replays`): a source with `dedupe` drops what it
has, one without has it twice. From a place that cannot, what came while nobody listened is not there.
Callers: ingest only. Adapters: one file each in `penstock.feeds`; `feeds.open` maps connectors to them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from penstock.errors import PenstockError

__all__ = ["Fed", "Feed", "FeedUnavailable"]


class FeedUnavailable(PenstockError):
    """The place does not answer, or cannot be read now. `detail` names it and the remedy."""

    def __init__(self, detail: str) -> None:
        super().__init__("feed_unavailable", detail, retry_after_s=0.0)


@dataclass(frozen=True, slots=True)
class Fed:
    """Events as JSON texts, one a line. `cursor`: where to go on behind them; None where the place keeps nothing."""

    lines: bytes
    cursor: str | None = None


class Feed(Protocol):
    """One place. For one caller at a time. Errors: FeedUnavailable; then it is closed, and another one opened."""

    @property
    def replays(self) -> bool:
        """Whether what was fetched can be fetched again from a cursor."""
        ...

    async def open(self, cursor: str | None) -> None:
        """Connect, and go on behind `cursor`, which is one of a `Fed`; None: from the beginning, or from now on."""
        ...

    async def take(self) -> Fed | None:
        """What is new, a bounded piece of it; None if nothing came for a while. May be cancelled."""
        ...

    async def close(self) -> None:
        """Let go of connections and files."""
        ...
