"""Which dedupe keys a stream has seen: 128-bit hashes in memory, bounded by count and by time. Pure.

A request first *claims* its ids. The claim is confirmed when its append is durable and given up when it failed; a
request that meets an id of a claim still open must wait for its end, because only then is it known whether the
event is a duplicate.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

__all__ = ["Claim", "DedupeIndex"]

#: Ids confirmed within this time expire together.
_BUCKET_MS = 1000


class Claim:
    """Ids of one request that were not known before. `fresh[i]`: keep the request's i-th event; None: keep all."""

    def __init__(self, ids: Sequence[bytes], fresh: Sequence[bool] | None) -> None:
        self.ids = ids
        self.fresh = fresh
        self.settled = False
        self.learned: dict[bytes, int] = {}  # those that the log turned out to hold meanwhile: when appended
        self._callbacks: list[Callable[[], None]] = []

    def on_settled(self, callback: Callable[[], None]) -> None:
        """Call once the claim has been confirmed or given up."""
        self._callbacks.append(callback)

    def _settle(self) -> None:
        self.settled = True
        for callback in self._callbacks:
            callback()


class DedupeIndex:
    """Ids of one stream. Not for use by several threads; every method is one step of the event loop."""

    def __init__(self, *, window_ms: int, max_ids: int) -> None:
        self._window_ms = window_ms
        self._max_ids = max_ids
        self._known: set[bytes] = set()  # confirmed and claimed
        self._order: deque[bytes] = deque()  # confirmed, oldest first
        self._buckets: deque[list[int]] = deque()  # [confirmed at, how many of _order]
        self._open: list[Claim] = []
        self.shortened = False  # max_ids has cut the window at least once

    def __len__(self) -> int:
        return len(self._order)

    def window_ms(self, now_ms: int) -> int:
        """How far back a repetition is recognised: the window, or the age of the oldest id once it was cut."""
        if not self.shortened:
            return self._window_ms
        oldest_ms = self._buckets[0][0] if self._buckets else now_ms
        return min(self._window_ms, max(0, now_ms - oldest_ms))  # a clock may go back

    def claim(self, ids: Sequence[bytes], now_ms: int) -> Claim | list[Claim]:
        """Claim the ids that are not known; or the open claims to wait for, when one of the ids is in them.

        Of an id that is repeated in `ids`, the first is fresh.
        """
        self._expire(now_ms)
        distinct = set(ids)
        if len(distinct) == len(ids) and self._known.isdisjoint(distinct):
            claim = Claim(ids, None)
        else:
            repeated = distinct & self._known
            blocking = [claim for claim in self._open if not repeated.isdisjoint(claim.ids)]
            if blocking:
                return blocking
            fresh, kept = [], []
            seen = repeated
            for id_ in ids:
                is_fresh = id_ not in seen
                fresh.append(is_fresh)
                if is_fresh:
                    kept.append(id_)
                    seen.add(id_)
            claim = Claim(kept, fresh)
        if claim.ids:
            self._known.update(claim.ids)
            self._open.append(claim)
        return claim

    def confirm(self, claim: Claim, now_ms: int) -> None:
        """The claim's events are durable."""
        self._close(claim)
        self._append(claim.ids, now_ms)

    def give_up(self, claim: Claim) -> None:
        """The claim's events were not stored: their ids may come again, unless somebody else's were."""
        self._close(claim)
        self._known.difference_update(claim.ids)
        for id_, at_ms in claim.learned.items():
            self.remember([id_], at_ms)

    def remember(self, ids: Sequence[bytes], at_ms: int) -> None:
        """Add ids that the log holds already (at start, after an append of unknown outcome, of other gateways).

        One that is claimed stays so until the claim is settled.
        """
        for claim in self._open:
            claim.learned.update(dict.fromkeys(set(ids).intersection(claim.ids), at_ms))
        unknown = [id_ for id_ in dict.fromkeys(ids) if id_ not in self._known]
        self._known.update(unknown)
        self._append(unknown, at_ms)

    def _close(self, claim: Claim) -> None:
        if claim in self._open:
            self._open.remove(claim)
        claim._settle()

    def _append(self, ids: Sequence[bytes], at_ms: int) -> None:
        if not ids:
            return
        self._order.extend(ids)
        if self._buckets and at_ms - self._buckets[-1][0] < _BUCKET_MS:
            self._buckets[-1][1] += len(ids)
        else:
            self._buckets.append([at_ms, len(ids)])
        excess = len(self._order) - self._max_ids
        if excess > 0:
            self.shortened = True
            self._forget(excess)

    def _expire(self, now_ms: int) -> None:
        floor_ms = now_ms - self._window_ms
        while self._buckets and self._buckets[0][0] < floor_ms:
            self._forget(self._buckets[0][1])

    def _forget(self, count: int) -> None:
        """Drop the oldest ids."""
        popped = [self._order.popleft() for _ in range(count)]
        self._known.difference_update(popped)
        while count:
            taken = min(count, self._buckets[0][1])
            self._buckets[0][1] -= taken
            count -= taken
            if not self._buckets[0][1]:
                self._buckets.popleft()
