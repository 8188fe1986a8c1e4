"""Settings of the store adapters: every limit has a name here."""

from __future__ import annotations

from pydantic import BaseModel, Field

__all__ = ["StoreSettings"]


class StoreSettings(BaseModel, frozen=True):
    """How the store's database is opened and what one read may cost."""

    readers: int = Field(
        default=2, description="Read-only connections, each used by one thread at a time.", ge=1, le=64
    )
    lock_wait_s: float = Field(
        default=5.0, description="How long a statement waits for a lock of the database before it fails.", gt=0, le=60
    )
    writer_cache_mib: int = Field(
        default=32,
        description="Page cache of the writing connection: the working set of upserted tables.",
        ge=1,
        le=4096,
    )
    reader_cache_mib: int = Field(default=4, description="Page cache of each reading connection.", ge=1, le=4096)
    checkpoint_pages: int = Field(
        default=4000,
        description="Pages in the write-ahead log at which the writer copies them into the database.",
        ge=100,
    )
    progress_steps: int = Field(
        default=20_000, description="Virtual machine steps of SQLite between two looks at a read's deadline.", ge=100
    )
    fetch_rows: int = Field(
        default=10_000, description="Rows fetched at a time while a result is put into columns.", ge=100, le=1_000_000
    )
    snapshot_rows_max: int = Field(
        default=2_000_000,
        description="Rows of a table that `snapshot` reads at most; a larger table is `too_large`.",
        ge=1,
    )
    snapshot_time_s: float = Field(default=30.0, description="Time that reading a whole table may take.", gt=0)
