"""The ledger's records: append-only files outside the system under test, and what the checker reads back from them.

An attempt is written and flushed before its request is sent; so the ledger can never know less than the system.
Times are seconds of this process's monotonic clock.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field
from pathlib import Path
from typing import Any

from ledger.events import Event

__all__ = ["FAIL", "INFO", "OK", "Attempt", "Exit", "Fault", "Outcome", "Recorder", "Records", "Sighting", "load"]

#: Answered as durable; refused for certain; unknown (a timeout, a reset, a 5xx).
OK, FAIL, INFO = "ok", "fail", "info"

#: Exits that show every event exactly once, those that may repeat one under the same cursor, the rejected events,
#: and tables, which show rows and not events.
ONCE, AT_LEAST_ONCE, REJECTED, TABLE = "once", "at_least_once", "rejected", "table"
KINDS = {
    "raw": ONCE,
    "log.large": ONCE,
    "log.quotas": ONCE,
    "store.large": ONCE,
    "store.quotas": ONCE,
    "socket.large": AT_LEAST_ONCE,
    "socket.quotas": AT_LEAST_ONCE,
    "sse.large": AT_LEAST_ONCE,
    "rejected": REJECTED,
    "store.latest": TABLE,
    "store.hourly": TABLE,
    "store.branches": TABLE,
    "socket.latest": TABLE,
    "socket.hourly": TABLE,
}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request about to be sent. `first`: the request that sent these events before, or itself."""

    request: int
    first: int
    at_s: float
    target: str
    ids: Sequence[str]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a request ended; the counts are those of the reply, -1 where there was none."""

    request: int
    at_s: float
    outcome: str
    status: int = 0
    accepted: int = -1
    duplicate: int = -1
    rejected: int = -1
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something done to a process. `kind`: kill, pause, crash (of a server). Pids tell a fault that missed."""

    kind: str
    target: str
    begin_s: float
    end_s: float
    pid_before: int
    pid_after: int
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Sighting:
    """An event or a row at an exit. `place`: position, cursor or id there, opaque."""

    place: str
    values: Mapping[str, Any]
    at_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Exit:
    """What came out by one door, in its order; `rows()` starts again each time."""

    name: str
    kind: str
    rows: Callable[[], Iterable[Sighting]]


@dataclass
class Records:
    """Everything that the checker may know."""

    events: dict[str, Event] = field(default_factory=dict)
    attempts: dict[int, Attempt] = field(default_factory=dict)
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    exits: dict[str, Exit] = field(default_factory=dict)
    gaps: list[str] = field(default_factory=list)  # gap notices that subscribers were given

    def statuses(self) -> dict[str, str]:
        """Event id -> ok if any attempt was acknowledged, else info if any is unknown, else fail."""
        found: dict[str, str] = {}
        rank = {FAIL: 0, INFO: 1, OK: 2}
        for attempt in self.attempts.values():
            outcome = self.outcomes.get(attempt.request)
            news = outcome.outcome if outcome else INFO  # no outcome written: the recorder itself was cut off
            for event_id in attempt.ids:
                if event_id not in found or rank[news] > rank[found[event_id]]:
                    found[event_id] = news
        return found


class Recorder:
    """Writes the files and counts what is open. Used by every thread."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._files: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._requests = 0
        self._open: set[int] = set()
        self.acknowledged = 0  # events
        self.opened = threading.Event()  # a request is open

    def attempt(self, target: str, events: Sequence[Event], first: int | None = None) -> int:
        """Number of the request; everything about it is with the operating system when this returns."""
        with self._lock:
            self._requests += 1
            number = self._requests
            line: dict[str, Any] = {"request": number, "at_s": time.monotonic(), "target": target}
            if first is None:
                line |= {"first": number, "events": [astuple(event) for event in events]}
            else:
                line["first"] = first
            self._write("attempts", line, flush=True)
            self._open.add(number)
            self.opened.set()
            return number

    def outcome(self, outcome: Outcome, count: int) -> None:
        """How a request ended; `count` events were in it, new to the ledger if it is the first that was answered."""
        with self._lock:
            self._write("outcomes", asdict(outcome), flush=True)
            self._open.discard(outcome.request)
            if not self._open:
                self.opened.clear()
            if outcome.outcome == OK:
                self.acknowledged += count

    def open_requests(self) -> int:
        """How many requests have no outcome yet."""
        return len(self._open)

    def seen(self, exit_name: str, sightings: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
        """Things that came out, in order; one thread an exit."""
        at_s = time.monotonic()
        for place, values in sightings:
            self._write(f"seen-{exit_name}", [place, values, at_s], flush=False)

    def gap(self, exit_name: str, notice: Mapping[str, Any]) -> None:
        """A subscriber was told that it missed something."""
        self._write("gaps", [exit_name, notice], flush=True)

    def fault(self, fault: Fault) -> None:
        """Written when it is over."""
        self._write("faults", asdict(fault), flush=True)

    def close(self) -> None:
        """Everything is in the files when this returns."""
        for file in self._files.values():
            file.close()

    def _write(self, name: str, value: object, *, flush: bool) -> None:
        file = self._files.get(name)
        if file is None:
            file = self._files[name] = (self.folder / f"{name}.jsonl").open("a", encoding="utf-8")
        file.write(json.dumps(value, separators=(",", ":")) + "\n")
        if flush:
            file.flush()


def load(folder: Path) -> Records:
    """The records of a finished run."""
    records = Records()
    for line in _lines(folder, "attempts"):
        events = [Event(*values) for values in line.pop("events", ())]
        records.events |= {event.id: event for event in events}
        ids = [event.id for event in events] or records.attempts[line["first"]].ids
        records.attempts[line["request"]] = Attempt(ids=ids, **line)
    records.outcomes = {line["request"]: Outcome(**line) for line in _lines(folder, "outcomes")}
    records.faults = [Fault(**line) for line in _lines(folder, "faults")]
    records.gaps = [json.dumps(line) for line in _lines(folder, "gaps")]
    for name, kind in KINDS.items():
        records.exits[name] = Exit(name, kind, lambda name=name: _sightings(folder, name))
    return records


def _sightings(folder: Path, name: str) -> Iterator[Sighting]:
    for line in _lines(folder, f"seen-{name}"):
        yield Sighting(*line)


def _lines(folder: Path, name: str) -> Iterator[Any]:
    path = folder / f"{name}.jsonl"
    if path.exists():
        with path.open(encoding="utf-8") as file:
            for line in file:
                yield json.loads(line)
