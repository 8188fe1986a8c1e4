"""What is sent: events made from a seed, each with a digest of its own, and what the app's rules say of each.

Imports nothing of the product: the rules of `ledger.sql` are written here a second time, by hand.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import random
from dataclasses import dataclass
from decimal import Decimal

__all__ = ["HOUR_MS", "Event", "Source", "is_large", "timestamp", "window_of"]

HOUR_MS = 3_600_000
START_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z
BRANCHES = ("north", "east", "south", "west", "centre")
GOOD, FAILING, REFUSED = "good", "failing", "refused"


@dataclass(frozen=True, slots=True)
class Event:
    """One event as it is sent. `kind`: good; failing: a statement must reject it; refused: admission must."""

    id: str
    account: str
    branch: str
    seq: int  # 0 for a refused event: it takes no place in its account's order
    amount: str  # decimal text with two places
    weight: float
    quota: str
    ts_ms: int
    kind: str

    @property
    def digest(self) -> str:
        parts = (self.id, self.account, self.branch, self.seq, self.amount, repr(self.weight), self.quota, self.ts_ms)
        return hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()[:16]

    def body(self) -> dict[str, object]:
        """The JSON object that is sent."""
        return {
            "id": self.id,
            "account": self.account,
            "branch": self.branch,
            "seq": "none" if self.kind == REFUSED else self.seq,
            "amount": self.amount,
            "weight": self.weight,
            "quota": self.quota,
            "digest": self.digest,
            "ts": timestamp(self.ts_ms),
        }


class Source:
    """Events of one producer, over accounts that are its own. Same seed and same calls: same events."""

    def __init__(self, seed: int, producer: int, accounts: int) -> None:
        self._chance = random.Random(f"{seed}.{producer}")
        self._producer = producer
        self._accounts = [f"p{producer}.a{n}" for n in range(accounts)]
        self._seqs: dict[str, int] = {}
        self._count = 0

    def draw(self, times_ms: range, *, never: bool = False) -> list[Event]:
        """One event a time. `never`: for an account whose events are sent without a token and must never be seen."""
        return [self._event(ts_ms, never=never) for ts_ms in times_ms]

    def _event(self, ts_ms: int, *, never: bool) -> Event:
        chance = self._chance
        account = f"p{self._producer}.never" if never else chance.choice(self._accounts)
        lot = chance.random()
        kind = GOOD if never or lot >= 0.03 else FAILING if lot >= 0.01 else REFUSED
        seq = 0
        if kind != REFUSED:
            seq = self._seqs[account] = self._seqs.get(account, 0) + 1
        self._count += 1
        return Event(
            id=f"{self._producer}-{self._count}",
            account=account,
            branch=chance.choice(BRANCHES),
            seq=seq,
            amount=f"{chance.randint(-20_000, 120_000) / 100:.2f}",
            weight=round(chance.random() * 100, 3),
            quota="none" if kind == FAILING else str(chance.randint(1, 10**12)),
            ts_ms=ts_ms,
            kind=kind,
        )


def is_large(event: Event) -> bool:
    """The filter of the stream `large`."""
    return Decimal(event.amount) >= 500


def window_of(ts_ms: int) -> str:
    """Start of the hour that the windows of `ledger.sql` put this time in, as the system writes it."""
    return timestamp(ts_ms - ts_ms % HOUR_MS)


def timestamp(ts_ms: int) -> str:
    """ISO 8601 with milliseconds, without a zone."""
    moment = dt.datetime(1970, 1, 1) + dt.timedelta(milliseconds=ts_ms)
    return moment.isoformat(timespec="milliseconds")
