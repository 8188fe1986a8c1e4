"""Settings that all kinds of standing subscriptions have."""

from __future__ import annotations

from abc import abstractmethod
from typing import Self

from pydantic import BaseModel, Field, model_validator

__all__ = ["StandingSettings"]


class StandingSettings(BaseModel, frozen=True):
    """How many there are, how they are tried again, what is kept of what fails. Kinds have defaults of their own."""

    per_client_max: int = Field(default=20, ge=0, description="Subscriptions of one client; 0: none can be made.")
    total_max: int = Field(default=1_000, ge=0, description="Subscriptions in all.")
    attempts_max: int = Field(default=10, ge=1, description="Tries of one sending, the first included.")
    backoff_first_s: float = Field(
        default=2.0, gt=0, description="First pause between tries; it doubles, and half of it is random."
    )
    backoff_max_s: float = Field(default=600.0, gt=0, description="Longest pause, also of one that is asked for.")
    failed_max: int = Field(
        default=1_000,
        ge=1,
        description="Failed sendings kept of one subscription; then it waits until they are delivered or deleted.",
    )
    failed_chars_max: int = Field(
        default=16 * 1024 * 1024, ge=1_024, description="Length of them all; beyond it the same."
    )
    redeliver_max: int = Field(default=100, ge=1, description="Failed sendings sent again by one call.")
    idle_s: float = Field(
        default=10.0,
        gt=0,
        description="How long a subscription waits for events before it looks again, and how often it keeps how far "
        "it has read where nothing matched.",
    )
    lease_s: float = Field(
        default=30.0,
        gt=0,
        description="A process that is gone loses its subscriptions to others after this; at least 1.5 times the "
        "wait for an answer.",
    )
    body_bytes_max: int = Field(default=16_384, ge=256, description="Largest body of a request of ours.")
    batch_events_max: int = Field(default=100, ge=1, le=10_000, description="Events read at once.")
    batch_bytes_max: int = Field(default=256 * 1024, ge=1_024, description="Bytes of events read at once.")

    @property
    def gather_events_max(self) -> int:
        """About so many events are gathered for one sending."""
        return 1

    @property
    def kept_events_max(self) -> int:
        """So many of them are kept, the others are counted."""
        return self.batch_events_max

    @property
    @abstractmethod
    def send_s(self) -> float:
        """How long one try takes at the most, or the wait for one of the answers in it."""

    @model_validator(mode="after")
    def _lease_outlasts_a_try(self) -> Self:
        # It is renewed after a third of it: what is left then must do for a try.
        if self.lease_s < 1.5 * self.send_s:
            raise ValueError(f"lease_s is at least {1.5 * self.send_s:g}, 1.5 times the wait for an answer")
        return self
