"""Several finite inputs as one sequence of cycles, by event time. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import polars as pl

from penstock_processor.operators.interface import SourceBlock
from penstock_processor.operators.step import MAX_WATERMARK

__all__ = ["Feed", "merged"]


@dataclass(slots=True)
class Feed:
    """One input: its relation, the column of its event time (None: taken as it comes), and its frames in order."""

    relation: str
    time_column: str | None
    frames: Iterator[pl.DataFrame]
    waiting: pl.DataFrame | None = None

    def fill(self) -> bool:
        """Have rows waiting; False at the end of the input."""
        while self.waiting is None or not self.waiting.height:
            self.waiting = next(self.frames, None)
            if self.waiting is None:
                return False
        return True

    def greatest_ms(self) -> int | None:
        """The greatest event time that waits; None if the input has none."""
        if self.waiting is None or self.time_column is None:
            return None
        greatest = self.waiting[self.time_column].to_physical().max()
        return greatest if isinstance(greatest, int) else None

    def take(self, through_ms: int | None) -> pl.DataFrame:
        """The waiting rows before the first that is later than `through_ms` (None: all)."""
        assert self.waiting is not None
        taken, rest = self.waiting, None
        if through_ms is not None and self.time_column is not None:
            later = (self.waiting[self.time_column].to_physical() > through_ms).arg_true()
            if len(later):
                first = int(later[0])
                taken, rest = self.waiting[:first], self.waiting[first:]
        self.waiting = rest
        return taken


def merged(feeds: Mapping[str, Feed]) -> Iterator[list[SourceBlock]]:
    """Blocks for one step each. Rows of all inputs up to the least of the greatest waiting times go together.

    An input that has ended is complete: it no longer holds back the others.
    """
    open_feeds = dict(feeds)
    while open_feeds:
        ended = [name for name, feed in open_feeds.items() if not feed.fill()]
        done = [SourceBlock(name, 0, _nothing(), MAX_WATERMARK) for name in ended]
        for name in ended:
            del open_feeds[name]
        if not open_feeds:
            return
        bounds = [ms for feed in open_feeds.values() if (ms := feed.greatest_ms()) is not None]
        through_ms = min(bounds) if len(open_feeds) > 1 and bounds else None
        blocks = [SourceBlock(name, 0, feed.take(through_ms)) for name, feed in open_feeds.items()]
        yield done + [block for block in blocks if block.frame.height]


def _nothing() -> pl.DataFrame:
    return pl.DataFrame()
