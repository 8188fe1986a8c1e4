"""Settings of the log: every queue, cache, retention and size limit by name."""

from __future__ import annotations

from pydantic import BaseModel, Field

__all__ = ["LogSettings"]

_MIB = 1024 * 1024


class LogSettings(BaseModel, frozen=True):
    """Limits of a log adapter. The memory adapter heeds those on retention and size only."""

    retention_s: float = Field(
        default=7 * 86_400.0,
        ge=0,
        description="how long events are kept where a stream has no `retention` of its own; trimming never passes "
        "a durable consumer",
    )
    rejected_retention_s: float = Field(default=30 * 86_400.0, ge=0, description="how long rejected events are kept")
    ids_retention_s: float = Field(
        default=86_400.0, ge=0, description="how long hashes of dedupe keys are kept; at least the dedupe window"
    )
    ids_read_max_bytes: int = Field(
        default=256 * _MIB, ge=16, description="hashes handed to the dedupe index at start; the newest are kept"
    )
    max_size_bytes: int | None = Field(
        default=None,
        ge=1,
        description="size of the log above which appends are refused (503); nothing is deleted for it",
    )
    queue_max_requests: int = Field(default=10_000, ge=1, description="writes waiting for the disk before 429")
    queue_max_bytes: int = Field(default=256 * _MIB, ge=1, description="payload waiting for the disk before 429")
    group_max_requests: int = Field(default=512, ge=1, description="writes that share one commit")
    group_max_bytes: int = Field(default=32 * _MIB, ge=1, description="payload that shares one commit")
    tail_cache_bytes: int = Field(
        default=32 * _MIB,
        ge=0,
        description="recent batches kept in memory so that live readers do not touch the disk",
    )
    reader_threads: int = Field(default=2, ge=1, le=32, description="threads, and connections per file, that read")
    foreign_poll_ms: int = Field(
        default=20, ge=1, le=1000, description="how often a file that another process writes is looked at"
    )
    busy_timeout_ms: int = Field(default=5000, ge=0, description="wait for SQLite's own short locks before giving up")
    writer_cache_kib: int = Field(default=16 * 1024, ge=64, description="page cache of a writing connection")
    checkpoint_pages: int = Field(default=2000, ge=1, description="pages in the write-ahead log before a checkpoint")
    wal_keep_bytes: int = Field(
        default=64 * _MIB, ge=0, description="size to which the write-ahead log file is cut back"
    )
    trim_interval_s: float = Field(
        default=60.0, gt=0, description="pause between two deletions of what retention lets go"
    )
    trim_chunk_batches: int = Field(default=200, ge=1, description="batches deleted in one transaction")
    unsafe_acknowledge_before_commit: bool = Field(
        default=False,
        description="for tests of the tests only: replies before the commit and then delays it, so that a kill "
        "loses acknowledged events",
    )
    unsafe_synchronous_off: bool = Field(
        default=False,
        description="for tests of the tests only: no fsync, so that a power cut loses acknowledged events",
    )
