"""What became of one try to send something. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Attempt", "Outcome", "plain_words"]

_WORDS_CHARS = 300


class Outcome(StrEnum):
    """DELIVERED; LATER: try again; REFUSED: this will never do; GONE: nothing will."""

    DELIVERED = "delivered"
    LATER = "later"
    REFUSED = "refused"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Attempt:
    """By recipient: those not named have it. `detail`: the other side's last words, for people.

    `retry_after_s`: what it asks for. `gone`: nothing more is to be sent there.
    """

    later: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    detail: str = ""
    retry_after_s: float | None = None
    gone: bool = False

    @property
    def outcome(self) -> Outcome:
        """For metrics."""
        if self.gone:
            return Outcome.GONE
        return Outcome.LATER if self.later else Outcome.REFUSED if self.refused else Outcome.DELIVERED


def plain_words(text: str) -> str:
    """What the other side said, or an error that may repeat it, as it can be kept and shown: printable and short."""
    return "".join(char if char.isprintable() else " " for char in text[:_WORDS_CHARS])
