"""Settings and limits of `penstock test`."""

from __future__ import annotations

from pydantic import BaseModel, Field

__all__ = ["CaseSettings"]


class CaseSettings(BaseModel, frozen=True):
    """How large case files may be, and how long an app may take to come to rest."""

    files_max: int = Field(default=1_000, ge=1, description="Case files of one run.")
    file_max_bytes: int = Field(default=1024 * 1024, ge=1, description="Largest case file.")
    values_max: int = Field(
        default=200_000, ge=1, description="Values in one case file, those of aliases counted each time."
    )
    depth_max: int = Field(default=32, ge=1, le=200, description="How deeply values of a case file may be nested.")
    cases_max: int = Field(default=1_000, ge=1, description="Cases in one file.")
    steps_max: int = Field(default=1_000, ge=1, description="Steps of one case.")
    rows_max: int = Field(default=2_000, ge=1, description="Rows of one step: sent, expected, or compared with.")
    rest_timeout_s: float = Field(
        default=30.0, gt=0, description="Seconds that the app may take to process one step before the case fails."
    )
    rejected_max: int = Field(default=10_000, ge=1, description="Rejected events of one case.")
    shown_rows_max: int = Field(default=10, ge=1, description="Rows that one difference shows of each kind.")
