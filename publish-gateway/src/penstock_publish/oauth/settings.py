"""Settings of accounts and clients: what a password costs to check, and how often one, or a secret, may be wrong."""

from __future__ import annotations

from pydantic import BaseModel, Field

__all__ = ["ClientSecretSettings", "LoginSettings"]


class ClientSecretSettings(BaseModel, frozen=True):
    """Clients that say who they are at the token endpoint and its neighbours. Counted in each process by itself."""

    failures_client_max: int = Field(
        default=20, description="Failures of one client id from one network address in failures_window_s; then 429.",
        ge=1, le=100_000,
    )  # fmt: skip
    failures_address_max: int = Field(
        default=200, description="The same for all client ids from one address (IPv6: the /64).", ge=1, le=1_000_000
    )
    failures_window_s: float = Field(default=60.0, description="How long failures are counted.", gt=0, le=3_600)
    failures_kept_max: int = Field(
        default=10_000, description="Clients and addresses with failures that are remembered.", ge=100
    )
    waiting_max: int = Field(
        default=1_000, description="Requests to those endpoints that wait for their turn; beyond it 429.", ge=1
    )


class LoginSettings(BaseModel, frozen=True):
    """People who log in with an account. A password is kept as scrypt (RFC 7914) of 2^log2_n * r * 128 bytes."""

    password_chars_min: int = Field(default=12, description="Shortest password that is taken.", ge=8, le=64)
    password_chars_max: int = Field(default=256, description="Longest password that is looked at.", ge=64, le=4_096)
    scrypt_log2_n: int = Field(
        default=15,
        description="Cost of a password's hash as a power of two: with r = 8, 15 needs 32 MiB. A higher one is taken "
        "over at the next login.",
        ge=14,
        le=20,
    )
    scrypt_r: int = Field(default=8, description="Block size of the hash.", ge=8, le=32)
    scrypt_p: int = Field(default=3, description="How often the hash is computed.", ge=1, le=16)
    failures_account_max: int = Field(
        default=10, description="Failed logins of one account before it must wait for the end of failures_window_s.",
        ge=1, le=1_000,
    )  # fmt: skip
    failures_address_max: int = Field(
        default=100, description="The same for one network address (IPv6: the /64), which a proxy may share.",
        ge=1, le=100_000,
    )  # fmt: skip
    failures_window_s: float = Field(default=900.0, description="How long failed logins are counted.", gt=0)
    failures_kept_max: int = Field(
        default=100_000, description="Accounts and addresses with failed logins that are remembered.", ge=100
    )
    waiting_max: int = Field(
        default=16, description="Logins that wait for a password's check at once; beyond it 429.", ge=1, le=1_000
    )
