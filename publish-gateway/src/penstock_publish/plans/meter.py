"""What one application takes, held against its plan. Pure: no I/O, the time is passed in (epoch seconds, UTC).

Seconds are token buckets in this process. Days are counts: what all processes had recorded when that was last read,
plus what this one has counted since; whoever records (`plans.recorder`) takes the latter and brings back the former.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields

from penstock_publish.plans.bucket import Bucket
from penstock_publish.plans.settings import Plan

__all__ = ["DAY_S", "Counts", "Hold", "Meter", "Standing"]

DAY_S = 86_400
_MEASURES = ("messages", "bytes", "queries")
_PER_DAY = {measure: f"{measure}_per_day" for measure in _MEASURES}


@dataclass(slots=True)
class Counts:
    """What was taken: `connections` opened, `queries` answered, `refused` requests and connections."""

    messages: int = 0
    bytes: int = 0
    connections: int = 0
    queries: int = 0
    refused: int = 0

    def add(self, other: Counts) -> None:
        """Add each to each."""
        for one in fields(Counts):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))


@dataclass(frozen=True, slots=True)
class Hold:
    """Nothing more for `wait_s`, because of `limit` (a field of `Plan`); `for_today`: the day's quota is used up."""

    limit: str
    wait_s: float
    for_today: bool


@dataclass(frozen=True, slots=True)
class Standing:
    """One limit as it is: `quota` in `window_s`, what remains of it, and when it is whole again."""

    limit: str
    quota: int
    window_s: int
    remaining: int
    reset_s: float


