"""Settings of the role data: every batch, page, scan and wait has its limit here."""

from __future__ import annotations

from pydantic import BaseModel, Field

__all__ = ["ApplierSettings", "DataSettings", "QuerySettings"]

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
    summary_rows_max: int = Field(
        default=5_000_000, description="Stored rows that one summary may add up; `too_large` beyond it.", ge=1
    )
    summary_groups_max: int = Field(
        default=200_000, description="Rows that one summary may have; `too_large` beyond it.", ge=1
    )
    aggregates_max: int = Field(default=32, description="Aggregates of one summary.", ge=1)
    time_s: float = Field(default=10.0, description="Time that one read of the store may take.", gt=0)
    running_max: int = Field(default=4, description="Requests that read at the same time.", ge=1)
    waiting_max: int = Field(default=64, description="Requests that wait for their turn; beyond it 429.", ge=0)
    retry_after_s: float = Field(default=1.0, description="`Retry-After` of a refused request.", gt=0)


class DataSettings(BaseModel, frozen=True):
    """Settings of the role."""

    applier: ApplierSettings = Field(default_factory=ApplierSettings, description="Log to store.")
    query: QuerySettings = Field(default_factory=QuerySettings, description="Requests.")
