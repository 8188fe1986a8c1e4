"""An e-mail subscription, as it is kept and shown. Nothing here does anything."""

from __future__ import annotations

from dataclasses import dataclass

from penstock.codecs.json_values import write_timestamp

__all__ = ["Email"]


@dataclass(frozen=True, slots=True)
class Email:
    """See `Standing`. `recipients`: addresses with commas between. `title`, `body`: templates, empty: ours.

    `sent_at_ms`: when its last mail was; 0: never.
    """

    id: str
    client_id: str
    subject: str
    scope: str
    topic: str
    recipients: str
    title: str
    body: str
    filter: str
    cursor: str
    created_at_ms: int
    sent_at_ms: int = 0
    paused: str | None = None

    @property
    def to(self) -> tuple[str, ...]:
        """The addresses."""
        return tuple(self.recipients.split(","))

    def as_json(self) -> dict[str, object]:
        """As its owner sees it."""
        return {
            "id": self.id,
            "topic": self.topic,
            "to": list(self.to),
            "filter": self.filter or None,
            "subject": self.title or None,
            "body": self.body or None,
            "cursor": self.cursor,
            "created_at": write_timestamp(self.created_at_ms, zoned=True),
            "paused": self.paused,
        }
