"""More sockets than one process may open: workers on one port, over PostgreSQL."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from loadtests import apps
from loadtests.arrangements import PenstockServices, PostgresServer, missing
from loadtests.fanout_rig import CrowdProcess, FanoutBench, Producer
from loadtests.machine import resident_bytes
from loadtests.sections import Figure

__all__ = ["workers"]

SOCKETS, WORKERS = 50_000, 3
SETTLE_S = 2.0
ARRIVAL_S = 60.0
OPEN = re.compile(r'^penstock_publish_connections\{encoding="ws",pid="(\d+)"\} (\d+)', re.MULTILINE)


def workers(bench: FanoutBench) -> Sequence[Figure]:
    """50,000 idle subscribers at three workers, as many crowds; then one event to each of them."""
    sockets = bench.sockets or SOCKETS
    if remedy := missing("postgres"):
        return [Figure(f"{sockets:,} idle at {WORKERS} workers", 0, "sockets", "", None, f"not measured: {remedy}")]
    app = bench.folder / "echo.sql"
    app.write_text(apps.ECHO)
    with ExitStack() as stack:
        url = stack.enter_context(PostgresServer()).database("fanout")
        system = PenstockServices(
            bench.folder / "workers",
            app,
            log=url,
            store=url,
            together=[("ingest", "processor", "data")],
            env_of={"publish": {"PENSTOCK_PUBLISH__WORKERS": str(WORKERS)}},
        )
        stack.callback(system.stop)
        system.start()
        door = _Door(system)
        pids = _workers_of(system.of("publish").pid)
        if len(pids) != WORKERS:
            raise RuntimeError(f"{len(pids)} of {WORKERS} workers run")
        before = sum(map(resident_bytes, pids))
        began = time.perf_counter()
        crowds = [
            CrowdProcess.of(door, "pongs", sockets // WORKERS, core=None, first_source=number * 10)
            for number in range(WORKERS)
        ]
        rate = sockets / (time.perf_counter() - began)
        time.sleep(SETTLE_S)
        held = _open(system)
        each = (sum(map(resident_bytes, pids)) - before) / sum(held.values()) / 1024
        for crowd in crowds:
            crowd.report()
        sent_at = time.perf_counter()
        Producer(door).post(1)
        last_s, missed = _until_all_have_one(crowds, sent_at)
        for crowd in crowds:
            crowd.close()
    what = f"{sum(held.values()):,} idle at {WORKERS} workers"
    note = f"sockets by worker: {', '.join(f'{count:,}' for count in held.values())}"
    return [
        Figure(f"{what}: memory of each", each, "KiB", "<= 16", None, note),
        Figure(f"{what}: connects, one crowd after the other", rate, "connects/s", "", None),
        Figure(f"{what}: one event, until the last has it", last_s, "s", "", None, f"{missed} did not get it"),
    ]


class _Door:
    """What the crowd and the producer need of the services."""

    def __init__(self, system: PenstockServices) -> None:
        self.port: int = system.port
        self.token: str = system.token()


def _workers_of(pid: int) -> list[int]:
    """Process ids of the workers: the children that serve the port."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _open(system: PenstockServices) -> dict[int, int]:
    """Open plain WebSockets by worker process."""
    page = system.of("publish").call("GET", "/metrics", authorize=False).body.decode()
    return {int(pid): int(count) for pid, count in OPEN.findall(page)}


def _until_all_have_one(crowds: Sequence[CrowdProcess], sent_at: float) -> tuple[float, int]:
    """(seconds until the last one had it, how many did not get it in time)."""
    events, last_at = 0, sent_at
    wanted = sum(crowd.sockets for crowd in crowds)
    while events < wanted and time.perf_counter() - sent_at < ARRIVAL_S:
        time.sleep(SETTLE_S)
        for crowd in crowds:
            found = crowd.report()
            events += found["events"]
            last_at = max(last_at, found["last_at"])
    return last_at - sent_at, wanted - events
