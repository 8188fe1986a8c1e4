"""Settings of plans: the limits of each, who has which, and how usage is recorded."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pydantic import BaseModel, Field, model_validator

__all__ = ["BUILT_IN", "UNLIMITED", "Plan", "PlanSettings"]

UNLIMITED = "unlimited"
_KIB = 1024
_MIB = 1024 * _KIB
_GIB = 1024 * _MIB


class Plan(BaseModel, frozen=True, extra="forbid"):
    """Limits of one application; None: no limit. Messages and bytes are what it is sent, queries its requests."""

    messages_per_s: int | None = Field(default=None, ge=1, description="Events delivered in a second.")
    messages_per_day: int | None = Field(default=None, ge=1, description="Events delivered in a UTC day.")
    bytes_per_s: int | None = Field(default=None, ge=1, description="Bytes delivered in a second.")
    bytes_per_day: int | None = Field(default=None, ge=1, description="Bytes delivered in a UTC day.")
    connections: int | None = Field(default=None, ge=1, description="WebSockets and event streams open at once.")
    queries_per_s: int | None = Field(default=None, ge=1, description="Requests in a second.")
    queries_per_day: int | None = Field(default=None, ge=1, description="Requests in a UTC day.")
    burst_s: int = Field(
        default=5, ge=1, le=3_600, description="Burst: so many seconds' worth may be taken at once after a rest."
    )


BUILT_IN: Mapping[str, Plan] = MappingProxyType(
    {
        "bronze": Plan(
            messages_per_s=10, messages_per_day=50_000, bytes_per_s=32 * _KIB, bytes_per_day=64 * _MIB,
            connections=2, queries_per_s=2, queries_per_day=5_000,
        ),
        "silver": Plan(
            messages_per_s=100, messages_per_day=1_000_000, bytes_per_s=256 * _KIB, bytes_per_day=_GIB,
            connections=20, queries_per_s=10, queries_per_day=50_000,
        ),
        "gold": Plan(
            messages_per_s=1_000, messages_per_day=20_000_000, bytes_per_s=4 * _MIB, bytes_per_day=20 * _GIB,
            connections=200, queries_per_s=50, queries_per_day=500_000,
        ),
        UNLIMITED: Plan(),
    }
)  # fmt: skip


class PlanSettings(BaseModel, frozen=True):
    """Plans and what is recorded of their use."""

    own: dict[str, Plan] = Field(
        default={},
        max_length=32,
        description="Plans beside bronze, silver, gold and unlimited, or instead of one of the same name: "
        "a table each (docs/plans.md).",
    )
    default: str = Field(
        default=UNLIMITED,
        description="Plan of clients that are no application: the development client, the page, those of an "
        "external issuer.",
    )
    application: str = Field(default="bronze", description="Plan of an application that names none.")
    self_service: tuple[str, ...] = Field(
        default=("bronze", "silver", "gold"),
        description="Plans that owners give their applications themselves; the others need the scope apps:admin.",
    )
    clients: dict[str, str] = Field(
        default={}, max_length=1_000, description="Plans of clients of an external issuer: client_id to plan."
    )
    record_interval_s: float = Field(
        default=1.0,
        gt=0,
        le=60,
        description="How often usage is recorded, and that of other replicas read: what a crash forgets.",
    )
    presence_s: float = Field(
        default=5.0,
        ge=1,
        le=300,
        description="A process that has recorded nothing for so long no longer counts: others take over its share of "
        "rates and connections. More than record_interval_s, and than clocks differ.",
    )
    follow_interval_s: float = Field(
        default=0.4,
        gt=0,
        le=60,
        description="How often a replica looks for applications that others changed.",
    )
    usage_days: int = Field(default=90, ge=1, le=3_650, description="Days for which usage is kept.")
    pause_poll_s: float = Field(
        default=0.25,
        gt=0,
        le=10,
        description="How often it is looked whether an application that was over its plan's rate may go on.",
    )
    midnight_spread_s: float = Field(
        default=60.0,
        ge=0,
        le=3_600,
        description="Connections closed for the rest of a day are asked to come back within this after midnight.",
    )
    flush_bytes_max: int = Field(
        default=8 * _KIB,
        ge=_KIB,
        description="Bytes handed to a lagging connection of a metered application at once.",
    )
    replay_rows_max: int = Field(
        default=100, ge=1, description="Old events handed to a connection of a metered application at once."
    )
    clients_max: int = Field(
        default=20_000, ge=1, description="Clients whose use is measured; beyond it the idle ones are forgotten."
    )

    @model_validator(mode="after")
    def _plans_are_there(self) -> PlanSettings:
        for key, names in (
            ("default", (self.default,)),
            ("application", (self.application,)),
            ("self_service", self.self_service),
            ("clients", tuple(self.clients.values())),
        ):
            if unknown := [name for name in names if name not in self.plans]:
                raise ValueError(f"{key} names the plan '{unknown[0]}', which is not one of {', '.join(self.plans)}")
        return self

    @property
    def plans(self) -> Mapping[str, Plan]:
        """All of them by name."""
        return {**BUILT_IN, **self.own}
