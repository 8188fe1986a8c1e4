"""What a reply means for a webhook. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from penstock_publish.outbound.attempt import Outcome

__all__ = ["Verdict", "verdict_of"]

_GONE = 410
#: Nobody there yet, too slow, or told to come later: the same request may do in a while.
_LATER = frozenset({404, 408, 425, 429})


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
