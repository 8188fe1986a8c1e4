"""Metrics of worker processes that share a port: whichever is asked answers for all of them.

Each keeps its numbers in files of one folder (the multi-process mode of prometheus-client); counters and histograms
are added up, gauges have the label `pid`.
"""

from __future__ import annotations

import os
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

__all__ = ["METRICS_FOLDER", "forget_process", "is_worker", "metrics_page"]

#: The variable that names the folder; it must be set before the first metric is made.
METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"


def is_worker() -> bool:
    """True where the metrics of this process are one part of several."""
    return METRICS_FOLDER in os.environ


def metrics_page() -> bytes:
    """The page of this process, or of all workers."""
    if not is_worker():
        return generate_latest()
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # the library has no types there
    return generate_latest(registry)


def forget_process(folder: Path, pid: int) -> None:
    """Drop the gauges of a process that has ended; what it counted stays. Blocking."""
    for file in folder.glob(f"gauge_*_{pid}.db"):
        file.unlink(missing_ok=True)
