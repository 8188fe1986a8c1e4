"""When to archive, and which archiver does it: decisions without I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

from penstock.errors import PenstockError
from penstock.model.stream import StreamSpec
from penstock.ports.archive import Archived
from penstock.ports.log import Head
from penstock_data.settings import ArchiveSettings

__all__ = ["Backlog", "is_due", "is_mine", "start_of"]

_SHARE_OF_RETENTION = 4  # a log that lets go of events by itself must not be faster than we are


@dataclass(frozen=True, slots=True)
class Backlog:
    """What a partition has in the log that is not archived; the oldest of it was looked at."""

    events: int
    oldest_received_ms: int
    bytes_per_event: float  # of the oldest batch, as it is in the log


def is_due(backlog: Backlog, spec: StreamSpec, *, now_ms: int, settings: ArchiveSettings) -> bool:
    """True when there is enough for a whole file, or when the oldest event has waited long enough."""
    if backlog.events <= 0:
        return False
    age_s = settings.file_age_s
    if spec.retention_s is not None:
        age_s = min(age_s, spec.retention_s / _SHARE_OF_RETENTION)
    whole = (
        backlog.events >= settings.file_max_rows
        or backlog.events * backlog.bytes_per_event >= settings.file_max_bytes
    )
    return whole or now_ms - backlog.oldest_received_ms >= age_s * 1000


def is_mine(stream: str, partition: int, *, member: str, members: Sequence[str]) -> bool:
    """Whether this archiver works on the partition: everyone who sees the same members decides alike.

    Two that see different members may both do it: the position in the catalogue lets only one of them finish.
    """
    if member not in members:
        return True
    return members[crc32(f"{stream}/{partition}".encode()) % len(members)] == member


def start_of(spec: StreamSpec, partition: int, archived: Archived, head: Head) -> int:
    """The offset from which to archive. `archive_ahead` if the log ends before what is archived: it was restored."""
    if head.epoch > archived.epoch:
        return head.first  # the stream was made anew; offsets go on, or begin again where the log is another one
    if head.epoch < archived.epoch or head.next < archived.next:
        raise PenstockError(
            "archive_ahead",
            f"the archive holds '{spec.name}' partition {partition} up to {archived.next} of epoch {archived.epoch}, "
            f"its log ends at {head.next} of epoch {head.epoch}: the log was restored from an older backup; stop the "
            "system and run `penstock rebuild --archive`: it cuts the archive where the log ends and keeps what "
            "lies beyond aside",
        )
    return max(archived.next, head.first)
