"""Settings of the publish gateway: every limit has a name, a default and a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field

__all__ = ["AuthSettings", "PublishSettings"]


class AuthSettings(BaseModel, frozen=True):
    """OAuth2: the embedded authorization server, the checks of tokens, the page's session."""

    issuer: str | None = Field(
        default=None,
        description="Issuer of an external authorization server; unset: the embedded one, under the public URL.",
    )
    jwks_file: Path | None = Field(
        default=None,
        description="JSON Web Key Set with the ES256 keys of the external issuer; needed where issuer is set.",
    )
    audience: str = Field(default="penstock", description="What `aud` of a token must contain.", min_length=1)
    token_lifetime_s: int = Field(default=3600, description="Life of a token, in seconds.", ge=1, le=86_400)
    leeway_s: int = Field(
        default=5, description="How far clocks may differ when times in tokens are checked.", ge=0, le=300
    )
    token_cache_max: int = Field(
        default=10_000, description="Verified tokens remembered by their hash.", ge=1, le=1_000_000
    )
    form_bytes_max: int = Field(
        default=16_384, description="Largest body at the token endpoints.", ge=1_024, le=1_048_576
    )
    page_open: Literal["loopback", "always", "never"] = Field(
        default="loopback",
        description="Who gets a session of the page without a secret: callers from loopback, everybody, or nobody.",
    )
    page_scope: str = Field(
        default="*:read data:read data:query",
        description="Scopes of the page's session where it is opened without a secret.",
    )
    ticket_lifetime_s: int = Field(default=30, description="How long a one-time ticket can be used.", ge=1, le=300)
    tickets_max: int = Field(default=10_000, description="Tickets waiting to be used.", ge=1, le=1_000_000)


class PublishSettings(BaseModel, frozen=True):
    """Topics: rings, connections, flushing."""

    auth: AuthSettings = Field(default_factory=AuthSettings, description="OAuth2.")
