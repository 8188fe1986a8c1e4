"""Settings of webhooks."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

from pydantic import Field

from penstock_publish.outbound.settings import StandingSettings

__all__ = ["WebhookSettings"]


class WebhookSettings(StandingSettings, frozen=True):
    """Limits of webhooks, and where they may go."""

    url_chars_max: int = Field(default=2_000, ge=20, description="Length of an address.")
    insecure_http: bool = Field(default=False, description="Allow addresses with http:// as well.")
    networks_allowed: tuple[IPv4Network | IPv6Network, ...] = Field(
        default=(),
        description="Networks, as a JSON list, that webhooks may reach although they are private, loopback or "
        "otherwise not of the internet.",
    )
    batch_events_max: int = Field(default=100, ge=1, le=10_000, description="Events of one request.")
    batch_bytes_max: int = Field(
        default=256 * 1024,
        ge=1_024,
        description="Bytes of events in one request; a longer event goes alone. Each webhook with a slow receiver "
        "holds so much in memory, or one such event.",
    )
    lookups_max: int = Field(default=64, ge=1, le=1_000, description="Host names looked up at once.")
    request_timeout_s: float = Field(default=15.0, gt=0, le=120, description="One request with its reply.")
    secret_overlap_s: float = Field(
        default=86_400.0, ge=0, description="How long the secret of before signs, too, after it was replaced."
    )

    @property
    def send_s(self) -> float:
        """One request."""
        return self.request_timeout_s
