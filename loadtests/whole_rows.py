"""The whole system in each arrangement: HTTP -> log -> rule + window -> store + 100 sockets, under the same load.

Each arrangement first takes all that two connections send (its rate: events by the time until the store has all of
them), then is held to a share of that rate, which shows lag, memory and who uses the processor. The row of one
process is the baseline: the others' ratio is to it.
"""

from __future__ import annotations

import json
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from loadtests import apps
from loadtests.arrangements import NAMES, Arrangement, arranged, missing
from loadtests.sections import NO_DEDUPE, WHOLE_SOCKETS, Bench, Figure
from loadtests.spans import between, memory_mib, taken
from loadtests.system import Subscribers, post_load

__all__ = ["arrangements"]

RESULTS = Path(__file__).parent / "results" / "arrangements-latest.json"
ROWS, CONNECTIONS = 5_000, 2
FULL_SHARE = 1 / 3  # of the time; the rest is held
HELD_TO = 0.8  # of the rate of the first phase
_LOOK_S = 0.5
_PATIENCE_S = 300.0


def arrangements(bench: Bench) -> Sequence[Figure]:
    """One set of figures an arrangement; details go to loadtests/results/arrangements-latest.json."""
    found: list[Figure] = []
    rows: dict[str, Any] = {}
    for name in NAMES:
        if lacking := missing(name):
            print(f"whole system, {name}: left out, {lacking}")
            continue
        rows[name] = measured(name, bench)
        found += figures_of(name, rows[name], rows.get(NAMES[0]))
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
    return found


def measured(name: str, bench: Bench) -> dict[str, Any]:
    """Both phases of one arrangement."""
    sql = apps.WHOLE.format(dedupe=NO_DEDUPE)
    seconds = bench.whole_minutes * 60
    bench.folder.chmod(0o755)  # the database's user walks through it
    with arranged(name, bench.folder / f"whole-{name}", sql) as arrangement:
        idle = memory_mib(arrangement)
        crowd = Subscribers(arrangement, "warm", WHOLE_SOCKETS, core=None)
        full = phase(arrangement, seconds * FULL_SHARE, sent_before=0)
        held_rate = full["events_per_s"] * HELD_TO
        held = phase(arrangement, seconds * (1 - FULL_SHARE), sent_before=full["events"], events_per_s=held_rate)
        delivered = crowd.finish()["events"]
        return {
            "settings": arrangement.settings(),
            "idle_memory_mib": rounded(idle),
            "full": full,
            "held": held,
            "deliveries": delivered,
        }


def phase(
    arrangement: Arrangement, seconds: float, *, sent_before: int, events_per_s: float | None = None
) -> dict[str, Any]:
    """Post for so long, wait until the store has everything."""
    job = {"port": arrangement.port, "token": arrangement.token, "stream": "readings", "rows": ROWS}
    job |= {"connections": CONNECTIONS, "seconds": seconds, "devices": 1_000, "run": f"w{sent_before}"}
    if events_per_s is not None:
        job["requests_per_s"] = events_per_s / ROWS
    before = taken(arrangement)
    with watching(arrangement) as seen:
        posted = post_load(job, core=None)
        load_end = time.perf_counter()
        events = posted["requests"] * ROWS
        drained_s = until_stored(arrangement, sent_before + events) - load_end
    after = taken(arrangement)
    return {
        "events": events,
        "seconds": round(posted["seconds"], 2),
        "drain_s": round(max(0.0, drained_s), 2),
        "events_per_s": round(events / (posted["seconds"] + max(0.0, drained_s))),
        "post_p50_ms": round(posted["p50_ms"], 1),
        "post_p99_ms": round(posted["p99_ms"], 1),
        "lag_s": round(max(seen.lags_s, default=0.0), 2),
        "memory_mib": {
            "first quarter": rounded(seen.memory(0.0, 0.25)),
            "last quarter": rounded(seen.memory(0.75, 1.0)),
        },
        "used": between(before, after),
    }


def until_stored(arrangement: Arrangement, events: int) -> float:
    """When all events were processed and the store was behind no more."""
    deadline = time.perf_counter() + _PATIENCE_S
    while True:
        now = time.perf_counter()
        if now > deadline:
            raise RuntimeError(f"{events:,} events do not get through:\n{arrangement.system.output()}")
        if total(arrangement, "penstock_processor_rows_in_total") >= events and not behind(arrangement):
            time.sleep(0.1)  # the store learns of a commit a moment after it
            if not behind(arrangement):
                return now
        time.sleep(0.1)


def behind(arrangement: Arrangement) -> bool:
    """Whether the log holds results that the store does not."""
    return total(arrangement, "penstock_store_lag_events") > 0


def total(arrangement: Arrangement, metric: str) -> float:
    """A metric summed over labels and processes."""
    return sum(
        value
        for samples in arrangement.metrics().values()
        for name, value in samples.items()
        if name.partition("{")[0] == metric
    )


class Watched:
    """What was seen twice a second: the greatest lag in seconds, and memory of each process."""

    def __init__(self) -> None:
        self.lags_s: list[float] = []
        self._memory: list[dict[str, float]] = []

    def look(self, arrangement: Arrangement) -> None:
        """Once."""
        lags = ("penstock_processor_lag_seconds", "penstock_store_lag_seconds")
        values = [
            value
            for samples in arrangement.metrics().values()
            for name, value in samples.items()
            if name.partition("{")[0] in lags
        ]
        self.lags_s.append(max(values, default=0.0))
        self._memory.append(memory_mib(arrangement))

    def memory(self, since: float, until: float) -> dict[str, float]:
        """Median of each process in a part of the time."""
        count = len(self._memory)
        chosen = self._memory[int(count * since) : max(int(count * until), int(count * since) + 1)]
        return {name: statistics.median(one[name] for one in chosen) for name in (chosen[0] if chosen else {})}


@contextmanager
def watching(arrangement: Arrangement) -> Iterator[Watched]:
    """Look from a thread while the body runs."""
    seen, stop = Watched(), threading.Event()

    def look() -> None:
        while not stop.wait(_LOOK_S):
            seen.look(arrangement)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


def figures_of(name: str, row: dict[str, Any], base: dict[str, Any] | None) -> Sequence[Figure]:
    """The rows of the table of one arrangement."""
    full, held = row["full"], row["held"]
    title = f"whole system, {name}"
    cores = ", ".join(f"{one} {used['cores']}" for one, used in held["used"]["processes"].items())
    memory = ", ".join(
        f"{one} {held['memory_mib']['first quarter'].get(one, 0):g} -> {value:g}"
        for one, value in held["memory_mib"]["last quarter"].items()
    )
    found = [
        Figure(title, full["events_per_s"], "events/s", ">= 150,000" if name == NAMES[0] else "", None,
               f"{full['events']:,} events, {full['drain_s']} s to drain; {json.dumps(row['settings'])}"),
        Figure(f"{title}, held to {HELD_TO:.0%}: greatest lag", held["lag_s"], "s", "< 5", None,
               f"{held['events_per_s']:,} events/s for {held['seconds']} s; cores: {cores}; MiB: {memory}"),
    ]  # fmt: skip
    if base is not None and base is not row:
        found.append(
            Figure(f"{title} / one process", full["events_per_s"] / base["full"]["events_per_s"], "ratio", "")
        )
    return found


def rounded(memory: dict[str, float]) -> dict[str, int]:
    """Whole MiB."""
    return {name: round(value) for name, value in memory.items()}
