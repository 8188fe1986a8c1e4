"""The life of a live connection: how long its token lasts, when it is pinged, how it is closed. Pure.

Time is in monotonic seconds of the caller's clock.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from penstock.errors import PenstockError

__all__ = ["CLOSE_REASON_BYTES_MAX", "Close", "Due", "Life", "Pace", "close_reason"]

CLOSE_REASON_BYTES_MAX = 123  # RFC 6455, 5.5: control frames have at most 125 bytes, two of them are the code
_AWAY_RETRY_MS = 1_000  # where something behind the gateway is away, and nobody knows for how long

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Pace:
    """Times in seconds, the same for all transports of a kind."""

    expiring_s: float
    ping_s: float
    pings_missed_max: int | None  # None: the transport has no answer to a ping


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection: code as in the contract, error code, and when to come back (None: do not)."""

    code: int
    error: str
    retry_ms: int | None = None

    @classmethod
    def of(cls, error: PenstockError) -> Close:
        """The close for an error that comes after the upgrade: codes mirror HTTP."""
        status = 404 if error.status == 410 else error.status
        mirrored = status in (400, 401, 403, 404, 429, 503)
        code = 4000 + status if mirrored else 4400 if status < 500 else 4503
        if error.retry_after_s is not None:
            return cls(code, error.code, round(error.retry_after_s * 1000))
        return cls(code, error.code, _AWAY_RETRY_MS if code == 4503 else None)


@dataclass(frozen=True, slots=True)
class Due:
    """What is due: a warning that the token expires in so long, a ping, a close; and when to ask again."""

    expiring_in_s: float | None
    ping: bool
    close: Close | None
    next_s: float


class Life:
    """State of one transport. `expires_at_s` is the end of its token."""

    __slots__ = ("_next_ping_s", "_pace", "_unanswered", "_warned", "expires_at_s")

    def __init__(self, expires_at_s: float, pace: Pace, now_s: float) -> None:
        self.expires_at_s = expires_at_s
        self._pace = pace
        self._next_ping_s = now_s + pace.ping_s
        self._unanswered = 0
        self._warned = False

    def tick(self, now_s: float) -> Due:
        """Warn, ping or close as far as it is due at `now_s`."""
        pace = self._pace
        if now_s >= self.expires_at_s:
            return Due(None, False, Close(4401, "invalid_token"), now_s)
        warning = None
        if not self._warned and now_s >= self.expires_at_s - pace.expiring_s:
            self._warned = True
            warning = self.expires_at_s - now_s
        ping = now_s >= self._next_ping_s
        if ping:
            if pace.pings_missed_max is not None and self._unanswered >= pace.pings_missed_max:
                return Due(None, False, Close(1001, "ping_timeout", retry_ms=0), now_s)
            self._unanswered += 1
            self._next_ping_s = now_s + pace.ping_s
        warn_s = self.expires_at_s if self._warned else self.expires_at_s - pace.expiring_s
        return Due(warning, ping, None, min(self._next_ping_s, warn_s, self.expires_at_s))

    def heard(self) -> None:
        """Something came from the other side: it is alive."""
        self._unanswered = 0

    def renew(self, expires_at_s: float) -> None:
        """A newer token: it is warned of again before that one ends."""
        self.expires_at_s = expires_at_s
        self._warned = False


def close_reason(code: str, *, retry_ms: int | None, after: str | None) -> bytes:
    """The reason of a close frame, at most 123 bytes: a cursor that does not fit is left out (null)."""
    reason = _encode({"code": code, "retry_ms": retry_ms, "after": after})
    if len(reason) > CLOSE_REASON_BYTES_MAX:
        reason = _encode({"code": code, "retry_ms": retry_ms, "after": None})
    return reason
