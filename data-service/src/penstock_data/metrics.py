"""Metrics of the role data."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

__all__ = ["AHEAD", "APPLIED_ROWS", "APPLY_SECONDS", "ARCHIVED_BYTES", "ARCHIVED_EVENTS", "ARCHIVED_FILES",
           "ARCHIVE_ERRORS", "ARCHIVE_EXPIRED_FILES", "ARCHIVE_LAG_EVENTS", "ARCHIVE_LAG_SECONDS",
           "ARCHIVE_LEFTOVERS", "ARCHIVE_SKIPPED_EVENTS", "ARCHIVE_WRITE_SECONDS", "KEYLESS_ROWS",
           "LAG_EVENTS", "LAG_SECONDS", "QUERY_SECONDS", "REFUSED_QUERIES", "RETRIES", "SKIPPED_EVENTS",
           "SQL_LEFT", "SQL_REFUSED", "SQL_ROWS", "SQL_TRUNCATED"]  # fmt: skip

APPLIED_ROWS = Counter("penstock_store_applied_rows_total", "Changes applied to the store.", ["relation"])
AHEAD = Gauge(
    "penstock_store_ahead",
    "1 while the store holds more than the log, which was restored from an older backup: run `penstock rebuild`.",
)
SKIPPED_EVENTS = Counter(
    "penstock_store_skipped_events_total", "Events that the log had deleted before they were applied.", ["relation"]
)
KEYLESS_ROWS = Counter(
    "penstock_store_keyless_rows_total", "Rows left out of a table since a column of their key is NULL.", ["relation"]
)
LAG_EVENTS = Gauge("penstock_store_lag_events", "Events in the log that the store does not hold yet.", ["relation"])
LAG_SECONDS = Gauge(
    "penstock_store_lag_seconds",
    "Since when the oldest of them waits, as far as this process has seen it.",
    ["relation"],
)
APPLY_SECONDS = Histogram(
    "penstock_store_apply_seconds",
    "Time of one transaction of the applier, decoding included.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
RETRIES = Counter("penstock_store_retries_total", "Rounds of the applier that failed and were tried again.", ["code"])
QUERY_SECONDS = Histogram(
    "penstock_data_query_seconds",
    "Time of one request to the data service, waiting included.",
    ["route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
SQL_REFUSED = Counter(
    "penstock_data_sql_refused_total",
    "SQL queries that were refused before they ran, by their first finding.",
    ["code"],
)
SQL_ROWS = Counter("penstock_data_sql_rows_total", "Rows that SQL queries found.")
SQL_TRUNCATED = Counter("penstock_data_sql_truncated_total", "Replies to SQL queries that left rows out.")
SQL_LEFT = Counter("penstock_data_sql_left_total", "SQL queries that were stopped because their caller had gone.")
REFUSED_QUERIES = Counter("penstock_data_refused_queries_total", "Requests refused because too many were waiting.")
ARCHIVED_EVENTS = Counter("penstock_archive_events_total", "Raw events written to files of the archive.", ["stream"])
ARCHIVED_BYTES = Counter("penstock_archive_bytes_total", "Bytes of files of the archive written.", ["stream"])
ARCHIVE_EXPIRED_FILES = Counter(
    "penstock_archive_expired_files_total", "Files that have left the archive by its retention."
)
ARCHIVED_FILES = Counter("penstock_archive_files_total", "Files of the archive written.", ["stream"])
ARCHIVE_LAG_EVENTS = Gauge(
    "penstock_archive_lag_events", "Events in the log that are not archived yet.", ["stream", "partition"]
)
ARCHIVE_LAG_SECONDS = Gauge(
    "penstock_archive_lag_seconds", "Age of the oldest event that is not archived yet.", ["stream", "partition"]
)
ARCHIVE_SKIPPED_EVENTS = Counter(
    "penstock_archive_skipped_events_total", "Events that the log had deleted before they were archived.", ["stream"]
)
ARCHIVE_ERRORS = Counter("penstock_archive_errors_total", "Attempts to archive that failed.", ["code"])
ARCHIVE_LEFTOVERS = Gauge(
    "penstock_archive_leftover_files", "Files in the archive's folder that its catalogue does not name."
)
ARCHIVE_WRITE_SECONDS = Histogram(
    "penstock_archive_write_seconds",
    "Time from reading the first event of a file until it was in the catalogue.",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
