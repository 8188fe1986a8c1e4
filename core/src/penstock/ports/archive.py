"""The archive's catalogue: which files hold which offsets of a source stream, and up to where it has been archived.

Part of the store port (`ports.store.Store`), kept in the store's database. Callers: the archiver and `raw.<stream>`
(role data), `penstock verify`, and whoever trims the log, by `archive_floors`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from penstock.model.stream import StreamSpec

__all__ = ["ArchiveCatalogue", "ArchiveFile", "ArchiveRange", "Archived", "archive_floors"]

StreamPartition = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Archived:
    """How far a partition has been archived: offsets below `next` of `epoch` are in files, or were never there.

    `holds`: the log must keep what is not archived yet. False once archiving has been switched off.
    """

    epoch: int
    next: int
    holds: bool = True


@dataclass(frozen=True, slots=True)
class ArchiveFile:
    """One file: events of one partition at offsets [first, next). `path` is relative to the archive's folder.

    `rows` may be less than `next - first` where the log's offsets have gaps. Times are epoch milliseconds; the event
    times are None where no event has one. `sha256` is that of the whole file, in hexadecimal digits.
    """

    stream: str
    partition: int
    epoch: int
    first: int
    next: int
    rows: int
    min_time_ms: int | None
    max_time_ms: int | None
    min_received_ms: int
    max_received_ms: int
    path: str
    size_bytes: int
    sha256: str
    written_at_ms: int


@dataclass(frozen=True, slots=True)
class ArchiveRange:
    """Which files of a partition to list: those with offsets in [low, high) and, where given, with events in these
    closed ranges of time (None: without a bound).
    """

    stream: str
    partition: int
    low: int
    high: int
    time_ms: tuple[int | None, int | None] = (None, None)
    received_ms: tuple[int | None, int | None] = (None, None)
    descending: bool = False
    limit: int = 64


class ArchiveCatalogue(Protocol):
    """Files of the archive in the order of their offsets. Errors: Fenced, `store_unavailable`."""

    async def archived(self) -> Mapping[StreamPartition, Archived]:
        """How far each partition has been archived; one that was never claimed is not there.

        Whoever trims a log file must not go beyond it where it `holds` (`archive_floors`); the floor of a partition
        is the least of what is applied (`Store.applied_all`) and what is archived.
        """
        ...

    async def claim_archive(self, stream: str, partition: int, epoch: int, next_offset: int) -> None:
        """From now on the log keeps what is not archived: start at `next_offset`, or go on from where it stands."""
        ...

    async def release_archive(self, stream: str | None = None) -> None:
        """Archiving of this stream (None: of all) is off: the log need not wait for it. Positions and files stay."""
        ...

    async def add_archive_file(self, file: ArchiveFile, expected: Archived) -> None:
        """Catalogue a written file and move the position to its end, in one transaction; durable when it returns.

        Fenced if the partition is not at `expected` any more: another archiver was faster, the file is not needed.
        """
        ...

    async def archive_files(self, where: ArchiveRange) -> Sequence[ArchiveFile]:
        """At most `where.limit` files by offset. A newer epoch hides what overlaps it in older ones."""
        ...

    async def archive_paths(self, after: str, limit: int) -> Sequence[str]:
        """Paths of catalogued files after `after`, in order: for cleaning up and for verifying."""
        ...

    async def expire_archive_files(self, received_before_ms: int) -> int:
        """Forget files whose events were all received before then, the oldest of each partition first; how many. The
        files themselves are not named by the catalogue any more, positions stay.
        """
        ...

    async def archive_place(self) -> str:
        """The mark of this catalogue, made once: an archive folder belongs to the catalogue whose mark it carries."""
        ...

    async def cut_archive(self, stream: str, partition: int, at: int) -> Sequence[ArchiveFile]:
        """The log was restored and ends at `at`: forget files from there on, shorten the one across it, and go on
        from `at`. Returns the files forgotten.
        """
        ...


def archive_floors(
    streams: Mapping[str, StreamSpec], archived: Mapping[StreamPartition, Archived]
) -> dict[StreamPartition, int]:
    """The offsets below which the archive needs nothing more of the log, for `Log.trim`."""
    return {
        (name, partition): position.next
        for (name, partition), position in archived.items()
        if position.holds and name in streams and streams[name].archive
    }
