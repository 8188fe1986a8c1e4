"""The sections of the bench; each returns figures with their target and spread."""

from __future__ import annotations

import http.client
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from loadtests import apps
from loadtests.machine import measure_fsync, resident_bytes
from loadtests.system import HERE, PROGRAM, Subscribers, System, post_load, running, running_baseline

SERVER_CORE, CLIENT_CORE = 0, 1
CONNECTIONS = 16
EVAL_ROWS = 2_000_000
SOCKETS = 200
IDLE_SOCKETS = 1_000
WHOLE_SOCKETS = 100
NO_DEDUPE = ", 'dedupe' = 'none'"


@dataclass(frozen=True, slots=True)
class Bench:
    """Where and how long."""

    folder: Path
    seconds: float
    rounds: int
    whole_minutes: float


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure; `spread` is of the same thing measured again (A/A)."""

    name: str
    value: float
    unit: str
    target: str
    spread: float | None = None
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def single_post(bench: Bench) -> Sequence[Figure]:
    """Single durable POST on one core against a bare handler on the same core, alternating."""
    with (
        running(bench.folder / "post", apps.INGEST.format(dedupe=""), core=SERVER_CORE) as system,
        running_baseline(core=SERVER_CORE) as baseline_port,
    ):
        ours, bare, p50, p99 = [], [], [], []
        for turn in range(bench.rounds):
            job = {"stream": "readings", "rows": 1, "connections": CONNECTIONS, "seconds": bench.seconds}
            job |= {"token": system.token, "run": f"r{turn}"}
            figures = post_load(job | {"port": system.port}, core=CLIENT_CORE)
            ours.append(figures["requests_per_s"])
            p50.append(figures["p50_ms"])
            p99.append(figures["p99_ms"])
            bare.append(post_load(job | {"port": baseline_port}, core=CLIENT_CORE)["requests_per_s"])
        settings = system.settings()
    ratio = statistics.median(ours) / statistics.median(bare)
    fsync = measure_fsync(bench.folder)
    return [
        Figure("single durable POST, one core", statistics.median(ours), "events/s", "", spread(ours), settings),
        Figure("bare aiohttp handler, same core", statistics.median(bare), "requests/s", "", spread(bare)),
        Figure("single durable POST / bare handler", ratio, "ratio", ">= 0.7", max(spread(ours), spread(bare))),
        Figure(
            "single durable POST p50", statistics.median(p50), "ms", "", spread(p50), f"fsync p50 {fsync.p50_ms} ms"
        ),
        Figure(
            "single durable POST p99", statistics.median(p99), "ms", "", spread(p99), f"fsync p99 {fsync.p99_ms} ms"
        ),
    ]


def ndjson_post(bench: Bench) -> Sequence[Figure]:
    """NDJSON of 10,000 events of about 100 bytes a request, durable; without and with dedupe by id."""
    found = []
    for name, dedupe, reuse in (("without dedupe", NO_DEDUPE, True), ("dedupe by id", "", False)):
        sql = apps.READINGS.format(dedupe=dedupe)
        with running(bench.folder / f"ndjson-{len(found)}", sql, core=SERVER_CORE) as system:
            rates = []
            for turn in range(bench.rounds):
                job = {"port": system.port, "token": system.token, "stream": "readings", "rows": 10_000}
                job |= {"connections": 4, "seconds": bench.seconds, "run": f"n{turn}", "reuse": reuse}
                rates.append(post_load(job, core=CLIENT_CORE)["requests_per_s"] * 10_000)
        target = ">= 1,000,000" if reuse else ""
        found.append(Figure(f"NDJSON POST, {name}", statistics.median(rates), "events/s", target, spread(rates)))
    return found


def eval_against_polars(bench: Bench) -> Sequence[Figure]:
    """`penstock eval` of a filter and a tumbling window against the same in plain Polars, and its memory."""
    file = bench.folder / "readings.ndjson"
    with file.open("w") as out:
        for n in range(EVAL_ROWS):
            second = n // 50
            clock = f"{second // 3600 % 24:02d}:{second // 60 % 60:02d}:{second % 60:02d}"
            stamp = f"2026-01-{5 + second // 86400:02d}T{clock}"
            out.write(
                f'{{"id":"r{n}","ts":"{stamp}","device":"d{n % 1000}","celsius":{n % 40}.5,"note":"fine weather"}}\n'
            )
    app = bench.folder / "eval.sql"
    app.write_text(
        apps.READINGS.format(dedupe=NO_DEDUPE)
        + """CREATE TABLE hourly WITH ('connector' = 'penstock') AS