class Meter:
    """Use of one application in one process."""

    __slots__ = ("_buckets", "_connections", "_day", "_pending", "_recorded", "_recording", "client_id", "plan",
                 "plan_name")  # fmt: skip

    def __init__(self, client_id: str, plan_name: str, plan: Plan, now_s: float) -> None:
        self.client_id = client_id
        self.plan_name = plan_name
        self.plan = plan
        self._buckets = dict(_buckets(plan, {}, now_s))
        self._connections = 0
        self._day = int(now_s // DAY_S)
        self._recorded = Counts()
        self._pending: dict[int, Counts] = {}
        self._recording: dict[int, Counts] = {}

    @property
    def connections(self) -> int:
        """Open in this process."""
        return self._connections

    @property
    def idle(self) -> bool:
        """True if nothing is open and everything recorded."""
        return self._connections == 0 and not self._pending and not self._recording

    @property
    def day(self) -> int:
        """The UTC day that counts, in days since the epoch; it never goes back."""
        return self._day

    def change(self, plan_name: str, plan: Plan, now_s: float) -> None:
        """Another plan from now on. A debt stays, and so does what was taken today."""
        if (plan_name, plan) != (self.plan_name, self.plan):
            self.plan_name, self.plan = plan_name, plan
            self._buckets = dict(_buckets(plan, self._buckets, now_s))

    def room(self, now_s: float) -> Hold | None:
        """Why there may be no other connection now, if so; that is counted as refused."""
        self._roll(now_s)
        limit = self.plan.connections
        hold = Hold("connections", 0.0, False) if limit is not None and self._connections >= limit else None
        hold = hold or self._used_up(("messages", "bytes"), now_s)
        if hold is not None:
            self._count().refused += 1
        return hold

    def open_connection(self, now_s: float) -> Hold | None:
        """Count a connection; why not, if there may be no other one now."""
        hold = self.room(now_s)
        if hold is None:
            self._connections += 1
            self._count().connections += 1
        return hold

    def close_connection(self) -> None:
        """A connection that was counted is gone."""
        self._connections -= 1

    def query(self, now_s: float, delivers: Iterable[str] = ()) -> Hold | None:
        """Count a request; why not, if it may not be answered now. `delivers`: what its reply takes beside."""
        self._roll(now_s)
        hold = self._used_up(("queries", *delivers), now_s) or self._in_debt(delivers, now_s)
        bucket = self._buckets.get("queries")
        if hold is None and bucket is not None and not bucket.take(1, now_s):
            hold = Hold("queries_per_s", bucket.wait_s(1, now_s), False)
        if hold is not None:
            self._count().refused += 1
            return hold
        self._count().queries += 1
        return None

    def delivered(self, events: int, size_bytes: int, now_s: float) -> float:
        """Count what was sent; seconds for which the application's connections must wait (0: go on)."""
        self._roll(now_s)
        counts = self._count()
        counts.messages += events
        counts.bytes += size_bytes
        for measure, amount in (("messages", events), ("bytes", size_bytes)):
            if (bucket := self._buckets.get(measure)) is not None:
                bucket.spend(amount, now_s)
        hold = self.hold(now_s)
        return 0.0 if hold is None else hold.wait_s

    def hold(self, now_s: float) -> Hold | None:
        """Why nothing may be delivered now, if so: the longest wait."""
        self._roll(now_s)
        return self._used_up(("messages", "bytes"), now_s) or self._in_debt(("messages", "bytes"), now_s)

    def standing(self, now_s: float) -> Iterator[Standing]:
        """Every limit of the plan but that of connections, as it is now."""
        self._roll(now_s)
        for measure, bucket in self._buckets.items():
            remaining = max(0, int(bucket.credit(now_s)))
            yield Standing(f"{measure}_per_s", int(bucket.burst), self.plan.burst_s, remaining,
                           bucket.full_in_s(now_s))  # fmt: skip
        for measure in _MEASURES:
            if (quota := self._quota(measure)) is not None:
                remaining = max(0, quota - self.used(measure))
                yield Standing(_PER_DAY[measure], quota, DAY_S, remaining, self._rest_of_day_s(now_s))

    def used(self, measure: str) -> int:
        """What is known of today's use, of all processes."""
        counts = [self._recorded, self._pending.get(self._day), self._recording.get(self._day)]
        return sum(int(getattr(one, measure)) for one in counts if one is not None)

    def begin_recording(self) -> Mapping[int, Counts]:
        """What was counted since the last time, by day. To be followed by `recorded` or `not_recorded`."""
        self._recording, self._pending = self._pending, {}
        return self._recording

    def recorded(self, day: int, total: Counts) -> None:
        """It was recorded, and `total` is what all processes have recorded of that day."""
        self._recording = {}
        if day == self._day:
            self._recorded = total

    def not_recorded(self) -> None:
        """It could not be recorded: next time."""
        for day, counts in self._recording.items():
            self._pending.setdefault(day, Counts()).add(counts)
        self._recording = {}

    def _count(self) -> Counts:
        counts = self._pending.get(self._day)
        if counts is None:
            counts = self._pending[self._day] = Counts()
        return counts

    def _roll(self, now_s: float) -> None:
        day = int(now_s // DAY_S)
        if day > self._day:
            self._day, self._recorded = day, Counts()

    def _quota(self, measure: str) -> int | None:
        quota: int | None = getattr(self.plan, _PER_DAY[measure])
        return quota

    def _rest_of_day_s(self, now_s: float) -> float:
        return max(0.0, (self._day + 1) * DAY_S - now_s)

    def _used_up(self, measures: Iterable[str], now_s: float) -> Hold | None:
        for measure in measures:
            quota = self._quota(measure)
            if quota is not None and self.used(measure) >= quota:
                return Hold(_PER_DAY[measure], self._rest_of_day_s(now_s), True)
        return None

    def _in_debt(self, measures: Iterable[str], now_s: float) -> Hold | None:
        longest = None
        for measure in measures:
            bucket = self._buckets.get(measure)
            wait_s = 0.0 if bucket is None else bucket.wait_s(0, now_s)
            if wait_s > 0 and (longest is None or wait_s > longest.wait_s):
                longest = Hold(f"{measure}_per_s", wait_s, False)
        return longest


def _buckets(plan: Plan, before: Mapping[str, Bucket], now_s: float) -> Iterator[tuple[str, Bucket]]:
    for measure in _MEASURES:
        rate: int | None = getattr(plan, f"{measure}_per_s")
        if rate is None:
            continue
        bucket = Bucket(rate, rate * plan.burst_s, now_s)
        if measure in before:  # or a change of plan and back would fill it
            bucket.spend(max(0.0, bucket.burst - before[measure].credit(now_s)), now_s)
        yield measure, bucket
