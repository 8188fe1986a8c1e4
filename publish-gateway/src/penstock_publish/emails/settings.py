"""Settings of e-mail alerts."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator

from penstock_publish.emails.addresses import is_address
from penstock_publish.outbound.settings import StandingSettings

__all__ = ["EmailSettings"]


class EmailSettings(StandingSettings, frozen=True):
    """The SMTP server, who may get mails, and how many."""

    host: str | None = Field(default=None, description="The SMTP server; unset: there are no e-mail alerts.")
    port: int = Field(default=587, ge=1, le=65_535, description="Its port: 587 for starttls, 465 for implicit.")
    tls: Literal["starttls", "implicit", "none"] = Field(
        default="starttls", description="How the connection is encrypted; a server that cannot gets no mail."
    )
    ca_file: Path | None = Field(default=None, description="PEM file of its authority; unset: those of the system.")
    user: str | None = Field(default=None, description="Name to log in with; unset: no login.")
    password: SecretStr | None = Field(default=None, description="Its password; password_file keeps it out of here.")
    password_file: Path | None = Field(default=None, description="File with the password, read for each mail.")
    from_address: str | None = Field(default=None, description="Whom mails are from; required with host.")
    recipient_domains: tuple[str, ...] = Field(
        default=(),
        max_length=1_000,
        description='Domains that mails may go to, as a JSON list; `["*"]`: any. None by default.',
    )
    mails_per_hour_max: int = Field(
        default=12,
        ge=1,
        le=3_600,
        description="Mails of one subscription in an hour, evenly apart; what comes between is gathered.",
    )
    events_shown_max: int = Field(default=20, ge=1, le=1_000, description="Events in one mail; others are counted.")
    events_gathered_max: int = Field(
        default=10_000, ge=1, description="About so many events are gathered for one mail; then the next begins."
    )
    mail_chars_max: int = Field(
        default=100_000, ge=1_000, description="Length of a mail's text; events that do not fit are counted."
    )
    value_chars_max: int = Field(default=500, ge=10, description="Length of a column's value in a mail.")
    subject_chars_max: int = Field(default=200, ge=20, le=900, description="Length of a subject.")
    template_chars_max: int = Field(default=4_000, ge=1, description="Length of a template.")
    recipients_max: int = Field(default=10, ge=1, le=100, description="Addresses of one subscription.")
    batch_events_max: int = Field(default=500, ge=1, le=10_000, description="Events read at once.")
    batch_bytes_max: int = Field(default=1024 * 1024, ge=1_024, description="Bytes of events read at once.")
    connections_max: int = Field(default=4, ge=1, le=64, description="Connections to the server at once.")
    timeout_s: float = Field(default=15.0, gt=0, le=120, description="Wait for each reply of the server.")
    backoff_first_s: float = Field(
        default=5.0, gt=0, description="First pause between tries; it doubles, and half of it is random."
    )
    failed_max: int = Field(
        default=100,
        ge=1,
        description="Failed mails kept of one subscription; then it waits until they are sent again or deleted.",
    )
    redeliver_max: int = Field(default=20, ge=1, description="Failed mails sent again by one call.")

    @property
    def gather_events_max(self) -> int:
        """A mail can be about many."""
        return self.events_gathered_max

    @property
    def kept_events_max(self) -> int:
        """What a mail shows."""
        return self.events_shown_max

    @property
    def send_s(self) -> float:
        """One reply of several, which come quickly most of the time."""
        return self.timeout_s

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.host is not None and (self.from_address is None or not is_address(self.from_address)):
            raise ValueError("host needs from_address, a plain address such as alerts@shop.example")
        if self.user is not None and (self.password is None) == (self.password_file is None):
            raise ValueError("user needs password or password_file, one of them")
        if self.user is not None and self.tls == "none":
            raise ValueError("a password is not sent without TLS: set tls to starttls or implicit, or leave user out")
        return self
