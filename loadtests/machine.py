"""The machine under the figures: cores, the price of a sync, memory of a process, pinning."""

from __future__ import annotations

import os
import platform
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Fsync", "describe_machine", "measure_fsync", "pinned", "resident_bytes"]


@dataclass(frozen=True, slots=True)
class Fsync:
    """Milliseconds for one 4 KiB append and fdatasync."""

    p50_ms: float
    p99_ms: float


def measure_fsync(folder: Path, writes: int = 400) -> Fsync:
    """Measured in the folder that the system under test writes to."""
    times = []
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        for _ in range(writes):
            started = time.perf_counter()
            os.write(file.fileno(), b"x" * 4096)
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - started) * 1000)
    cuts = statistics.quantiles(times, n=100)
    return Fsync(round(cuts[49], 3), round(cuts[98], 3))


def resident_bytes(pid: int) -> int:
    """Resident memory of a process, without its children."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(pid)


def pinned(core: int | None) -> list[str]:
    """Prefix of a command that keeps it on one core (None: wherever)."""
    return [] if core is None else ["taskset", "-c", str(core)]


def describe_machine() -> dict[str, object]:
    """What a reader needs to compare figures."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    return {"cores": os.cpu_count(), "cpu": model, "kernel": platform.release(), "python": platform.python_version()}
