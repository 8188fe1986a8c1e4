"""One subscription's state: where it is in the topic and what it is sent next.

Pure: no socket and no clock. A shell asks what to write (`take`, `heartbeat`) and writes it.

States: *replaying* (the shell feeds it from the log) → *live* (it reads a ring) → closed. One that counts credit is
*parked* when it has none left for what comes next: it leaves the ring, and only its place is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from penstock.errors import PenstockError
from penstock.http.socket_life import Close
from penstock.model.position import Cursor
from penstock_publish.topics.framing import Encoding, Form, frame_notice, gap_notice, hb_notice
from penstock_publish.topics.history import After
from penstock_publish.topics.ring import Place, Ring

__all__ = ["CreditSession", "Session", "Slow"]


class Slow(StrEnum):
    """What happens to a subscriber that cannot keep up.

    GAP: it gets what the ring still holds; once it falls off, a gap is announced and it goes on live.
    LATEST: as soon as it lags, everything but the newest is skipped, with a gap announced.
    CLOSE: when it falls off the ring it is closed with 4409 and its cursor.
    """

    GAP = "gap"
    LATEST = "latest"
    CLOSE = "close"


class Session:
    """State of one subscription. `place` is the place up to which the subscriber has been served."""

    __slots__ = ("_announced", "_cursor_of", "_encoding", "_filtered", "_form", "_number", "_ring", "_slow",
                 "lagging", "place", "resume")  # fmt: skip

    def __init__(
        self,
        cursor_of: Callable[[Place], Cursor],
        place: Place,
        *,
        encoding: Encoding,
        form: Form,
        slow: Slow,
        filtered: bool,
    ) -> None:
        self._cursor_of = cursor_of
        self.place = place
        self._announced = place
        self._encoding = encoding
        self._form = form
        self._slow = slow
        self._filtered = filtered
        self._ring: Ring | None = None
        self._number = 0
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

    def check_sent(self, after: After) -> None:
        """`bad_cursor` for a cursor beyond what was sent; a place inside a table's rows is not looked at."""
        cursor = after.cursor
        if cursor is None or (
            after.key_hash is None
            and (
                cursor.epoch != self._cursor_of(self.place).epoch
                or any(theirs > ours for theirs, ours in zip(cursor.next, self.place, strict=True))
            )
        ):
            raise PenstockError("bad_cursor", "this cursor lies beyond what was sent on this socket")

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

    def allowance(self, events: int) -> int:
        """How many of so many events may be sent now."""
        return events

    def spend(self, events: int) -> None:
        """So many were sent outside `take`."""

    def heartbeat(self, *, named: bool = False) -> bytes:
        """A `hb` notice where the subscriber could not know how far the topic is: nothing matched, or raw lines."""
        ring = self._ring
        if ring is None or self._number != ring.next:
            return b""
        if ring.end == self._announced and self._form is Form.ENVELOPE:
            return b""
        self.place = self._announced = ring.end
        return frame_notice(hb_notice(self._cursor_of(ring.end), named=named), self._encoding)

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


class CreditSession(Session):
    """Sends as many events as it has credit for. What it has none for is read from the log once there is some again:
    it waits outside the ring, so that it can wait for ever.
    """

    __slots__ = ("credit", "parked")

    def __init__(
        self,
        cursor_of: Callable[[Place], Cursor],
        place: Place,
        *,
        encoding: Encoding,
        form: Form,
        slow: Slow,
        filtered: bool,
        credit: int,
    ) -> None:
        super().__init__(cursor_of, place, encoding=encoding, form=form, slow=slow, filtered=filtered)
        self.credit = credit
        #: True while what comes next has to be read from the log: credit was too little for a chunk of the ring.
        self.parked = False

    def grant(self, events: int) -> None:
        """Add credit."""
        self.credit += events

    def allowance(self, events: int) -> int:
        """See `Session`."""
        return min(self.credit, events)

    def spend(self, events: int) -> None:
        """See `Session`."""
        self.credit -= events

    def park(self) -> None:
        """Leave the ring; `place` (or `resume`) is where to go on."""
        self._ring = None
        self.parked = True
        self.lagging = False

    def join(self, ring: Ring, number: int) -> None:
        """See `Session`."""
        self.parked = False
        super().join(ring, number)

    def take(self, *, limit_bytes: int) -> tuple[bytes, int, Close | None]:
        """See `Session`. Falling off the ring parks it, so it loses nothing; with LATEST it skips as it asked."""
        ring = self._ring
        if ring is None or self._number == ring.next:
            return b"", 0, None
        fallen = self._number < ring.first
        if fallen and self._slow is Slow.CLOSE:
            return b"", 0, Close(4409, "slow", retry_ms=0)
        notice = b""
        if self._slow is Slow.LATEST and (fallen or self.lagging) and self._number < ring.next - 1:
            notice = self._skip(ring, ring.next - 1)
        elif fallen:
            self.park()
            return b"", 0, None
        parts, size_bytes, events, number = [notice], 0, 0, self._number
        while number < ring.next:
            chunk = ring.chunk(number)
            if events + chunk.count > self.credit or (size_bytes and size_bytes + len(chunk.data) > limit_bytes):
                break
            parts.append(chunk.data)
            size_bytes += len(chunk.data)
            events += chunk.count
            number += 1
        if number == self._number:
            self.park()
            return notice, 0, None
        self._number = number
        self.credit -= events
        self.place = self._announced = ring.start_of(number)
        self.lagging = number < ring.next
        return b"".join(parts), events, None
