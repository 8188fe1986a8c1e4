"""The archiver: raw events of source streams from the log into Parquet files, before the log lets go of them.

A file is written under a temporary name, synced and renamed; then its catalogue entry and the position commit in one
transaction. Whatever is killed in between leaves a file that no catalogue names, which is deleted later.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial as bind

import polars as pl
import structlog

from penstock.errors import Fenced, PenstockError
from penstock.model.batch import Batch
from penstock.model.stream import Relation, StreamSpec
from penstock.ports.archive import Archived, ArchiveFile
from penstock.ports.clock import Clock
from penstock.ports.log import Log
from penstock_data.archive_folder import FileName
from penstock_data.archive_frames import archive_frame, groups
from penstock_data.archive_plan import Backlog, is_due, is_mine, start_of
from penstock_data.metrics import (
    ARCHIVE_ERRORS,
    ARCHIVE_EXPIRED_FILES,
    ARCHIVE_LAG_EVENTS,
    ARCHIVE_LAG_SECONDS,
    ARCHIVE_LEFTOVERS,
    ARCHIVE_SKIPPED_EVENTS,
    ARCHIVE_WRITE_SECONDS,
    ARCHIVED_BYTES,
    ARCHIVED_EVENTS,
    ARCHIVED_FILES,
)
from penstock_data.raw_archive import Archive
from penstock_data.raw_columns import RECEIVED, TIME
from penstock_data.settings import ArchiveSettings

__all__ = ["Archiver"]

_GROUP = "archive"  # of the log's members
_GROUP_ROWS = 16_384  # events made a frame at a time: what a frame costs beside its rows is shared by many
_GROUP_BYTES = 256 * 1024  # of payload: the events themselves are some ten times as large
_PATHS_AT_ONCE = 10_000

StreamPartition = tuple[str, int]
_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Content:
    """What has been read for one file."""

    frames: list[pl.DataFrame] = field(default_factory=list)
    rows: int = 0
    size_bytes: int = 0
    first: int | None = None
    next: int = 0

    def add(self, frame: pl.DataFrame, size_bytes: int, *, first: int, next_offset: int) -> None:
        """Rows of the offsets [first, next_offset)."""
        self.frames.append(frame)
        self.rows += frame.height
        self.size_bytes += size_bytes
        self.first = first if self.first is None else self.first
        self.next = next_offset

    def full(self, settings: ArchiveSettings) -> bool:
        """True when the file is large enough."""
        return self.rows >= settings.file_max_rows or self.size_bytes >= settings.file_max_bytes


class Archiver:
    """One per process with the role data; several on one catalogue share the partitions and fence each other."""

    def __init__(
        self,
        log: Log,
        archive: Archive,
        *,
        clock: Clock,
        settings: ArchiveSettings,
        token: Callable[[], str] = lambda: secrets.token_hex(4),
    ) -> None:
        self._log, self._catalogue, self._folder = log, archive.catalogue, archive.folder
        self._clock, self._settings, self._token = clock, settings, token
        self._member = token()
        self._claimed: set[StreamPartition] = set()
        self._marked = False
        self._cleaned_at_s: float | None = None
        self.trouble: dict[str, str] = {}  # what could not be archived, and why

    @property
    def detail(self) -> str:
        """For `/readyz`: the first trouble, or that there is none."""
        return next(iter(self.trouble.values()), "follows the log")

    async def run(self, stop: asyncio.Event) -> None:
        """Archive until `stop`; failures are said, counted and tried again: the log keeps the events meanwhile."""
        stopped = asyncio.ensure_future(stop.wait())
        try:
            while not stop.is_set():
                if not await self._guarded("archive", self.round):
                    pause_s = self._settings.retry_s if self.trouble else self._settings.look_interval_s
                    pause = asyncio.ensure_future(self._clock.sleep(pause_s))
                    await asyncio.wait({pause, stopped}, return_when=asyncio.FIRST_COMPLETED)
                    pause.cancel()
        finally:
            stopped.cancel()
            with suppress(PenstockError):  # the others find out by themselves, a little later
                await self._log.beat(_GROUP, self._member, 0)

    async def round(self) -> bool:
        """Write the files that are due, one a partition; False if none was."""
        if not self._marked:
            mark = await self._catalogue.archive_place()
            await asyncio.to_thread(self._folder.check_mark, mark)
            self._marked = True
        members = await self._log.beat(_GROUP, self._member, self._settings.member_ttl_s)
        streams = (await self._log.catalog()).streams
        archived = await self._catalogue.archived()
        moved = False
        for spec in streams.values():
            if spec.relation is not Relation.SOURCE:
                continue
            if not spec.archive:
                await self._release(spec, archived)
                continue
            for partition in range(spec.partitions):
                if is_mine(spec.name, partition, member=self._member, members=members):
                    step = bind(self._partition, spec, partition, archived)
                    moved |= await self._guarded(f"{spec.name}/{partition}", step)
        await self._clean_up(archived)
        return moved

    async def _guarded(self, what: str, step: Callable[[], Awaitable[bool]]) -> bool:
        """Run a step; an error becomes `trouble` under its name."""
        try:
            moved = await step()
        except PenstockError as error:
            if not isinstance(error, Fenced):  # another archiver was faster: nothing is wrong
                ARCHIVE_ERRORS.labels(error.code).inc()
                if what not in self.trouble:
                    _log.warning("archiving stopped for now", what=what, code=error.code, detail=error.detail)
                self.trouble[what] = error.detail
            return False
        if self.trouble.pop(what, None) is not None:
            _log.info("archiving goes on", what=what)
        return moved

    async def _release(self, spec: StreamSpec, archived: Mapping[StreamPartition, Archived]) -> None:
        if any(stream == spec.name and place.holds for (stream, _), place in archived.items()):
            await self._catalogue.release_archive(spec.name)
        self._claimed = {key for key in self._claimed if key[0] != spec.name}

    async def _partition(
        self, spec: StreamSpec, partition: int, archived: Mapping[StreamPartition, Archived]
    ) -> bool:
        """Write one file of a partition if one is due."""
        key = (spec.name, partition)
        head = await self._log.head(*key)
        place = archived.get(key)
        if place is None:
            place = Archived(head.epoch, head.first)
        if key not in self._claimed or not place.holds:
            await self._catalogue.claim_archive(*key, place.epoch, place.next)
            self._claimed.add(key)
            if key not in archived:
                return False  # another archiver may have been first: read the position in the next round
        start = start_of(spec, partition, place, head)
        oldest = await self._log.read(*key, start, 1, 1) if start < head.next else []
        if not oldest:
            ARCHIVE_LAG_EVENTS.labels(spec.name, partition).set(0)
            ARCHIVE_LAG_SECONDS.labels(spec.name, partition).set(0)
            return False
        now_ms = self._clock.now_ms()
        backlog = Backlog(head.next - start, oldest[0].appended_at_ms, len(oldest[0].payload) / oldest[0].count)
        ARCHIVE_LAG_EVENTS.labels(spec.name, partition).set(backlog.events)
        ARCHIVE_LAG_SECONDS.labels(spec.name, partition).set(max(0, now_ms - backlog.oldest_received_ms) / 1000)
        if not is_due(backlog, spec, now_ms=now_ms, settings=self._settings):
            return False
        return await self._write(spec, place, start, oldest[0])

    async def _write(self, spec: StreamSpec, place: Archived, start: int, oldest: Batch) -> bool:
        """Read a file's worth of events, write the file, and move the position."""
        started_s = self._clock.monotonic_s()
        epoch, partition = oldest.epoch, oldest.partition
        content = await self._read(spec, partition, epoch=epoch, start=start)
        if content.first is None or not content.rows:
            return False  # offsets without an event, at the end of the log
        if content.first > place.next and epoch == place.epoch:
            lost = content.first - place.next
            ARCHIVE_SKIPPED_EVENTS.labels(spec.name).inc(lost)
            _log.warning("events missing in the archive", stream=spec.name, partition=partition, events=lost)
        name = FileName(spec.name, partition, epoch, content.first, content.next, self._token())
        file = await asyncio.to_thread(self._write_file, name, content)
        try:
            await self._catalogue.add_archive_file(file, place)
        except Fenced:
            await asyncio.to_thread(self._folder.remove, name.path)
            raise
        ARCHIVED_EVENTS.labels(spec.name).inc(file.rows)
        ARCHIVED_BYTES.labels(spec.name).inc(file.size_bytes)
        ARCHIVED_FILES.labels(spec.name).inc()
        ARCHIVE_WRITE_SECONDS.observe(self._clock.monotonic_s() - started_s)
        return True

    async def _read(self, spec: StreamSpec, partition: int, *, epoch: int, start: int) -> _Content:
        """Events from `start` on, until a file is full or the log has no more; parsing and reading overlap."""
        content = _Content(next=start)
        batches = await self._read_batches(spec, partition, start, epoch=epoch)
        while batches:
            following = asyncio.ensure_future(self._read_batches(spec, partition, batches[-1].next, epoch=epoch))
            try:
                await asyncio.to_thread(self._parse, spec, batches, content)
            finally:
                if content.full(self._settings):
                    following.cancel()
                found = await asyncio.gather(following, return_exceptions=True)
            if content.full(self._settings):
                break
            if isinstance(found[0], BaseException):
                raise found[0]
            batches = found[0]
        return content

    async def _read_batches(self, spec: StreamSpec, partition: int, offset: int, *, epoch: int) -> list[Batch]:
        batches = await self._log.read(spec.name, partition, offset, self._settings.read_max_bytes)
        if any(batch.epoch != epoch for batch in batches):
            raise Fenced(f"'{spec.name}' was recreated while it was archived")
        return batches

    def _parse(self, spec: StreamSpec, batches: list[Batch], content: _Content) -> None:
        rows = min(_GROUP_ROWS, self._settings.file_max_rows)
        for group in groups(batches, rows=rows, size_bytes=_GROUP_BYTES):
            if content.full(self._settings):
                return
            frame, size_bytes = archive_frame(spec, group, from_offset=content.next)
            content.add(frame, size_bytes, first=max(content.next, group[0].first), next_offset=group[-1].next)

    def _write_file(self, name: FileName, content: _Content) -> ArchiveFile:
        frame = pl.concat(content.frames)
        row_group_rows = self._settings.row_group_rows
        size_bytes, sha256 = self._folder.write(name, frame, row_group_rows=row_group_rows)
        bounds = frame.select(
            pl.col(TIME).min().to_physical().alias("min_time_ms"),
            pl.col(TIME).max().to_physical().alias("max_time_ms"),
            pl.col(RECEIVED).min().to_physical().alias("min_received_ms"),
            pl.col(RECEIVED).max().to_physical().alias("max_received_ms"),
            pl.len().alias("rows"),
        ).row(0, named=True)
        return ArchiveFile(
            stream=name.stream,
            partition=name.partition,
            epoch=name.epoch,
            first=name.first,
            next=name.next,
            path=name.path,
            size_bytes=size_bytes,
            sha256=sha256,
            written_at_ms=self._clock.now_ms(),
            **bounds,
        )

    async def _clean_up(self, archived: Mapping[StreamPartition, Archived]) -> None:
        """Delete what crashes have left behind: unfinished files, and whole ones whose events are in another file."""
        now_s = self._clock.monotonic_s()
        if self._cleaned_at_s is not None and now_s - self._cleaned_at_s < self._settings.cleanup_interval_s:
            return
        self._cleaned_at_s = now_s
        known: set[str] = set()
        after = ""
        while page := await self._catalogue.archive_paths(after, _PATHS_AT_ONCE):
            known.update(page)
            after = page[-1]
        before_ms = round(self._clock.now_ms() - self._settings.leftover_age_s * 1000)
        left = await asyncio.to_thread(self._delete_leftovers, known, archived, before_ms)
        ARCHIVE_LEFTOVERS.set(left)
        await self._expire()

    async def _expire(self) -> None:
        """Forget what is older than the archive's retention. The files go with the next clean-up: a query that has
        listed them can still read them, and whatever is killed in between leaves them to a later one.
        """
        if self._settings.retention_s is None:
            return
        before_ms = round(self._clock.now_ms() - self._settings.retention_s * 1000)
        expired = await self._catalogue.expire_archive_files(before_ms)
        if expired:
            ARCHIVE_EXPIRED_FILES.inc(expired)
            _log.info("archive_files_expired", files=expired, received_before_ms=before_ms)

    def _delete_leftovers(self, known: set[str], archived: Mapping[StreamPartition, Archived], before_ms: int) -> int:
        """The number of files that are left: too young, or with events that no other file is known to have."""
        left = 0
        for path in list(self._folder.leftovers(older_than_ms=before_ms)):
            self._folder.remove(path)
        for name in list(self._folder.names()):
            if name.path in known:
                continue
            place = archived.get((name.stream, name.partition))
            covered = place is not None and (place.epoch, place.next) >= (name.epoch, name.next)
            if covered and self._folder.written_ms(name.path) < before_ms:
                self._folder.remove(name.path)
            else:
                left += 1
        return left
