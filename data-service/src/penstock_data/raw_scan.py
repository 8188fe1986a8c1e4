"""What one request for raw events has found so far, and how much it may still look at."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl

from penstock.codecs.frames import empty_frame
from penstock.model.batch import Batch
from penstock.model.stream import StreamSpec
from penstock_data.predicates import PLACE, predicates
from penstock_data.query import PageQuery
from penstock_data.raw_columns import raw_frame
from penstock_data.settings import QuerySettings

__all__ = ["CHUNK_ROWS", "Scan"]

#: Events decoded at a time when a filter may need more than one page of them.
CHUNK_ROWS = 4096


class Scan:
    """The rows of a page, kept in the order of the page, and the budgets of the request."""

    def __init__(
        self,
        spec: StreamSpec,
        query: PageQuery,
        limits: QuerySettings,
        *,
        descending: bool,
        now_s: Callable[[], float] | None,
    ) -> None:
        self.spec, self.query, self.limits, self.descending = spec, query, limits, descending
        self.shown = [column.name for column in query.select]
        self.tested = {condition.column.name for condition in query.conditions}
        self.left_rows = query.limit
        self.left_scan = limits.scan_rows_max
        self.left_archive_scan = limits.archive_scan_rows_max
        self.moved = False  # something has been looked at: a page that takes long still gets somewhere
        self._now_s = now_s
        self._until_s = now_s() + limits.time_s if now_s is not None else 0.0
        self._found: list[pl.DataFrame] = []

    def frame(self) -> pl.DataFrame:
        """The rows found, with the selected columns."""
        if not self._found:
            return empty_frame(self.query.select)
        return pl.concat(self._found).select(self.shown)

    def spent(self) -> bool:
        """True when the page is full, or enough events have been looked at, or for long enough."""
        late = self.moved and self._now_s is not None and self._now_s() > self._until_s
        return late or self.left_rows <= 0 or self.left_scan <= 0 or self.left_archive_scan <= 0

    def add(self, frame: pl.DataFrame) -> None:
        """Rows with the selected columns, in the order of the page; at most `left_rows`."""
        if frame.height:
            self._found.append(frame.select(self.shown))
            self.left_rows -= frame.height

    def matching(self, batch: Batch, lines: Sequence[bytes], low: int, high: int) -> pl.Series:
        """Offsets of a batch's events in [low, high) that meet the conditions; only what is tested is decoded."""
        offsets = pl.int_range(low, high, dtype=pl.Int64, eager=True)
        where = predicates(self.query.conditions, partition=batch.partition)
        if where is None:
            return offsets
        texts = lines[low - batch.base : high - batch.base]
        return self._frame(batch, texts, offsets, self.tested).filter(where)[PLACE]

    def keep(self, batch: Batch, lines: Sequence[bytes], offsets: pl.Series, *, scanned: int) -> None:
        """Add the events of a batch at `offsets`, after `scanned` of them have been looked at."""
        self.left_scan -= scanned
        if len(offsets):
            texts = [lines[offset - batch.base] for offset in offsets.to_list()]
            self.add(self._frame(batch, texts, offsets, self.shown))

    def _frame(
        self, batch: Batch, lines: Sequence[bytes], offsets: pl.Series, wanted: Sequence[str] | set[str]
    ) -> pl.DataFrame:
        received_ms = pl.Series([batch.appended_at_ms], dtype=pl.Int64).new_from_index(0, len(lines))
        return raw_frame(
            self.spec,
            partition=batch.partition,
            offsets=offsets,
            received_ms=received_ms,
            lines=lines,
            wanted=wanted,
        )