SELECT device, window_start AS w_start, COUNT(*) AS n, AVG(celsius) AS mean, MAX(celsius) AS most
FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '1' HOUR)) WHERE celsius >= 10
GROUP BY device, window_start, window_end;"""
    )
    ours, plain, peak = [], [], []
    flags = ("--input", f"readings={file}", "--output", f"hourly={bench.folder / 'ours.ndjson'}", "--stats")
    for _ in range(bench.rounds):
        done = subprocess.run(
            [sys.executable, str(HERE / "peak_memory.py"), str(PROGRAM), "eval", str(app), *flags],
            capture_output=True,
            text=True,
            check=True,
        )
        lines = done.stderr.strip().splitlines()
        ours.append(json.loads(lines[-2])["events_per_s"])
        peak.append(json.loads(lines[-1])["peak_bytes"] / 2**20)
        arguments = [sys.executable, str(HERE / "plain_polars.py"), str(file), str(bench.folder / "plain.ndjson")]
        baseline = json.loads(subprocess.run(arguments, capture_output=True, text=True, check=True).stdout)
        plain.append(baseline["rows"] / baseline["seconds"])
    same = row_count(bench.folder / "ours.ndjson") == row_count(bench.folder / "plain.ndjson")
    ratio = statistics.median(ours) / statistics.median(plain)
    return [
        Figure("eval: filter + tumbling window", statistics.median(ours), "events/s", "", spread(ours)),
        Figure("the same in plain Polars", statistics.median(plain), "events/s", "", spread(plain)),
        Figure("eval / plain Polars", ratio, "ratio", ">= 0.8", None, f"same number of rows: {same}"),
        Figure("eval, peak resident memory at 2 M events", max(peak), "MiB", "<= 400", spread(peak)),
    ]


def fan_out(bench: Bench) -> Sequence[Figure]:
    """One topic to many sockets, per core of the server: batches of 1,000, and one event at a time."""
    with running(bench.folder / "fanout", apps.ECHO, core=SERVER_CORE) as system:
        batched, single = [], []
        for _ in range(bench.rounds):
            batched.append(deliveries(system, batches=60, rows=1_000))
            single.append(deliveries(system, batches=400, rows=1))
    return [
        Figure(f"fan-out to {SOCKETS} sockets, batched, per core", statistics.median(batched), "deliveries/s",
               ">= 1,000,000", spread(batched)),
        Figure(f"fan-out to {SOCKETS} sockets, one at a time", statistics.median(single), "deliveries/s",
               ">= 150,000", spread(single), "posted one after the other: ingest and commit are part of it"),
    ]  # fmt: skip


def post_to_socket(bench: Bench) -> Sequence[Figure]:
    """From the moment a POST is sent to the moment a subscriber reads the event, with 200 subscribers."""
    fsync = measure_fsync(bench.folder)
    p50, p99 = [], []
    with running(bench.folder / "latency", apps.ECHO) as system:
        for _ in range(bench.rounds):
            crowd = Subscribers(system, "pongs", SOCKETS, core=CLIENT_CORE)
            post_pings(system, batches=int(bench.seconds * 100), rows=10, every_s=0.01)
            time.sleep(0.5)
            figures = crowd.finish()
            p50.append(figures["p50_ms"])
            p99.append(figures["p99_ms"])
    limit = 3 * fsync.p99_ms + 15
    note = f"fsync p99 {fsync.p99_ms} ms"
    return [
        Figure(
            "POST -> WebSocket p50, 1,000 events/s, 200 sockets",
            statistics.median(p50),
            "ms",
            "< 5",
            spread(p50),
            note,
        ),
        Figure("POST -> WebSocket p99", statistics.median(p99), "ms", f"< {limit:.1f}", spread(p99), note),
    ]


def start_and_memory(bench: Bench) -> Sequence[Figure]:
    """Time to ready, resident memory when idle, and what an idle subscriber costs."""
    ready, idle, each = [], [], []
    for turn in range(bench.rounds):
        with running(bench.folder / f"start-{turn}", apps.ECHO) as system:
            ready.append(system.ready_s)
            time.sleep(1)
            before = resident_bytes(system.pid)
            idle.append(before / 2**20)
            crowd = Subscribers(system, "pongs", IDLE_SOCKETS, core=None)
            time.sleep(1)
            each.append((resident_bytes(system.pid) - before) / IDLE_SOCKETS / 1024)
            crowd.finish()
    return [
        Figure("penstock up to ready", statistics.median(ready), "s", "< 2", spread(ready)),
        Figure("idle penstock up, resident", statistics.median(idle), "MiB", "<= 180", spread(idle)),
        Figure(f"memory per idle subscriber ({IDLE_SOCKETS})", statistics.median(each), "KiB", "<= 16", spread(each)),
    ]


def whole_system(bench: Bench) -> Sequence[Figure]:
    """HTTP -> log -> rule + window -> store + 100 sockets in one process; server and generators share both cores."""
    with running(bench.folder / "whole", apps.WHOLE.format(dedupe=NO_DEDUPE)) as system:
        settings = system.settings()
        crowd = Subscribers(system, "warm", WHOLE_SOCKETS, core=None)
        lags, memory = [], []
        stop = threading.Event()
        watcher = threading.Thread(target=watch, args=(system, stop, lags, memory))
        watcher.start()
        job = {"port": system.port, "token": system.token, "stream": "readings", "rows": 5_000, "connections": 2}
        job |= {"seconds": bench.whole_minutes * 60, "run": "w", "devices": 1000}
        figures = post_load(job, core=None)
        drained = time.perf_counter()
        while lag_events(system) > 0:
            time.sleep(0.1)
        drained = time.perf_counter() - drained
        stop.set()
        watcher.join()
        delivered = crowd.finish()["events"]
    events = figures["requests"] * 5_000
    rate = events / (figures["seconds"] + drained)
    quarter = max(1, len(memory) // 4)
    growth = statistics.median(memory[-quarter:]) / statistics.median(memory[quarter : 2 * quarter] or memory)
    return [
        Figure("whole system, sustained", rate, "events/s", ">= 150,000", None,
               f"{bench.whole_minutes:g} min, {events:,} events, {delivered:,} deliveries"),
        Figure("whole system, greatest processor lag", max(lags) / max(rate, 1), "s", "< 5", None, settings),
        Figure("whole system, seconds to drain", drained, "s", "< 5"),
        Figure("whole system, memory last quarter / second quarter", growth, "ratio", "about 1",
               None, f"{max(memory):.0f} MiB at most"),
    ]  # fmt: skip


def spread(values: Sequence[float]) -> float:
    """(greatest - least) / median: how far the same measurement is from itself."""
    return (max(values) - min(values)) / statistics.median(values)


def slope(seconds: list[float]) -> float:
    """Seconds that the larger files took longer than the smaller."""
    shorter, longer = seconds
    if longer <= shorter:
        raise SystemExit(f"the larger files took {longer:.2f} s, the smaller {shorter:.2f} s: take larger ones")
    return longer - shorter


def deliveries(system: System, *, batches: int, rows: int) -> float:
    """Deliveries a second from the first POST to the last frame read."""
    crowd = Subscribers(system, "pongs", SOCKETS, core=CLIENT_CORE)
    started = time.perf_counter()
    post_pings(system, batches=batches, rows=rows, every_s=0.0)
    time.sleep(1.0)
    figures = crowd.finish()
    expected = batches * rows
    if figures["least"] < expected:
        raise RuntimeError(f"a subscriber got {figures['least']} of {expected} events")
    return figures["events"] / (figures["last_at"] - started)


def post_pings(system: System, *, batches: int, rows: int, every_s: float) -> None:
    """Post batches one after the other on one connection; each event carries when it was sent."""
    connection = http.client.HTTPConnection("127.0.0.1", system.port)
    headers = {"Authorization": f"Bearer {system.token}", "Content-Type": "application/x-ndjson"}
    next_at = time.perf_counter()
    for batch in range(batches):
        sent_ns = time.perf_counter_ns()
        body = "\n".join(f'{{"n":{batch * rows + n},"sent_ns":{sent_ns},"note":"{"x" * 24}"}}' for n in range(rows))
        connection.request("POST", "/v1/streams/pings/events", body, headers)
        reply = connection.getresponse()
        answer = reply.read()
        if reply.status != 200:
            raise RuntimeError(f"{reply.status} {answer[:200]!r}")
        next_at += every_s
        time.sleep(max(0.0, next_at - time.perf_counter()))
    connection.close()


def lag_events(system: System) -> int:
    """Events appended and not yet processed."""
    sources = system.get("/v1/apps/bench/statistics")["sources"]
    return sum(int(source["lag_events"] or 0) for source in sources.values())


def watch(system: System, stop: threading.Event, lags: list[int], memory: list[float]) -> None:
    """Sample lag and memory twice a second."""
    while not stop.wait(0.5):
        lags.append(lag_events(system))
        memory.append(resident_bytes(system.pid) / 2**20)


def row_count(path: Path) -> int:
    """Number of result rows of a run."""
    return len(path.read_text().splitlines())
