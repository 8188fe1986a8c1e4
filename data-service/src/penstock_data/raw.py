"""Pages of raw events by position: the archive and the log's tail as one, up to a limit of events looked at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from penstock.errors import PenstockError
from penstock.model.stream import StreamSpec
from penstock.model.types import BIGINT
from penstock.ports.log import Head, Log
from penstock_data import raw_archive, raw_tail
from penstock_data.cursors import cursor_text, read_cursor
from penstock_data.query import POSITION, PageQuery
from penstock_data.raw_archive import Archive
from penstock_data.raw_bounds import END, offset_bounds
from penstock_data.raw_scan import Scan
from penstock_data.settings import QuerySettings

__all__ = ["RawPage", "raw_page"]


@dataclass(frozen=True, slots=True)
class RawPage:
    """Rows with the selected columns; `next`: where to go on, None at the end."""

    frame: pl.DataFrame
    next: str | None


async def raw_page(
    log: Log,
    spec: StreamSpec,
    query: PageQuery,
    limits: QuerySettings,
    *,
    archive: Archive | None = None,
    now_s: Callable[[], float] | None = None,
) -> RawPage:
    """One page of `raw.<stream>` in the order of positions, ascending or descending.

    Without `now_s` the page is not bounded by `limits.time_s`. `archive_damaged` if a file of the archive is missing.
    """
    descending = _descending(query)
    sources = await _Sources.open(log, spec, archive)
    scan = Scan(spec, query, limits, descending=descending, now_s=now_s)
    scope = f"raw.{spec.name}|{sources.heads[0].epoch}|{'desc' if descending else 'asc'}"
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
            return RawPage(scan.frame(), cursor_text(scope, [partition, END if descending else 0]))
        stopped = await _look_through(scan, sources, partition, bound=bound)
        if stopped is not None:
            return RawPage(scan.frame(), cursor_text(scope, [partition, stopped]))
        bound = None
    return RawPage(scan.frame(), None)


class _Sources:
    """The log and the archive of one stream as they were when the request began.

    The log was asked first: what it had deleted by then is in the catalogue that was read afterwards.
    """

    def __init__(self, log: Log, spec: StreamSpec, archive: Archive | None, heads: list[Head]) -> None:
        self.log, self.archive, self.heads = log, archive, heads
        self._stream = spec.name
        self._archived: dict[int, int] = {}

    @classmethod
    async def open(cls, log: Log, spec: StreamSpec, archive: Archive | None) -> _Sources:
        heads = [await log.head(spec.name, partition) for partition in range(spec.partitions)]
        sources = cls(log, spec, archive, heads)
        await sources.look_again()
        return sources

    async def look_again(self) -> None:
        """Read how far is archived by now."""
        if self.archive is not None:
            found = await self.archive.catalogue.archived()
            self._archived = {p: place.next for (stream, p), place in found.items() if stream == self._stream}

    def archived(self, partition: int) -> int:
        """The offset up to which the archive has the partition; never beyond the end of the log."""
        return min(self._archived.get(partition, 0), self.heads[partition].next)


async def _look_through(scan: Scan, sources: _Sources, partition: int, *, bound: int | None) -> int | None:
    """Look through one partition; the offset where to go on if a limit was reached before its end."""
    low, high = offset_bounds(scan.query.conditions, partition)
    high = min(high, sources.heads[partition].next)
    if scan.descending:
        return await _backwards(scan, sources, partition, low=low, high=high if bound is None else min(high, bound))
    return await _forwards(scan, sources, partition, low=low if bound is None else max(low, bound), high=high)


async def _forwards(scan: Scan, sources: _Sources, partition: int, *, low: int, high: int) -> int | None:
    log_first = sources.heads[partition].first
    while low < high and not scan.spent():
        archived = sources.archived(partition)
        if sources.archive is not None and low < archived:
            end = min(high, archived)
            low = await raw_archive.look_forwards(scan, sources.archive, partition, low=low, high=end)
            continue
        low, log_first = await raw_tail.look_forwards(
            scan, sources.log, partition, low=max(low, log_first), high=high
        )
        if low < log_first:  # the log has let go of them since: archived first, unless nothing held it
            await sources.look_again()
    return low if low < high else None


async def _backwards(scan: Scan, sources: _Sources, partition: int, *, low: int, high: int) -> int | None:
    log_first = sources.heads[partition].first
    while low < high and not scan.spent():
        archived = sources.archived(partition) if sources.archive is not None else 0
        tail = max(low, archived, log_first)
        if tail < high:
            high, log_first = await raw_tail.look_backwards(scan, sources.log, partition, low=tail, high=high)
            if log_first > tail:
                await sources.look_again()
        elif sources.archive is not None and low < archived:
            high = min(high, archived)
            high = await raw_archive.look_backwards(scan, sources.archive, partition, low=low, high=high)
        else:
            return None
    return high if low < high else None


def _descending(query: PageQuery) -> bool:
    if not query.order:
        return False
    if len(query.order) > 1 or query.order[0].column.name != POSITION:
        raise PenstockError("bad_request", f"raw events are ordered by {POSITION} only: order={POSITION}.desc")
    return query.order[0].descending
