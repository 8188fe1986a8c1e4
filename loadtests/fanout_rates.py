"""Deliveries a second on one core: batched and one at a time, beside plain `websockets` in the same run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from loadtests import apps
from loadtests.fanout_rig import SERVER_CORE, Broadcast, CrowdProcess, FanoutBench, Producer, broadcasting
from loadtests.sections import Figure, spread
from loadtests.system import System, running

__all__ = ["batched", "one_at_a_time"]

SOCKETS = 1_000
LOOK_S = 0.5
LONGEST_S = 120.0
#: The baseline sends one frame an event to each socket: more of them take minutes and say the same.
PLAIN_EVENTS = 1_000


def batched(bench: FanoutBench) -> Sequence[Figure]:
    """1,000 events a POST; the baseline broadcasts as many between two turns of its event loop."""
    return _rates(bench, "batched", batches=20, rows=1_000, senders=1, target=">= 1,000,000")


def one_at_a_time(bench: FanoutBench) -> Sequence[Figure]:
    """One event a POST, the next after its reply, from one sender and from eight; the baseline turns its event loop
    after each event. With one sender nothing can be sent together: each delivery is a write of its own.
    """
    one = _rates(bench, "one at a time", batches=400, rows=1, senders=1, target="")
    eight = _rates(bench, "one at a time, eight senders", batches=1_600, rows=1, senders=8, target=">= 150,000")
    return [*one, *eight]


def _rates(bench: FanoutBench, name: str, *, batches: int, rows: int, senders: int, target: str) -> Sequence[Figure]:
    sockets, note = bench.crowd_of(SOCKETS)
    ours: list[float] = []
    plain: list[float] = []
    with (
        running(bench.folder / f"rates-{rows}-{senders}", apps.ECHO, core=SERVER_CORE) as system,
        broadcasting(core=SERVER_CORE) as baseline,
    ):
        for _ in range(bench.rounds):
            rate, size_bytes = _of_penstock(system, sockets, batches=batches, rows=rows, senders=senders)
            ours.append(rate)
            count = min(batches * rows, PLAIN_EVENTS)
            plain.append(_of_baseline(baseline, sockets, count=count, size_bytes=size_bytes, batch=rows))
    ratio = statistics.median(ours) / statistics.median(plain)
    what = f"{sockets:,} sockets, {name}, per core"
    note = "; ".join(filter(None, (f"{size_bytes} bytes an event", note)))
    return [
        Figure(what, statistics.median(ours), "deliveries/s", target, spread(ours), note),
        Figure(f"websockets' broadcast, {what}", statistics.median(plain), "deliveries/s", "", spread(plain)),
        Figure(f"Penstock / websockets, {name}", ratio, "ratio", "", max(spread(ours), spread(plain))),
    ]


def _of_penstock(system: System, sockets: int, *, batches: int, rows: int, senders: int) -> tuple[float, int]:
    """(deliveries a second from the first POST to the last byte read, bytes of an event)."""
    crowd = CrowdProcess.of(system, "pongs", sockets)
    crowd.report()

    def send(producer: Producer) -> None:
        for _ in range(batches // senders):
            producer.post(rows)

    began = time.perf_counter()
    with ThreadPoolExecutor(senders) as pool:
        list(pool.map(send, [Producer(system) for _ in range(senders)]))
    rate, size_bytes = _until_all_are_there(crowd, began, expected=batches // senders * senders * rows)
    crowd.close()
    return rate, size_bytes


def _of_baseline(baseline: Broadcast, sockets: int, *, count: int, size_bytes: int, batch: int) -> float:
    crowd = CrowdProcess(baseline.port, sockets, path="/")
    crowd.report()
    began = baseline.send(count, size_bytes, batch=batch)
    rate, _ = _until_all_are_there(crowd, began, expected=count)
    crowd.close()
    return rate


def _until_all_are_there(crowd: CrowdProcess, began: float, *, expected: int) -> tuple[float, int]:
    events = size_bytes = 0
    last_at = began
    while events < expected * crowd.sockets:
        if time.perf_counter() - began > LONGEST_S:
            raise RuntimeError(f"{events:,} of {expected * crowd.sockets:,} deliveries in {LONGEST_S:g} s")
        time.sleep(LOOK_S)
        found = crowd.report()
        events += found["events"]
        size_bytes += found["bytes"]
        last_at = max(last_at, found["last_at"])
    return events / (last_at - began), round(size_bytes / events)
