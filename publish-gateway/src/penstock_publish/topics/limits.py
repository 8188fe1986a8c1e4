"""How many may come in a second, how many may be there, and who goes when unsent bytes take too much. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

__all__ = ["ConnectRate", "Seat", "Seats", "largest_over"]

_Item = TypeVar("_Item")


class ConnectRate:
    """A bucket of `per_s` connects that fills up in a second. Time is in monotonic seconds of the caller's clock."""

    def __init__(self, per_s: int, *, now_s: float) -> None:
        self._per_s = per_s
        self._left = float(per_s)
        self._at_s = now_s

    def take(self, now_s: float) -> bool:
        """Take one; False: there is none left."""
        self._left = min(float(self._per_s), self._left + (now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Seats:
    """So many places. One is taken before anything is awaited for who comes, so that there are never more."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.taken = 0

    def take(self) -> Seat | None:
        """A place, to be given back; None: there is none left."""
        if self.taken >= self._limit:
            return None
        self.taken += 1
        return Seat(self)


class Seat:
    """One place; giving it back twice gives it back once."""

    __slots__ = ("_seats",)

    def __init__(self, seats: Seats) -> None:
        self._seats: Seats | None = seats

    def give_back(self) -> None:
        """Make room for another one."""
        seats, self._seats = self._seats, None
        if seats is not None:
            seats.taken -= 1


def largest_over(held: Iterable[tuple[int, _Item]], *, limit_bytes: int) -> list[_Item]:
    """Of (size in bytes, item): the largest, as many as must go so that the others fit within the limit."""
    ordered = sorted(held, key=lambda pair: pair[0])
    excess_bytes = sum(size_bytes for size_bytes, _ in ordered) - limit_bytes
    gone = []
    while excess_bytes > 0 and ordered:
        size_bytes, item = ordered.pop()
        excess_bytes -= size_bytes
        gone.append(item)
    return gone
