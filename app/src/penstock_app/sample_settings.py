"""Settings of the sample feeder (`penstock up --sample`)."""

from __future__ import annotations

from pydantic import BaseModel, Field

__all__ = ["SampleSettings"]


class SampleSettings(BaseModel, frozen=True):
    """How fast the samples of the example apps flow."""

    lots_per_s: float = Field(default=15.0, gt=0, le=10_000, description="Arriving lots per second.")
    quake_every_s: float = Field(default=3.0, gt=0, description="Seconds between two quakes.")
    revision_after_s: float = Field(default=6.0, gt=0, description="Seconds from a quake to its revised record.")
    report_every_s: float = Field(default=8.0, gt=0, description="Seconds between two farmers' reports.")
    batch_rows: int = Field(
        default=2_000, ge=1, le=10_000, description="Rows a request while the past days are loaded."
    )
