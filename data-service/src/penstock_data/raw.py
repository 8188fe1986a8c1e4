"""Pages of raw events: read from the log's own batches, by position, up to a limit of events looked at."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from penstock.codecs.frames import empty_frame
from penstock.errors import PenstockError
from penstock.model.batch import Batch
from penstock.model.stream import StreamSpec
from penstock.model.types import BIGINT
from penstock.ports.log import Head, Log
from penstock_data.cursors import cursor_text, read_cursor
from penstock_data.predicates import PLACE, predicates
from penstock_data.query import POSITION, Condition, Operator, PageQuery
from penstock_data.raw_columns import raw_frame, raw_lines
from penstock_data.settings import QuerySettings

__all__ = ["RawPage", "raw_page"]

_FIRST_READ_BYTES = 64 * 1024  # a page of a hundred rows needs one batch, not megabytes of them
_END = 2**62  # beyond every offset
_CHUNK_ROWS = 4096  # events decoded at a time when a filter may need more than one page of them


@dataclass(frozen=True, slots=True)
class RawPage:
    """Rows with the selected columns; `next`: where to go on, None at the end."""

    frame: pl.DataFrame
    next: str | None


async def raw_page(log: Log, spec: StreamSpec, query: PageQuery, limits: QuerySettings) -> RawPage:
    """One page of `raw.<stream>` in the order of positions, ascending or descending."""
    descending = _descending(query)
    heads = [await log.head(spec.name, partition) for partition in range(spec.partitions)]
    scan = _Scan(spec, query, limits, descending=descending)
    scope = f"raw.{spec.name}|{heads[0].epoch}|{'desc' if descending else 'asc'}"
    partitions = list(range(spec.partitions))
    bound: int | None = None
    if query.cursor is not None:
        values = read_cursor(scope, query.cursor, [BIGINT, BIGINT])
        start, bound = int(values[0] or 0), int(values[1] or 0)  # type: ignore[arg-type]  # BIGINTs, as asked for
        partitions = [p for p in partitions if (p <= start if descending else p >= start)]
        if start not in partitions:
            raise PenstockError("bad_cursor", f"'{spec.name}' has no partition {start}")
    for partition in reversed(partitions) if descending else partitions:
        if scan.spent():  # at the end of the partition before
            return RawPage(scan.frame(), cursor_text(scope, [partition, _END if descending else 0]))
        stopped = await scan.partition(log, partition, head=heads[partition], bound=bound)
        if stopped is not None:
            return RawPage(scan.frame(), cursor_text(scope, [partition, stopped]))
        bound = None
    return RawPage(scan.frame(), None)


class _Scan:
    """What one request has found so far and how much it may still look at."""

    def __init__(self, spec: StreamSpec, query: PageQuery, limits: QuerySettings, *, descending: bool) -> None:
        self._spec, self._query, self._limits, self._descending = spec, query, limits, descending
        self._shown = [column.name for column in query.select]
        self._tested = {condition.column.name for condition in query.conditions}
        self._left_rows = query.limit
        self._left_scan = limits.scan_rows_max
        self._found: list[pl.DataFrame] = []

    def frame(self) -> pl.DataFrame:
        """The rows found, with the selected columns."""
        if not self._found:
            return empty_frame(self._query.select)
        return pl.concat(self._found).select(self._shown)

    def spent(self) -> bool:
        """True when the page is full or enough events have been looked at."""
        return self._left_rows <= 0 or self._left_scan <= 0

    async def partition(self, log: Log, partition: int, *, head: Head, bound: int | None) -> int | None:
        """Look through one partition; the offset where to go on if a limit was reached before its end."""
        low, high = _bounds(self._query.conditions, partition)
        low, high = max(low, head.first), min(high, head.next)
        if self._descending:
            return await self._backwards(log, partition, low=low, high=high if bound is None else min(high, bound))
        return await self._forwards(log, partition, low=low if bound is None else max(low, bound), high=high)

    async def _forwards(self, log: Log, partition: int, *, low: int, high: int) -> int | None:
        size_bytes = _FIRST_READ_BYTES
        while low < high:
            batches = await log.read(self._spec.name, partition, low, min(size_bytes, self._limits.read_max_bytes))
            if not batches:
                return None
            size_bytes *= 2
            low = await asyncio.to_thread(self._through, batches, low, high)
            if self.spent():
                return low if low < high else None
        return None

    def _through(self, batches: Sequence[Batch], low: int, high: int) -> int:
        """Look through the batches in order; the offset of the first event not looked at."""
        for batch in batches:
            low = max(low, batch.base)
            end = min(batch.next, high)
            if low < end and _may_match(self._spec, batch, self._query.conditions):
                low = self._take(batch, raw_lines(batch), low, end)
            else:
                low = max(low, end)
            if self.spent() or low >= high:
                return low
        return low

    def _take(self, batch: Batch, lines: Sequence[bytes], low: int, end: int) -> int:
        while low < end and not self.spent():
            rows = self._left_rows if not self._tested else max(_CHUNK_ROWS, self._left_rows)
            count = min(end - low, self._left_scan, rows)
            kept = self._matching(batch, lines, low, low + count).head(self._left_rows)
            # Where the page is full, go on right after its last row and not after what was tested.
            seen = low + count if len(kept) < self._left_rows else int(kept[-1]) + 1
            self._keep(batch, lines, kept, scanned=seen - low)
            low = seen
        return low

    def _matching(self, batch: Batch, lines: Sequence[bytes], low: int, high: int) -> pl.Series:
        """Offsets of the events in [low, high) that meet the conditions; only what is tested is decoded."""
        offsets = pl.int_range(low, high, dtype=pl.Int64, eager=True)
        where = predicates(self._query.conditions, partition=batch.partition)
        if where is None:
            return offsets
        texts = lines[low - batch.base : high - batch.base]
        frame = raw_frame(self._spec, batch, lines=texts, offsets=offsets, wanted=self._tested)
        return frame.filter(where)[PLACE]

    def _keep(self, batch: Batch, lines: Sequence[bytes], offsets: pl.Series, *, scanned: int) -> None:
        self._left_scan -= scanned
        if len(offsets):
            texts = [lines[offset - batch.base] for offset in offsets.to_list()]
            self._found.append(raw_frame(self._spec, batch, lines=texts, offsets=offsets, wanted=self._shown))
            self._left_rows -= len(offsets)

    async def _backwards(self, log: Log, partition: int, *, low: int, high: int) -> int | None:
        """Windows from the end, each read forwards: the log has no other direction."""
        while low < high:
            window = min(high - low, max(_CHUNK_ROWS, self._left_rows), self._left_scan)
            start = high - window
            batches: list[Batch] = []
            at = start
            while at < high:
                found = await log.read(self._spec.name, partition, at, self._limits.read_max_bytes)
                if not found:
                    break
                batches += found
                at = found[-1].next
            high = await asyncio.to_thread(self._window, batches, start, high)
            if self.spent():
                return high if low < high else None
        return None

    def _window(self, batches: Sequence[Batch], start: int, high: int) -> int:
        """Keep the rows of [start, high), last first; the offset below which to go on."""
        for batch in reversed(batches):
            low, end = max(start, batch.base), min(batch.next, high)
            if low >= end or not _may_match(self._spec, batch, self._query.conditions):
                continue
            lines = raw_lines(batch)
            kept = self._matching(batch, lines, low, end).reverse().head(self._left_rows)
            self._keep(batch, lines, kept, scanned=0)
            if self._left_rows <= 0:
                start = int(kept[-1])
                break
        self._left_scan -= high - start
        return start


def _descending(query: PageQuery) -> bool:
    if not query.order:
        return False
    if len(query.order) > 1 or query.order[0].column.name != POSITION:
        raise PenstockError("bad_request", f"raw events are ordered by {POSITION} only: order={POSITION}.desc")
    return query.order[0].descending


def _bounds(conditions: Sequence[Condition], partition: int) -> tuple[int, int]:
    """Offsets [low, high) outside of which no event of the partition can match the conditions on POSITION."""
    low, high = 0, _END
    for condition in conditions:
        if condition.column.name != POSITION or condition.negated or not isinstance(condition.value, tuple):
            continue
        if condition.operator in (Operator.IN, Operator.NEQ, Operator.LIKE):
            continue
        wanted, offset = condition.value
        assert isinstance(wanted, int)  # a position is a pair of numbers
        assert isinstance(offset, int)
        match condition.operator:
            case Operator.EQ:
                low, high = (max(low, offset), min(high, offset + 1)) if partition == wanted else (0, 0)
            case Operator.GT | Operator.GTE:
                after = offset + (condition.operator is Operator.GT)
                low = max(low, after) if partition == wanted else low if partition > wanted else high
            case Operator.LT | Operator.LTE:
                until = offset + (condition.operator is Operator.LTE)
                high = min(high, until) if partition == wanted else high if partition < wanted else 0
    return low, high


def _may_match(spec: StreamSpec, batch: Batch, conditions: Sequence[Condition]) -> bool:
    """False when the batch's own bounds say that none of its events can match: it need not be decoded."""
    times = {spec.time_column, "_time"} - {None}
    for condition in conditions:
        value = condition.value
        if condition.negated or not isinstance(value, int) or isinstance(value, bool):
            continue
        if condition.column.name == "_received_at":
            least: int | None = batch.appended_at_ms
            greatest: int | None = batch.appended_at_ms
        elif condition.column.name in times and condition.column.type.is_timestamp:
            least, greatest = batch.min_time_ms, batch.max_time_ms
        else:
            continue
        if least is None or greatest is None:
            continue
        outside = {
            Operator.EQ: value < least or value > greatest,
            Operator.LT: least >= value,
            Operator.LTE: least > value,
            Operator.GT: greatest <= value,
            Operator.GTE: greatest < value,
        }
        if outside.get(condition.operator, False):
            return False
    return True
