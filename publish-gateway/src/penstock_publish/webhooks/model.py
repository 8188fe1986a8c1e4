"""A webhook, as it is kept and shown. Nothing here does anything."""

from __future__ import annotations

from dataclasses import dataclass

from penstock.codecs.json_values import write_timestamp

__all__ = ["Webhook"]


@dataclass(frozen=True, slots=True)
class Webhook:
    """See `Standing`. `secret_before` signs, too, until its time is up: receivers change over meanwhile."""

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
    secret_before: str = ""
    secret_before_until_ms: int = 0

    def secrets(self, now_ms: int) -> tuple[str, ...]:
        """Those that sign now."""
        return (self.secret, self.secret_before) if now_ms < self.secret_before_until_ms else (self.secret,)

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
