"""Settings of the resource server: whose tokens are taken, by which rules, within which limits."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, Field, model_validator

__all__ = ["Algorithm", "IntrospectionSettings", "IssuerSettings", "TokenLimits"]

Algorithm = Literal["ES256", "ES384", "RS256", "PS256", "EdDSA", "Ed25519"]
"""Signatures that can be allowed; shared secrets (HS*) and unsigned tokens (none) never."""


class TokenLimits(BaseModel, frozen=True):
    """What is read of a token at most. Longer ones are refused unread."""

    header_bytes_max: int = Field(default=2_048, ge=64, description="Header of a token, encoded.")
    kid_chars_max: int = Field(default=256, ge=1, description="Length of the key id (`kid`) that a token names.")
    json_depth_max: int = Field(default=16, ge=2, description="Nesting of the claims of a token.")
    scopes_max: int = Field(default=512, ge=1, description="Scopes of a token.")
    details_max: int = Field(default=32, ge=0, description="Entries of `authorization_details`.")
    detail_topics_max: int = Field(default=64, ge=1, description="Topics of an entry of `authorization_details`.")
    detail_filter_chars_max: int = Field(
        default=2_000, ge=1, description="Length of a filter in `authorization_details`."
    )


class IntrospectionSettings(BaseModel, frozen=True, extra="forbid"):
    """Asking an issuer about opaque tokens (RFC 7662)."""

    url: str | None = Field(
        default=None, description="The introspection endpoint; unset: the one that the issuer's metadata names."
    )
    client_id: str = Field(min_length=1, description="Client by which the issuer knows this resource server.")
    client_secret_file: Path | None = Field(default=None, description="File that holds the client's secret.")
    client_secret_env: str | None = Field(
        default=None, description="Name of the environment variable that holds the client's secret."
    )
    timeout_s: float = Field(default=5.0, gt=0, le=60, description="Time for one answer.")
    reply_max_bytes: int = Field(default=64 * 1024, ge=256, description="Largest answer.")
    keep_s: float = Field(
        default=60.0, ge=0, le=3_600, description="How long a token counts as valid without being asked for again."
    )
    keep_refused_s: float = Field(default=10.0, ge=0, le=600, description="How long a refused token stays refused.")
    kept_max: int = Field(default=10_000, ge=1, description="Tokens remembered, the valid and the refused each.")
    asking_max: int = Field(default=16, ge=1, description="Questions to the issuer under way at once.")
    waiting_max: int = Field(default=1_000, ge=1, description="Tokens that wait for an answer; beyond it 503.")
    retry_after_s: float = Field(
        default=1.0, gt=0, description="`Retry-After` while the issuer does not answer; as long it is left in peace."
    )

    @model_validator(mode="after")
    def _one_secret(self) -> Self:
        if (self.client_secret_file is None) == (self.client_secret_env is None):
            raise ValueError("give client_secret_file or client_secret_env, one of them")
        return self


class IssuerSettings(BaseModel, frozen=True, extra="forbid"):
    """One issuer besides the embedded one: where its keys are, and how its tokens are read."""

    issuer: str = Field(min_length=1, description="Its identifier, exactly as `iss` of its tokens has it.")
    name: str | None = Field(
        default=None,
        min_length=1,
        max_length=100,
        pattern=r"^[A-Za-z0-9._-]+$",
        description="Stands before subjects and clients of this issuer (`name:subject`), so that two issuers cannot "
        "have the same one; unset: the host of the issuer.",
    )
    jwks_url: str | None = Field(
        default=None,
        description="Where it serves its key set; without this, jwks_file and introspection its metadata is asked.",
    )
    jwks_file: Path | None = Field(default=None, description="Its key set in a file.")
    introspection: IntrospectionSettings | None = Field(
        default=None, description="How to ask it about opaque tokens; at most one issuer can have this."
    )
    audience: str | None = Field(
        default=None, min_length=1, description="What `aud` must contain; unset: auth.audience."
    )
    algorithms: tuple[Algorithm, ...] = Field(
        default=("ES256",), min_length=1, description="Signatures that this issuer may use."
    )
    profile: Literal["rfc9068", "jwt"] = Field(
        default="rfc9068",
        description="`jwt` for issuers that do not follow RFC 9068: `typ` may be JWT or missing, `jti` may be "
        "missing and the client may be in `azp`; ID and refresh tokens are refused all the same.",
    )
    scope_claim: str = Field(
        default="scope",
        min_length=1,
        description="Claim with the scopes, a text or a list: `scp`, `permissions`, `realm_access.roles`.",
    )
    scope_prefix: str = Field(
        default="", description="Only scopes that begin so count, without this beginning: `penstock/`."
    )
    scope_map: dict[str, str] = Field(
        default_factory=dict,
        description='Scopes for a value of the claim: `{"penstock-admin": "apps:admin *:read"}`.',
    )
    insecure_http: bool = Field(default=False, description="Allow plain HTTP to this issuer beyond loopback.")
    keys_min_interval_s: float = Field(
        default=10.0, gt=0, description="Least time between two fetches because of a token with an unknown key."
    )

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.jwks_url is not None and self.jwks_file is not None:
            raise ValueError("give jwks_url or jwks_file, not both")
        return self
