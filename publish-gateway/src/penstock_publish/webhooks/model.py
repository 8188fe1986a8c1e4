"""A webhook and its failed requests, as they are kept and shown. Nothing here does anything."""

from __future__ import annotations

from dataclasses import dataclass

from penstock.codecs.json_values import write_timestamp

__all__ = ["Failed", "Webhook"]


@dataclass(frozen=True, slots=True)
class Webhook:
    """`cursor`: everything up to it was delivered or is among the failed. `paused`: why nothing is sent; None: it is.

    `subject`, `client_id` and `scope` are of the token that made it: with them it reads the topic.
    """

    id: str
    client_id: str
    subject: str
    scope: str
    topic: str
    url: str
    filter: str
    secret: str
    cursor: str
    created_at_ms: int
    paused: str | None = None

    def as_json(self) -> dict[str, object]:
        """As its owner sees it: without the secret."""
        return {
            "id": self.id,
            "topic": self.topic,
            "url": self.url,
            "filter": self.filter or None,
            "cursor": self.cursor,
            "created_at": write_timestamp(self.created_at_ms, zoned=True),
            "paused": self.paused,
        }


@dataclass(frozen=True, slots=True)
class Failed:
    """A request that came to nothing, to be sent again as it is."""

    id: str
    webhook_id: str
    body: str
    events: int
    reason: str
    failed_at_ms: int

    def as_json(self) -> dict[str, object]:
        """Without the events: they are in the request."""
        return {
            "id": self.id,
            "events": self.events,
            "reason": self.reason,
            "failed_at": write_timestamp(self.failed_at_ms, zoned=True),
        }
