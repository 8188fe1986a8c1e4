"""Raw events from archive files: pruned by the catalogue and by the files' statistics, read in threads."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from penstock.codecs.frames import polars_type
from penstock.errors import PenstockError
from penstock.ports.archive import ArchiveCatalogue, ArchiveFile, ArchiveRange
from penstock_data.archive_folder import ArchiveFolder
from penstock_data.archive_frames import BODY_BYTES, body_bytes
from penstock_data.predicates import PLACE, predicates
from penstock_data.query import POSITION, Condition
from penstock_data.raw_bounds import time_bounds, times_of
from penstock_data.raw_columns import BODY, ID, KEY, RECEIVED, TIME, parsed_columns, raw_columns
from penstock_data.raw_scan import Scan

__all__ = ["Archive", "look_backwards", "look_forwards"]

_OWN = (POSITION, RECEIVED, ID, TIME, KEY, BODY)
_WINDOW_BYTES = 2 * 1024 * 1024  # of a file, compressed: decoded at a time where a filter needs the texts
_WINDOW_ROWS_MIN, _WINDOW_ROWS_MAX = 256, 32_768


@dataclass(frozen=True, slots=True)
class Archive:
    """The catalogue and the folder that it speaks of."""

    catalogue: ArchiveCatalogue
    folder: ArchiveFolder


async def look_forwards(scan: Scan, archive: Archive, partition: int, *, low: int, high: int) -> int:
    """Look from `low` on until `high` or a limit; where to go on. What no file holds is passed over."""
    while low < high and not scan.spent():
        files = await archive.catalogue.archive_files(_range(scan, partition, low, high))
        for file in files:
            bottom, top = max(low, file.first), min(high, file.next)
            low = await asyncio.to_thread(_look, scan, archive.folder, file, bottom, top)
            scan.moved = True
            if scan.spent():
                return low
        if not files:
            return high
    return low


async def look_backwards(scan: Scan, archive: Archive, partition: int, *, low: int, high: int) -> int:
    """The same from below `high` down to `low`; the offset below which to go on."""
    while low < high and not scan.spent():
        files = await archive.catalogue.archive_files(_range(scan, partition, low, high))
        for file in files:
            bottom, top = max(low, file.first), min(high, file.next)
            high = await asyncio.to_thread(_look, scan, archive.folder, file, bottom, top)
            scan.moved = True
            if scan.spent():
                return high
        if not files:
            return low
    return high


def _range(scan: Scan, partition: int, low: int, high: int) -> ArchiveRange:
    conditions = scan.query.conditions
    return ArchiveRange(
        scan.spec.name,
        partition,
        low,
        high,
        time_ms=time_bounds(conditions, times_of(scan.spec)),
        received_ms=time_bounds(conditions, {RECEIVED}),
        descending=scan.descending,
        limit=scan.limits.archive_files_max,
    )


def _look(scan: Scan, folder: ArchiveFolder, file: ArchiveFile, low: int, high: int) -> int:
    """Look through [low, high) of one file in the order of the page; the offset where to go on."""
    path = folder.root / file.path
    own = [condition for condition in scan.query.conditions if condition.column.name in _OWN]
    others = [condition for condition in scan.query.conditions if condition.column.name not in _OWN]
    try:
        rows = pl.scan_parquet(path).rename({POSITION: PLACE})
        if not others:
            return _look_at_own(scan, rows, own, file.partition, low=low, high=high)
        return _look_at_texts(scan, rows, own, others, file, low=low, high=high)
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise PenstockError(
            "archive_damaged",
            f"{path} holds '{file.stream}' {file.partition}:{file.first} to {file.next} and cannot be read "
            f"({reason}): put the file back from a backup; `penstock verify` lists what else is missing",
        ) from error


def _look_at_own(
    scan: Scan, rows: pl.LazyFrame, own: Sequence[Condition], partition: int, *, low: int, high: int
) -> int:
    """No text needs to be parsed to find the rows: one pass, which ends when the page is full."""
    # A filter looks at many more rows than the page has: never at more than the budget.
    reach = min(high - low, scan.left_archive_scan)
    if scan.descending:
        low = high - reach
    else:
        high = low + reach
    found = _matching(scan, rows, own, partition, low=low, high=high)
    page = found.tail(scan.left_rows) if scan.descending else found.head(scan.left_rows)
    frame = page.select(_needed(scan)).collect()
    scan.left_archive_scan -= high - low
    return _keep(scan, frame, partition, low=low, high=high)


def _look_at_texts(
    scan: Scan,
    rows: pl.LazyFrame,
    own: Sequence[Condition],
    others: Sequence[Condition],
    file: ArchiveFile,
    *,
    low: int,
    high: int,
) -> int:
    """Conditions on declared columns: windows of the file are parsed, as batches of the log are."""
    per_row = max(1, file.size_bytes // max(1, file.rows))
    window_rows = min(_WINDOW_ROWS_MAX, max(_WINDOW_ROWS_MIN, _WINDOW_BYTES // per_row))
    where = predicates(others, partition=file.partition)
    assert where is not None  # there are conditions
    while low < high and not scan.spent():
        count = min(high - low, window_rows, scan.left_scan)
        first, end = (high - count, high) if scan.descending else (low, low + count)
        found = _matching(scan, rows, own, file.partition, low=first, high=end)
        frame = found.select({*_needed(scan), BODY, BODY_BYTES}).collect()
        tested = parsed_columns(scan.spec, body_bytes(frame), {condition.column.name for condition in others})
        places = pl.DataFrame({PLACE: frame[PLACE], **tested}).filter(where)[PLACE]
        page = places.tail(scan.left_rows) if scan.descending else places.head(scan.left_rows)
        scan.left_scan -= count
        at = _keep(scan, frame.filter(pl.col(PLACE).is_in(page.implode())), file.partition, low=first, high=end)
        low, high = (low, at) if scan.descending else (at, high)
    return high if scan.descending else low


def _matching(
    scan: Scan, rows: pl.LazyFrame, own: Sequence[Condition], partition: int, *, low: int, high: int
) -> pl.LazyFrame:
    """The rows of [low, high) that meet the conditions on the archive's own columns."""
    found = rows.filter(pl.col(PLACE) >= low, pl.col(PLACE) < high)
    # Said once more in the file's own type: its statistics rule out row groups.
    for name, names in ((TIME, times_of(scan.spec)), (RECEIVED, {RECEIVED})):
        least, greatest = time_bounds(scan.query.conditions, names)
        if least is not None:
            found = found.filter(pl.col(name) >= _moment(least))
        if greatest is not None:
            found = found.filter(pl.col(name) <= _moment(greatest))
    where = predicates(own, partition=partition)
    return found if where is None else found.filter(where)


