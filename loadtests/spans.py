"""What happened between two moments: CPU seconds of processes and their threads, metrics, samples."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtests.arrangements import Arrangement
from loadtests.machine import resident_bytes

__all__ = ["Moment", "between", "memory_mib", "taken"]

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")

#: Time spent, by the clock of the wall, in what the processes measure themselves: metric (without labels) -> meaning.
_WAITS = {
    "penstock_processor_cycle_seconds": "decode and operators",
    "penstock_log_commit_seconds": "transactions of the log",
    "penstock_store_apply_seconds": "apply to the store",
    "penstock_ingest_append_seconds": "appends as ingest sees them",
}


@dataclass(frozen=True, slots=True)
class Moment:
    """Counters of all processes at a time of `time.perf_counter`."""

    at_s: float
    cpu_s: Mapping[str, float]
    threads_s: Mapping[str, Mapping[str, float]]
    metrics: Mapping[str, Mapping[str, float]]
    samples: Mapping[str, Mapping[str, float]]


def taken(arrangement: Arrangement) -> Moment:
    """The counters now."""
    pids = arrangement.pids()
    return Moment(
        time.perf_counter(),
        {name: _tree_cpu_s(pid) for name, pid in pids.items()},
        {name: _threads_cpu_s(pid) for name, pid in pids.items()},
        arrangement.metrics(),
        arrangement.samples(),
    )


def between(before: Moment, after: Moment) -> dict[str, Any]:
    """JSON: per process CPU seconds, its cores, kinds of threads, waits and (with samplers) parts."""
    seconds = after.at_s - before.at_s
    found: dict[str, Any] = {"seconds": round(seconds, 3), "processes": {}}
    for name, cpu_s in after.cpu_s.items():
        used = cpu_s - before.cpu_s.get(name, 0.0)
        found["processes"][name] = {
            "cpu_s": round(used, 2),
            "cores": round(used / seconds, 2),
            "threads_s": _less(after.threads_s[name], before.threads_s.get(name, {})),
            "waits_s": _waits(after.metrics.get(name, {}), before.metrics.get(name, {})),
            "parts_s": _less(after.samples.get(name, {}), before.samples.get(name, {})),
        }
    return found


def memory_mib(arrangement: Arrangement) -> dict[str, float]:
    """Resident memory of each process with its children, as it is now (pages that they share count for each)."""
    found = {}
    for name, pid in arrangement.pids().items():
        with contextlib.suppress(OSError):
            found[name] = sum(_resident(one) for one in [pid, *_descendants(pid)]) / 2**20
    return found


def _waits(after: Mapping[str, float], before: Mapping[str, float]) -> dict[str, float]:
    """Summed over labels, by the wall's clock."""
    found: dict[str, float] = {}
    for sample, value in after.items():
        metric, _, _ = sample.partition("{")
        meaning = _WAITS.get(metric.removesuffix("_sum")) if metric.endswith("_sum") else None
        if meaning is not None:
            found[meaning] = found.get(meaning, 0.0) + value - before.get(sample, 0.0)
    return {meaning: round(value, 2) for meaning, value in found.items()}


def _less(after: Mapping[str, float], before: Mapping[str, float]) -> dict[str, float]:
    differences = {name: value - before.get(name, 0.0) for name, value in after.items()}
    ordered = sorted(differences.items(), key=lambda entry: -entry[1])
    return {name: round(value, 2) for name, value in ordered if value >= 0.005}


def _tree_cpu_s(pid: int) -> float:
    """User and system time of a process, of its children that live, and of those that it has waited for."""
    total = 0.0
    for one in [pid, *_descendants(pid)]:
        with contextlib.suppress(OSError):
            fields = _stat(Path(f"/proc/{one}/stat"))
            total += sum(map(int, fields[11:15])) * _TICK_S
    return total


def _threads_cpu_s(pid: int) -> dict[str, float]:
    found: dict[str, float] = {}
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                fields = _stat(task / "stat")
                name = (task / "comm").read_text().strip()
                kind = "librdkafka" if name.startswith("rdk:") else "main" if task.name == str(pid) else "others"
                found[kind] = found.get(kind, 0.0) + sum(map(int, fields[11:13])) * _TICK_S
    return found


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += [int(child), *_descendants(int(child))]
    return found


def _resident(pid: int) -> int:
    try:
        return resident_bytes(pid)
    except (OSError, ProcessLookupError):
        return 0


def _stat(path: Path) -> list[str]:
    # "pid (name) state parent ...", where the name may hold blanks: utime, stime, cutime, cstime are fields 11 to 14.
    return path.read_text().rpartition(")")[2].split()
