"""Settings of the store adapters: every limit has a name here."""

from __future__ import annotations

from pydantic import BaseModel, Field

__all__ = ["StoreSettings"]


class StoreSettings(BaseModel, frozen=True):
    """How the store's database is opened and what one read may cost."""

    readers: int = Field(
        default=2, description="Read-only connections of a process, each used by one thread at a time.", ge=1, le=64
    )
    query_readers: int = Field(
        default=2,
        description="Connections of a process for SQL queries of callers, beside those of `readers`.",
        ge=1,
        le=64,
    )
    query_role: str | None = Field(
        default=None,
        description="PostgreSQL: the role that SQL queries of callers run as, which may read `penstock_store` only; "
        "see docs/query.md. None: the store's own role, in read-only transactions.",
        pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$",
    )
    query_value_max_bytes: int = Field(
        default=4_194_304, description="SQLite: the longest text or bytes that a query may make.", ge=1_048_576
    )
    lock_wait_s: float = Field(
        default=5.0, description="How long a statement waits for a lock of the database before it fails.", gt=0, le=60
    )
    connect_s: float = Field(default=5.0, description="How long connecting to PostgreSQL may take.", ge=2, le=60)
    idle_transaction_s: float = Field(
        default=10.0,
        description="PostgreSQL ends a session whose transaction has stood still for so long: a process that was "
        "stopped in the middle holds up nobody for longer.",
        gt=0,
        le=3600,
    )
    upsert_rows: int = Field(
        default=20_000, description="Rows sent to PostgreSQL in one upserting statement.", ge=1, le=1_000_000
    )
    key_max_bytes: int = Field(
        default=2400,
        description="Bytes of text in a table's key that PostgreSQL's index takes; longer keys are left out, counted "
        "in `penstock_store_long_keys_total`.",
        ge=1,
        le=2600,
    )
    writer_cache_mib: int = Field(
        default=32,
        description="SQLite: page cache of the writing connection, the working set of upserted tables.",
        ge=1,
        le=4096,
    )
    reader_cache_mib: int = Field(
        default=4, description="SQLite: page cache of each reading connection.", ge=1, le=4096
    )
    checkpoint_pages: int = Field(
        default=4000,
        description="SQLite: pages in the write-ahead log at which the writer copies them into the database.",
        ge=100,
    )
    progress_steps: int = Field(
        default=20_000, description="Virtual machine steps of SQLite between two looks at a read's deadline.", ge=100
    )
    query_progress_steps: int = Field(
        default=200,
        description="The same for queries of callers, whose steps may be long: each may make a text of megabytes.",
        ge=100,
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
