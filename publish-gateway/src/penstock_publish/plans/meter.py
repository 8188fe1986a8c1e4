"""What one application takes, held against its plan. Pure: no I/O, the time is passed in (epoch seconds, UTC).

Days are counts: what all processes had recorded when that was last read, plus what this one has counted since;
whoever records (`plans.recorder`) takes the latter and brings back the former. Seconds are token buckets: this
process has its share of each, by how many processes the application is active in (`share`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace

from penstock_publish.plans.bucket import Bucket
from penstock_publish.plans.settings import Plan

__all__ = ["DAY_S", "Counts", "Hold", "Meter", "Standing"]

DAY_S = 86_400
#: An application is active in a process for so long after something was counted there.
_ACTIVE_S = 5.0
_MEASURES = ("messages", "bytes", "queries")
_DELIVERIES = ("messages", "bytes")
_PER_DAY = {measure: f"{measure}_per_day" for measure in _MEASURES}


@dataclass(slots=True)
class Counts:
    """What was taken: `connections` opened, `queries` answered, `refused` requests and connections."""

    messages: int = 0
    bytes: int = 0
    connections: int = 0
    queries: int = 0
    refused: int = 0

    def add(self, other: Counts, *, times: int = 1) -> None:
        """Add each to each."""
        for one in fields(Counts):
            setattr(self, one.name, getattr(self, one.name) + times * getattr(other, one.name))


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

    __slots__ = ("_active_until_s", "_base", "_buckets", "_connections", "_connections_elsewhere", "_day",
                 "_day_ends_s", "_earlier", "_processes", "_quotas", "_recording", "_unrecorded", "client_id", "plan",
                 "plan_name")  # fmt: skip

    def __init__(self, client_id: str, plan_name: str, plan: Plan, now_s: float) -> None:
        self.client_id = client_id
        self.plan_name = plan_name
        self.plan = plan
        self._processes = 1  # in which the application is active, this one included
        self._buckets = dict(_buckets(plan, {}, now_s, self._processes))
        self._quotas = dict(_quotas(plan))
        self._connections = 0
        self._connections_elsewhere = 0
        self._active_until_s = 0.0
        self._day = int(now_s // DAY_S)
        self._day_ends_s = (self._day + 1) * DAY_S
        #: Of today: what is recorded or being recorded, of all processes; and what this one counted since.
        self._base = Counts()
        self._unrecorded = Counts()
        self._earlier: dict[int, Counts] = {}  # of days before, counted and not recorded yet
        self._recording: dict[int, Counts] = {}

    @property
    def connections(self) -> int:
        """Open in this process."""
        return self._connections

    @property
    def idle(self) -> bool:
        """True if nothing is open and everything recorded."""
        nothing = not self._earlier and not self._recording and self._unrecorded == Counts()
        return nothing and self._connections == 0

    @property
    def day(self) -> int:
        """The UTC day that counts, in days since the epoch; it never goes back."""
        return self._day

    def change(self, plan_name: str, plan: Plan, now_s: float) -> None:
        """Another plan from now on. A debt stays, and so does what was taken today."""
        if (plan_name, plan) != (self.plan_name, self.plan):
            self.plan_name, self.plan = plan_name, plan
            self._buckets = dict(_buckets(plan, self._buckets, now_s, self._processes))
            self._quotas = dict(_quotas(plan))

    def share(self, *, others_active: int, connections_elsewhere: int, now_s: float) -> None:
        """How many other processes the application is active in, and what it has open there, as last heard."""
        self._connections_elsewhere = connections_elsewhere
        if others_active + 1 != self._processes:
            self._processes = others_active + 1
            for measure, bucket in self._buckets.items():
                bucket.resize(*_rate_of(self.plan, measure, self._processes), now_s)

    def is_active(self, now_s: float) -> bool:
        """True if something was counted a moment ago, or is being paid off."""
        return now_s < self._active_until_s or self._in_debt(_DELIVERIES, now_s) is not None

    def room(self, now_s: float) -> Hold | None:
        """Why there may be no other connection now, if so; that is counted as refused."""
        self._roll(now_s)
        limit = self.plan.connections
        open_now = self._connections + self._connections_elsewhere
        hold = Hold("connections", 0.0, False) if limit is not None and open_now >= limit else None
        hold = hold or self._used_up(_DELIVERIES, now_s)
        if hold is not None:
            self._unrecorded.refused += 1
        return hold

    def open_connection(self, now_s: float) -> Hold | None:
        """Count a connection; why not, if there may be no other one now."""
        hold = self.room(now_s)
        if hold is None:
            self._connections += 1
            self._unrecorded.connections += 1
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
            self._unrecorded.refused += 1
            return hold
        self._unrecorded.queries += 1
        return None

    def delivered(self, events: int, size_bytes: int, now_s: float) -> float:
        """Count what was sent; seconds for which the application's connections must wait (0: go on)."""
        self.count_delivery(events, size_bytes, now_s)
        hold = self.hold(now_s)
        return 0.0 if hold is None else hold.wait_s

    def count_delivery(self, events: int, size_bytes: int, now_s: float) -> None:
        """Count what was sent."""
        self._roll(now_s)
        counts, buckets = self._unrecorded, self._buckets
        counts.messages += events
        counts.bytes += size_bytes
        if "messages" in buckets:
            buckets["messages"].spend(events, now_s)
        if "bytes" in buckets:
            buckets["bytes"].spend(size_bytes, now_s)

    def hold(self, now_s: float) -> Hold | None:
        """Why nothing may be delivered now, if so: the longest wait."""
        self._roll(now_s)
        return self._used_up(_DELIVERIES, now_s) or self._in_debt(_DELIVERIES, now_s)

    def standing(self, now_s: float) -> Iterator[Standing]:
        """Every limit of the plan but that of connections, as it is now."""
        self._roll(now_s)
        for measure, bucket in self._buckets.items():
            remaining = max(
                0, int(bucket.credit(now_s))
            )  # of the share of this process: no promise that it cannot keep
            burst = int(_rate_of(self.plan, measure, 1)[1])
            yield Standing(f"{measure}_per_s", burst, self.plan.burst_s, remaining, bucket.full_in_s(now_s))
        for measure, quota in self._quotas.items():
            remaining = max(0, quota - self.used(measure))
            yield Standing(_PER_DAY[measure], quota, DAY_S, remaining, self._rest_of_day_s(now_s))

    def used(self, measure: str) -> int:
        """What is known of today's use, of all processes."""
        used: int = getattr(self._base, measure) + getattr(self._unrecorded, measure)
        return used

    def unrecorded(self) -> Mapping[int, Counts]:
        """What was counted and is not recorded yet, by day. Not while a recording is under way."""
        return self._earlier | ({} if self._unrecorded == Counts() else {self._day: self._unrecorded})

    def begin_recording(self, now_s: float) -> Mapping[int, Counts]:
        """What was counted since the last time, by day. To be followed by `recorded` or `not_recorded`."""
        self._recording, self._earlier = self._earlier, {}
        if self._unrecorded != Counts():
            self._active_until_s = now_s + _ACTIVE_S
            self._recording[self._day] = self._unrecorded
            self._base.add(self._unrecorded)
            self._unrecorded = Counts()
        return self._recording

    def recorded(self, day: int, total: Counts) -> None:
        """It was recorded, and `total` is what all processes have recorded of that day."""
        self._recording = {}
        if day == self._day:
            self._base = replace(total)

    def not_recorded(self) -> None:
        """It could not be recorded: next time."""
        for day, counts in self._recording.items():
            if day == self._day:
                self._base.add(counts, times=-1)
                self._unrecorded.add(counts)
            else:
                self._earlier.setdefault(day, Counts()).add(counts)
        self._recording = {}

    def _roll(self, now_s: float) -> None:
        if now_s < self._day_ends_s:
            return
        if self._unrecorded != Counts():
            self._earlier[self._day] = self._unrecorded
        self._base, self._unrecorded = Counts(), Counts()
        self._day = int(now_s // DAY_S)
        self._day_ends_s = (self._day + 1) * DAY_S

    def _rest_of_day_s(self, now_s: float) -> float:
        return max(0.0, self._day_ends_s - now_s)

    def _used_up(self, measures: Iterable[str], now_s: float) -> Hold | None:
        for measure in measures:
            quota = self._quotas.get(measure)
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


def _rate_of(plan: Plan, measure: str, processes: int) -> tuple[float, float]:
    """Rate and burst of one of so many processes; of a burst at least one unit, or there were nothing to take."""
    rate: int = getattr(plan, f"{measure}_per_s")
    return rate / processes, max(1.0, rate * plan.burst_s / processes)


def _buckets(plan: Plan, before: Mapping[str, Bucket], now_s: float, processes: int) -> Iterator[tuple[str, Bucket]]:
    for measure in _MEASURES:
        if getattr(plan, f"{measure}_per_s") is None:
            continue
        bucket = Bucket(*_rate_of(plan, measure, processes), now_s)
        if measure in before:  # or a change of plan and back would fill it
            bucket.spend(max(0.0, bucket.burst - before[measure].credit(now_s)), now_s)
        yield measure, bucket


def _quotas(plan: Plan) -> Iterator[tuple[str, int]]:
    for measure, limit in _PER_DAY.items():
        quota: int | None = getattr(plan, limit)
        if quota is not None:
            yield measure, quota
