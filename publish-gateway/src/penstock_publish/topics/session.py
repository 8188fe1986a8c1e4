"""One subscriber's state: where it is in the topic, what it is sent next, when it is warned and when it is closed.

Pure: no socket and no clock. A shell asks what to write (`take`, `tick`) and writes it.

States: *replaying* (the shell feeds it from the log) → *live* (it reads a ring) → closed. Time is in monotonic
seconds of the caller's clock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from penstock.model.position import Cursor
from penstock_publish.topics.framing import Encoding, Form, expiring_notice, frame_notice, gap_notice, hb_notice
from penstock_publish.topics.ring import Place, Ring

__all__ = ["Close", "Pace", "Session", "Slow", "Tick"]


class Slow(StrEnum):
    """What happens to a subscriber that cannot keep up.

    GAP: it gets what the ring still holds; once it falls off, a gap is announced and it goes on live.
    LATEST: as soon as it lags, everything but the newest is skipped, with a gap announced.
    CLOSE: when it falls off the ring it is closed with 4409 and its cursor.
    """

    GAP = "gap"
    LATEST = "latest"
    CLOSE = "close"


@dataclass(frozen=True, slots=True)
class Pace:
    """Times of a session, in seconds; `expires_at_s` is the end of the token in monotonic seconds."""

    expires_at_s: float
    expiring_s: float
    ping_s: float
    pings_missed_max: int | None  # None: the transport has no answer to a ping


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection: code as in the contract, error code, and when to come back (None: do not)."""

    code: int
    error: str
    retry_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Tick:
    """What is due: bytes to write, whether to ping, whether to close; and when to ask again."""

    data: bytes
    ping: bool
    close: Close | None
    next_s: float


class Session:
    """State of one connection. `place` is the place up to which the subscriber has been served."""

    __slots__ = ("_announced", "_cursor_of", "_encoding", "_filtered", "_form", "_next_ping_s", "_number", "_pace",
                 "_ring", "_slow", "_unanswered", "_warned", "lagging", "place", "resume")  # fmt: skip

    def __init__(
        self,
        cursor_of: Callable[[Place], Cursor],
        place: Place,
        *,
        encoding: Encoding,
        form: Form,
        slow: Slow,
        filtered: bool,
        pace: Pace,
        now_s: float,
    ) -> None:
        self._cursor_of = cursor_of
        self.place = place
        self._announced = place
        self._encoding = encoding
        self._form = form
        self._slow = slow
        self._filtered = filtered
        self._pace = pace
        self._ring: Ring | None = None
        self._number = 0
        self._next_ping_s = now_s + pace.ping_s
        self._unanswered = 0
        self._warned = False
        self.lagging = False
        #: Cursor text while the current rows of a table are being sent; they lie before every place in the log.
        self.resume: str | None = None

    @property
    def live(self) -> bool:
        """True once it reads the ring."""
        return self._ring is not None

    @property
    def cursor_text(self) -> str:
        """Where the subscriber can resume without loss."""
        return self.resume or self._cursor_of(self.place).text()

    def join(self, ring: Ring, number: int) -> None:
        """Go live: everything before chunk `number` has been written, or does not match."""
        self._ring = ring
        self._number = number
        self.place = ring.start_of(number)

    def take(self, *, limit_bytes: int) -> tuple[bytes, int, Close | None]:
        """What to write next: bytes (empty: it has everything), how many events are in them, whether to close."""
        ring = self._ring
        if ring is None or self._number == ring.next:
            return b"", 0, None
        if self._number == ring.next - 1 and not self.lagging:  # the usual case: one new chunk
            self._number = ring.next
            self.place = self._announced = ring.end
            chunk = ring.newest()
            return chunk.data, chunk.count, None
        notice = b""
        if self._number < ring.first:
            if self._slow is Slow.CLOSE:
                return b"", 0, Close(4409, "slow", retry_ms=0)
            notice = self._skip(ring, ring.next - 1 if self._slow is Slow.LATEST else ring.next)
        elif self.lagging and self._slow is Slow.LATEST and self._number < ring.next - 1:
            notice = self._skip(ring, ring.next - 1)
        data, events, self._number = ring.run(self._number, limit_bytes=limit_bytes)
        self.place = self._announced = ring.start_of(self._number)
        self.lagging = self._number < ring.next
        return notice + data, events, None

    def tick(self, now_s: float) -> Tick:
        """Warn, ping or close as far as it is due at `now_s`."""
        pace = self._pace
        if now_s >= pace.expires_at_s:
            return Tick(b"", False, Close(4401, "invalid_token"), now_s)
        data = b""
        if not self._warned and now_s >= pace.expires_at_s - pace.expiring_s:
            self._warned = True
            data = frame_notice(expiring_notice(pace.expires_at_s - now_s), self._encoding)
        ping = now_s >= self._next_ping_s
        if ping:
            if pace.pings_missed_max is not None and self._unanswered >= pace.pings_missed_max:
                return Tick(b"", False, Close(1001, "ping_timeout", retry_ms=0), now_s)
            self._unanswered += 1
            self._next_ping_s = now_s + pace.ping_s
            data += self._heartbeat()
        warn_s = pace.expires_at_s if self._warned else pace.expires_at_s - pace.expiring_s
        return Tick(data, ping, None, min(self._next_ping_s, warn_s, pace.expires_at_s))

    def heard(self) -> None:
        """Something came from the other side: it is alive."""
        self._unanswered = 0

    def _heartbeat(self) -> bytes:
        """A `hb` notice where the subscriber could not know how far the topic is: nothing matched, or raw lines."""
        ring = self._ring
        if ring is None or self._number != ring.next:
            return b""
        if ring.end == self._announced and self._form is Form.ENVELOPE:
            return b""
        self.place = self._announced = ring.end
        return frame_notice(hb_notice(self._cursor_of(ring.end)), self._encoding)

    def _skip(self, ring: Ring, number: int) -> bytes:
        """Go on at chunk `number`; the notice of what is left out."""
        to = ring.start_of(number)
        self._number = number
        if to == self.place:
            return b""
        events = None if self._filtered else sum(to) - sum(self.place)
        notice = gap_notice(self._cursor_of(self.place), self._cursor_of(to), events=events)
        self.place = to
        return frame_notice(notice, self._encoding)
