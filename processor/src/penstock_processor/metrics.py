"""Metrics of the processor."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

__all__ = ["APP_RESTARTS", "CYCLE_ROWS", "CYCLE_SECONDS", "MEMBERS", "ROWS_IN", "ROWS_OUT", "ROWS_REJECTED",
           "STATE_ROWS", "TASKS"]  # fmt: skip

_ROWS = (1, 10, 100, 1_000, 10_000, 100_000)

CYCLE_SECONDS = Histogram("penstock_processor_cycle_seconds", "Decoding and operators of one cycle.", ["app"])
CYCLE_ROWS = Histogram("penstock_processor_cycle_rows", "Source rows of one cycle.", ["app"], buckets=_ROWS)
ROWS_IN = Counter("penstock_processor_rows_in_total", "Source rows in committed cycles.", ["app", "stream"])
ROWS_OUT = Counter("penstock_processor_rows_out_total", "Rows written by committed cycles.", ["app", "statement"])
ROWS_REJECTED = Counter("penstock_processor_rows_rejected_total", "Rejected rows.", ["app", "code"])
STATE_ROWS = Gauge("penstock_processor_state_rows", "Rows of state of one operator.", ["app", "operator"])
APP_RESTARTS = Counter("penstock_processor_app_restarts_total", "Restores after a failure.", ["app", "code"])
MEMBERS = Gauge("penstock_processor_members", "Replicas of the processor that are alive, as this one knows them.")
TASKS = Gauge("penstock_processor_tasks", "Tasks of apps that run in this process.")
