"""Settings of webhooks."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

from pydantic import BaseModel, Field

__all__ = ["WebhookSettings"]


class WebhookSettings(BaseModel, frozen=True):
    """Limits of webhooks, and where they may go."""

    per_client_max: int = Field(default=20, ge=0, description="Webhooks of one client; 0: none can be made.")
    total_max: int = Field(default=1_000, ge=0, description="Webhooks in all.")
    url_chars_max: int = Field(default=2_000, ge=20, description="Length of an address.")
    insecure_http: bool = Field(default=False, description="Allow addresses with http:// as well.")
    networks_allowed: tuple[IPv4Network | IPv6Network, ...] = Field(
        default=(),
        description="Networks, as a JSON list, that webhooks may reach although they are private, loopback or "
        "otherwise not of the internet.",
    )
    batch_events_max: int = Field(default=100, ge=1, le=10_000, description="Events of one request.")
    batch_bytes_max: int = Field(
        default=1024 * 1024, ge=1_024, description="Bytes of events in one request; a longer event goes alone."
    )
    request_timeout_s: float = Field(default=15.0, gt=0, le=120, description="One request with its reply.")
    attempts_max: int = Field(default=10, ge=1, description="Tries of one request, the first included.")
    backoff_first_s: float = Field(
        default=2.0, gt=0, description="First pause between tries; it doubles, and half of it is random."
    )
    backoff_max_s: float = Field(default=600.0, gt=0, description="Longest pause, also of a Retry-After.")
    failed_max: int = Field(
        default=1_000,
        ge=1,
        description="Failed requests kept of one webhook; then it waits until they are delivered again or dropped.",
    )
    redeliver_max: int = Field(default=100, ge=1, description="Failed requests sent again by one call.")
    idle_s: float = Field(
        default=10.0,
        gt=0,
        description="How long a webhook waits for events before it looks again, and how often it keeps how far it "
        "has read where nothing matched.",
    )
    lease_s: float = Field(
        default=15.0, gt=0, description="A process that is gone loses its webhooks to others after this."
    )
    body_bytes_max: int = Field(default=16_384, ge=256, description="Largest body of a request of ours.")
