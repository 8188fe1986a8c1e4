"""Metrics of worker processes that share a port: whichever is asked answers for all of them.

Each keeps its numbers in files of one folder (the multi-process mode of prometheus-client); counters and histograms
are added up, gauges have the label `pid`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from prometheus_client import CollectorRegistry, Metric, generate_latest
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
    registry.register(_Workers(Path(os.environ[METRICS_FOLDER])))
    return generate_latest(registry)


def forget_process(folder: Path, pid: int) -> None:
    """Drop the gauges of a process that has ended; what it counted stays. Blocking."""
    for file in folder.glob(f"gauge_*_{pid}.db"):
        file.unlink(missing_ok=True)


class _Workers(MultiProcessCollector):
    """The library's collector, which fails on files that are just being made, or deleted while it reads."""

    def __init__(self, folder: Path) -> None:
        super().__init__(None, str(folder))  # type: ignore[no-untyped-call]  # the library has no types there
        self._folder = folder

    def collect(self) -> Iterable[Metric]:
        files = [str(file) for file in self._folder.glob("*.db") if _has_numbers(file)]
        while True:
            try:
                merged: Iterable[Metric] = self.merge(files)  # type: ignore[no-untyped-call]  # as above
            except FileNotFoundError as gone:
                files.remove(gone.filename)  # each turn has one file less
            else:
                return merged


def _has_numbers(file: Path) -> bool:
    """False for one that is gone, or that a process has made and not yet given its size."""
    try:
        return file.lstat().st_size > 0
    except FileNotFoundError:
        return False