def _moment(ms: int) -> pl.Expr:
    return pl.lit(ms, dtype=pl.Int64).cast(pl.Datetime("ms", "UTC"))


def _needed(scan: Scan) -> list[str]:
    own = [name for name in (RECEIVED, ID, TIME, KEY) if name in scan.shown]
    if any(name == BODY or name not in _OWN for name in scan.shown):
        own += [BODY, BODY_BYTES]
    return [PLACE, *own]


def _keep(scan: Scan, frame: pl.DataFrame, partition: int, *, low: int, high: int) -> int:
    """Add the rows, ascending by offset, to the page; the offset where to go on."""
    full = frame.height >= scan.left_rows
    if scan.descending:
        frame = frame.reverse()
    place = int(frame[PLACE][-1]) if full and frame.height else None
    if frame.height:
        scan.add(_page_rows(scan, frame, partition))
    if scan.descending:
        return low if place is None else place
    return high if place is None else place + 1


def _page_rows(scan: Scan, frame: pl.DataFrame, partition: int) -> pl.DataFrame:
    columns = raw_columns(scan.spec)
    declared = [name for name in scan.shown if name not in _OWN]
    found: dict[str, pl.Series] = parsed_columns(scan.spec, body_bytes(frame), declared) if declared else {}
    for name in scan.shown:
        if name == POSITION:
            found[name] = f"{partition}:" + frame[PLACE].cast(pl.String)
        elif name in _OWN:
            target = polars_type(columns[name].type)
            found[name] = frame[name].to_physical().cast(target) if name in (TIME, RECEIVED) else frame[name]
    return pl.DataFrame(found)
