"""Raw events from the log's own batches, by position, forwards and backwards."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from penstock.model.batch import Batch
from penstock.ports.log import Log
from penstock_data.raw_bounds import may_match
from penstock_data.raw_columns import raw_lines
from penstock_data.raw_scan import CHUNK_ROWS, Scan

__all__ = ["look_backwards", "look_forwards"]

_FIRST_READ_BYTES = 64 * 1024  # a page of a hundred rows needs one batch, not megabytes of them


async def look_forwards(scan: Scan, log: Log, partition: int, *, low: int, high: int) -> tuple[int, int]:
    """Look from `low` on until `high` or a limit: (where to go on, the first offset that the log has by now).

    Stops where the log has let go of events since the request began: they may be in the archive.
    """
    size_bytes = _FIRST_READ_BYTES
    first = low
    while low < high:
        max_bytes = min(size_bytes, scan.limits.read_max_bytes)
        batches = await log.read(scan.spec.name, partition, low, max_bytes)
        if not batches:
            return low, high  # all of it is gone
        if batches[0].first > low:
            return low, batches[0].first
        size_bytes *= 2
        low = await asyncio.to_thread(_through, scan, batches, low, high)
        scan.moved = True
        if scan.spent():
            break
    return low, first


async def look_backwards(scan: Scan, log: Log, partition: int, *, low: int, high: int) -> tuple[int, int]:
    """The same from below `high` down to `low`: (below which to go on, the first offset that the log has by now).

    Windows from the end, each read forwards: the log has no other direction.
    """
    while low < high:
        window = min(high - low, max(CHUNK_ROWS, scan.left_rows), scan.left_scan)
        start = high - window
        batches: list[Batch] = []
        at = start
        while at < high:
            found = await log.read(scan.spec.name, partition, at, scan.limits.read_max_bytes)
            if not found:
                break
            batches += found
            at = found[-1].next
        first = batches[0].first if batches else high
        high = await asyncio.to_thread(_window, scan, batches, max(start, min(first, high)), high)
        scan.moved = True
        if first > start:
            return high, first
        if scan.spent():
            break
    return high, low


def _through(scan: Scan, batches: Sequence[Batch], low: int, high: int) -> int:
    """Look through the batches in order; the offset of the first event not looked at."""
    for batch in batches:
        low = max(low, batch.base)
        end = min(batch.next, high)
        if low < end and may_match(scan.spec, batch, scan.query.conditions):
            low = _take(scan, batch, raw_lines(batch), low, end)
        else:
            low = max(low, end)
        if scan.spent() or low >= high:
            return low
    return low


def _take(scan: Scan, batch: Batch, lines: Sequence[bytes], low: int, end: int) -> int:
    while low < end and not scan.spent():
        rows = scan.left_rows if not scan.tested else max(CHUNK_ROWS, scan.left_rows)
        count = min(end - low, scan.left_scan, rows)
        kept = scan.matching(batch, lines, low, low + count).head(scan.left_rows)
        # Where the page is full, go on right after its last row and not after what was tested.
        seen = low + count if len(kept) < scan.left_rows else int(kept[-1]) + 1
        scan.keep(batch, lines, kept, scanned=seen - low)
        low = seen
    return low


def _window(scan: Scan, batches: Sequence[Batch], start: int, high: int) -> int:
    """Keep the rows of [start, high), last first; the offset below which to go on."""
    for batch in reversed(batches):
        low, end = max(start, batch.base), min(batch.next, high)
        if low >= end or not may_match(scan.spec, batch, scan.query.conditions):
            continue
        lines = raw_lines(batch)
        kept = scan.matching(batch, lines, low, end).reverse().head(scan.left_rows)
        scan.keep(batch, lines, kept, scanned=0)
        if scan.left_rows <= 0:
            start = int(kept[-1])
            break
    scan.left_scan -= high - start
    return start
