"""Settings of the registry of applications."""

from __future__ import annotations

from pydantic import BaseModel, Field

__all__ = ["ApplicationSettings"]


class ApplicationSettings(BaseModel, frozen=True):
    """Limits of applications."""

    per_owner_max: int = Field(default=20, ge=1, description="Applications of one owner.")
    total_max: int = Field(default=10_000, ge=1, le=100_000, description="Applications in all.")
    name_chars_max: int = Field(default=80, ge=1, description="Length of a name.")
    description_chars_max: int = Field(default=1_000, ge=0, description="Length of a description.")
    scope_chars_max: int = Field(default=2_000, ge=1, description="Length of the scopes of an application together.")
    redirect_uris_max: int = Field(
        default=10, ge=0, description="Addresses of one application that people are sent back to."
    )
    redirect_uri_chars_max: int = Field(default=500, ge=10, description="Length of one of them.")
    page_limit: int = Field(default=100, ge=1, description="Applications of a page where no limit is asked for.")
    page_limit_max: int = Field(default=1_000, ge=1, le=10_000, description="Largest limit of a page.")
    usage_days_max: int = Field(default=366, ge=1, description="Days of usage in one reply.")
    body_bytes_max: int = Field(default=32_768, ge=1_024, description="Largest body of a request.")
