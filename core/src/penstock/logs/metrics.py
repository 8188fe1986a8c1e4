"""Metrics of the log adapters."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

__all__ = ["APPENDED_BYTES", "APPENDED_EVENTS", "AVAILABLE", "COMMIT_SECONDS", "FAILED", "GROUP_REQUESTS",
           "LOST_TO_RETENTION", "SIZE_BYTES", "TRIMMED_EVENTS"]  # fmt: skip

COMMIT_SECONDS = Histogram(
    "penstock_log_commit_seconds",
    "From the begin to the end of a transaction of the log, fsync included",
    ["file"],
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
GROUP_REQUESTS = Histogram(
    "penstock_log_group_requests",
    "Writes that shared one transaction of the log",
    ["file"],
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
)
APPENDED_EVENTS = Counter("penstock_log_appended_events", "Events appended to the log", ["file"])
APPENDED_BYTES = Counter("penstock_log_appended_bytes", "Payload appended to the log", ["file"])
TRIMMED_EVENTS = Counter("penstock_log_trimmed_events_total", "Events deleted from the log by retention.")
SIZE_BYTES = Gauge(
    "penstock_log_size_bytes",
    "Size of a file of the log at its last checkpoint, or of the batches in the database at the last trimming.",
    ["file"],
)
AVAILABLE = Gauge(
    "penstock_log_available", "1 while the log answers this process and has room for what it writes, else 0."
)
FAILED = Gauge("penstock_log_failed", "1 after an I/O error, when the log has stopped acknowledging", ["file"])
LOST_TO_RETENTION = Counter(
    "penstock_log_expired_offsets_total",
    "Offsets that a reader wanted and that the log had let expire: at most so many events were lost to it.",
    ["stream"],
)
NEAR_EXPIRY = Gauge(
    "penstock_log_near_expiry",
    "1 while a task has unread events older than half their retention, in a log that deletes them without asking.",
    ["task", "stream"],
)
