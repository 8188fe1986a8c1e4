"""What all standing subscriptions have, whatever they send by. Nothing here does anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from penstock.codecs.json_values import write_timestamp

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["AnyStanding", "Failed", "Served", "Standing"]


class Standing(Protocol):
    """`cursor`: everything up to it was sent or is among the failed. `paused`: why nothing is sent; None: it is.

    `subject`, `client_id` and `scope` are of the token that made it: with them it reads the topic.
    """

    @property
    def id(self) -> str: ...
    @property
    def client_id(self) -> str: ...
    @property
    def subject(self) -> str: ...
    @property
    def scope(self) -> str: ...
    @property
    def topic(self) -> str: ...
    @property
    def filter(self) -> str: ...
    @property
    def cursor(self) -> str: ...
    @property
    def paused(self) -> str | None: ...

    def as_json(self) -> dict[str, object]:
        """As its owner sees it."""
        ...


if TYPE_CHECKING:

    class _Kept(Standing, DataclassInstance, Protocol): ...


AnyStanding = TypeVar("AnyStanding", bound="_Kept")
Served = TypeVar("Served", bound="_Kept", contravariant=True)


@dataclass(frozen=True, slots=True)
class Failed:
    """What came to nothing, to be sent again as it is; `id` is that of the message.

    `recipients`: who does not have it, with commas between; empty where there is one only.
    """

    id: str
    standing_id: str
    recipients: str
    body: str
    events: int
    reason: str
    failed_at_ms: int

    def as_json(self) -> dict[str, object]:
        """Without the events: they are in the body."""
        to = {"to": self.recipients.split(",")} if self.recipients else {}
        return {
            "id": self.id,
            **to,
            "events": self.events,
            "reason": self.reason,
            "failed_at": write_timestamp(self.failed_at_ms, zoned=True),
        }
