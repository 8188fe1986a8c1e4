"""What a reply means for a webhook, and how long to wait before the next try. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum

from penstock_publish.webhooks.settings import WebhookSettings

__all__ = ["Outcome", "Verdict", "pause_s", "verdict_of"]

_GONE = 410
#: Nobody there yet, too slow, or told to come later: the same request may do in a while.
_LATER = frozenset({404, 408, 425, 429})


class Outcome(StrEnum):
    """DELIVERED; LATER: try again; REFUSED: this request will never do; GONE: no request will."""

    DELIVERED = "delivered"
    LATER = "later"
    REFUSED = "refused"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`detail` is for people."""

    outcome: Outcome
    detail: str
    retry_after_s: float | None = None


def verdict_of(status: int, retry_after: str | None) -> Verdict:
    """Of an HTTP status. Redirects are refusals: nobody is led anywhere by a reply."""
    detail = f"the receiver answered {status}"
    if 200 <= status < 300:
        return Verdict(Outcome.DELIVERED, detail)
    if status == _GONE:
        return Verdict(Outcome.GONE, detail)
    if status >= 500 or status in _LATER:
        asked = retry_after or ""
        return Verdict(Outcome.LATER, detail, float(asked) if asked.isascii() and asked.isdigit() else None)
    return Verdict(Outcome.REFUSED, detail)


def pause_s(failures: int, asked_s: float | None, *, settings: WebhookSettings, chance: random.Random) -> float:
    """Seconds before the next try after so many failures: doubled, half of it random; at least what was asked for."""
    doubled = min(settings.backoff_max_s, settings.backoff_first_s * 2.0 ** min(failures - 1, 30))
    own_s = doubled / 2 + chance.random() * doubled / 2
    return min(settings.backoff_max_s, max(own_s, asked_s or 0.0))
