"""Settings of the role data: every batch, page, scan and wait has its limit here."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, Field

__all__ = ["ApplierSettings", "ArchiveSettings", "DataSettings", "QuerySettings", "SqlSettings"]

_MIB = 1024 * 1024


class ApplierSettings(BaseModel, frozen=True):
    """How derived relations follow the log into the store."""

    round_max_bytes: int = Field(
        default=16 * _MIB, description="Payload bytes of all relations put into one transaction.", ge=1024
    )
    read_max_bytes: int = Field(
        default=4 * _MIB, description="Payload bytes of one partition read in one round.", ge=1024
    )
    read_max_batches: int = Field(
        default=1000, description="Batches of one partition read in one round.", ge=1, le=100_000
    )
    pause_s: float = Field(
        default=0.02,
        description="Rest after a transaction that caught up: what arrives meanwhile shares the next one.",
        ge=0,
        le=10,
    )
    wait_s: float = Field(
        default=1.0, description="How long to wait for news of the log before looking anyway.", gt=0, le=60
    )
    retry_s: float = Field(
        default=1.0, description="Pause before another attempt when the store or the log cannot be used.", gt=0, le=60
    )
    old_catalog_s: float = Field(
        default=5.0,
        description="How long a log that answers may show an older catalog than the store was made for, before it is "
        "taken for one that was restored.",
        ge=0,
        le=600,
    )
    unsafe_position_before_rows: bool = Field(
        default=False,
        description="For tests of the tests only: commits positions before rows and waits between, so that a kill "
        "loses rows of the store.",
    )


class QuerySettings(BaseModel, frozen=True):
    """What one request may ask for and what all of them may take together."""

    limit_default: int = Field(default=100, description="Rows of a page without `limit`.", ge=1)
    limit_max: int = Field(default=10_000, description="Greatest `limit`.", ge=1)
    conditions_max: int = Field(default=32, description="Filters of one request.", ge=1)
    in_values_max: int = Field(default=1000, description="Values of one `in.(...)`.", ge=1, le=30_000)
    value_chars_max: int = Field(default=4096, description="Characters of one filter value.", ge=16)
    like_chars_max: int = Field(default=256, description="Characters of one `like` pattern.", ge=1, le=4096)
    cursor_chars_max: int = Field(default=6000, description="Characters of a cursor.", ge=200, le=7000)
    order_columns_max: int = Field(default=8, description="Columns of `order`.", ge=1)
    scan_rows_max: int = Field(
        default=200_000,
        description="Raw events looked at by one request; where it stops, `next` goes on.",
        ge=1,
    )
    read_max_bytes: int = Field(default=4 * _MIB, description="Payload bytes of raw events read at a time.", ge=1024)
    archive_scan_rows_max: int = Field(
        default=5_000_000,
        description="Archived events looked at by one request whose filters need no event's text; where it stops, "
        "`next` goes on.",
        ge=1,
    )
    archive_files_max: int = Field(
        default=64, description="Files of the archive looked up at a time in its catalogue.", ge=1, le=10_000
    )
    summary_rows_max: int = Field(
        default=5_000_000, description="Stored rows that one summary may add up; `too_large` beyond it.", ge=1
    )
    summary_groups_max: int = Field(
        default=200_000, description="Rows that one summary may have; `too_large` beyond it.", ge=1
    )
    aggregates_max: int = Field(default=32, description="Aggregates of one summary.", ge=1)
    time_s: float = Field(
        default=10.0,
        description="Time that one read of the store may take; where raw events are looked through, `next` goes on.",
        gt=0,
    )
    running_max: int = Field(default=4, description="Requests that read at the same time.", ge=1)
    waiting_max: int = Field(default=64, description="Requests that wait for their turn; beyond it 429.", ge=0)
    retry_after_s: float = Field(default=1.0, description="`Retry-After` of a refused request.", gt=0)


class SqlSettings(BaseModel, frozen=True):
    """What one SQL query may ask for and cost (`POST /v1/query`), and what all of them may take together."""

    body_max_bytes: int = Field(default=131_072, description="Bytes of a request, parameters included.", ge=1024)
    text_chars_max: int = Field(default=16_384, description="Characters of a query.", ge=16, le=262_144)
    depth_max: int = Field(
        default=24, description="Deepest nesting of parentheses, CASE and prefix operators.", ge=1, le=40
    )
    tree_depth_max: int = Field(
        default=100, description="Levels of the syntax tree; a chain of AND or UNION counts one each.", ge=8, le=200
    )
    parameters_max: int = Field(default=100, description="Parameters of a query.", ge=0, le=1000)
    inputs_max: int = Field(
        default=16, description="Relations, queries in parentheses and queries of WITH in one query.", ge=1, le=60
    )
    parts_max: int = Field(
        default=5000,
        description="Operators and functions of the SQL that a query becomes in the store.",
        ge=100,
        le=100_000,
    )
    texts_joined_max: int = Field(
        default=64,
        description="Texts that || and CONCAT make one of, also over several steps of a query.",
        ge=2,
        le=1000,
    )
    columns_max: int = Field(default=200, description="Columns of a query or of one within it.", ge=1, le=1000)
    rows_max: int = Field(default=10_000, description="Rows of a reply; `truncated` where there are more.", ge=1)
    reply_max_bytes: int = Field(
        default=16 * _MIB, description="Bytes of a reply's rows; `truncated` where there are more.", ge=1024
    )
    time_s: float = Field(default=5.0, description="Time that a query may take in the store.", gt=0, le=300)
    running_max: int = Field(
        default=2, description="Queries at once; no more than `store.query_readers` run.", ge=1, le=64
    )
    waiting_max: int = Field(default=16, description="Queries that wait for their turn; beyond it 429.", ge=0)
    retry_after_s: float = Field(default=1.0, description="`Retry-After` of a refused query.", gt=0)
    watch_s: float = Field(
        default=0.2, description="Pause between two looks whether the caller is still there.", gt=0, le=10
    )


class ArchiveSettings(BaseModel, frozen=True):
    """When raw events are written to files, and how large the files are."""

    enabled: bool = Field(
        default=True,
        description="Write raw events to Parquet files before the log lets go of them; false: they are gone then.",
    )
    folder: Path | None = Field(
        default=None,
        description="Folder of the files; default `<data>/archive`. Several hosts with this role need one that "
        "all of them see.",
    )
    file_max_rows: int = Field(default=1_000_000, description="Events of one file.", ge=1)
    file_max_bytes: int = Field(
        default=64 * _MIB,
        description="Bytes of the events of one file as they were received; it bounds the archiver's memory, too "
        "(about three times as much).",
        ge=1024,
    )
    file_age_s: float = Field(
        default=3600.0,
        description="Age of the oldest event that is not archived at which a smaller file is written; a quarter of "
        "the stream's retention where that is shorter.",
        ge=0,
    )
    row_group_rows: int = Field(
        default=32_768, description="Rows of a part of a file that a filter can pass over.", ge=64, le=10_000_000
    )
    read_max_bytes: int = Field(default=1 * _MIB, description="Payload bytes read from the log at a time.", ge=1024)
    look_interval_s: float = Field(
        default=5.0, description="Pause between two looks at what is to be archived.", gt=0, le=3600
    )
    retry_s: float = Field(default=5.0, description="Pause after a failure before it is tried again.", gt=0, le=3600)
    member_ttl_s: float = Field(
        default=30.0,
        description="How long an archiver that is not heard of keeps its share of the streams.",
        gt=0,
    )
    retention_s: float | None = Field(
        default=None,
        description="Age of its newest event at which a file leaves the archive, whole; it is deleted one "
        "`cleanup_interval_s` later. None: the archive keeps everything.",
        gt=0,
    )
    cleanup_interval_s: float = Field(
        default=3600.0,
        description="Pause between two looks for files that have expired or that a crash has left behind.",
        gt=0,
    )
    leftover_age_s: float = Field(
        default=3600.0, description="Age at which a file that no catalogue names is deleted.", ge=0
    )


class DataSettings(BaseModel, frozen=True):
    """Settings of the role."""

    applier: ApplierSettings = Field(default_factory=ApplierSettings, description="Log to store.")
    query: QuerySettings = Field(default_factory=QuerySettings, description="Requests.")
    sql: SqlSettings = Field(default_factory=SqlSettings, description="SQL queries.")
    archive: ArchiveSettings = Field(default_factory=ArchiveSettings, description="Log to Parquet files.")
