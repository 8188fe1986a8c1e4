"""Metrics of the processor."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

__all__ = ["APP_RESTARTS", "CYCLE_ROWS", "CYCLE_SECONDS", "DELIVERED_ROWS", "DELIVERY_LAG_EVENTS", "DELIVERY_LOST",
           "DELIVERY_REJECTED_ROWS", "DELIVERY_RETRIES", "DELIVERY_SECONDS", "LAG_EVENTS", "LAG_SECONDS",
           "LOOKUP_KEYS", "LOOKUP_SECONDS", "MEMBERS", "ROWS_IN", "ROWS_OUT", "ROWS_REJECTED", "STATE_ROWS",
           "TASKS", "WATERMARK_DELAY_SECONDS"]  # fmt: skip

_ROWS = (1, 10, 100, 1_000, 10_000, 100_000)

CYCLE_SECONDS = Histogram("penstock_processor_cycle_seconds", "Decoding and operators of one cycle.", ["app"])
CYCLE_ROWS = Histogram("penstock_processor_cycle_rows", "Source rows of one cycle.", ["app"], buckets=_ROWS)
ROWS_IN = Counter("penstock_processor_rows_in_total", "Source rows in committed cycles.", ["app", "stream"])
ROWS_OUT = Counter("penstock_processor_rows_out_total", "Rows written by committed cycles.", ["app", "statement"])
ROWS_REJECTED = Counter("penstock_processor_rows_rejected_total", "Rejected rows.", ["app", "code"])
STATE_ROWS = Gauge("penstock_processor_state_rows", "Rows of state of one operator.", ["app", "operator"])
APP_RESTARTS = Counter("penstock_processor_app_restarts_total", "Restores after a failure.", ["app", "code"])
LAG_EVENTS = Gauge(
    "penstock_processor_lag_events", "Events of a source whose effects are not committed yet.", ["app", "stream"]
)
LAG_SECONDS = Gauge(
    "penstock_processor_lag_seconds",
    "Since when the oldest of them waits, as far as this process has seen it.",
    ["app", "stream"],
)
WATERMARK_DELAY_SECONDS = Gauge(
    "penstock_processor_watermark_delay_seconds",
    "How far the watermark of a stream of the app is behind the clock: late or quiet sources make it grow.",
    ["app", "stream"],
)
MEMBERS = Gauge("penstock_processor_members", "Replicas of the processor that are alive, as this one knows them.")
TASKS = Gauge("penstock_processor_tasks", "Tasks of apps that run in this process.")

LOOKUP_KEYS = Counter(
    "penstock_processor_lookup_keys_total",
    "Keys of lookup joins, by where their rows came from: cached, asked, failed.",
    ["app", "table", "outcome"],
)
LOOKUP_SECONDS = Histogram("penstock_processor_lookup_seconds", "One lookup of a batch of keys.", ["app", "table"])

_DELIVERY = ["app", "stream", "connector"]
DELIVERED_ROWS = Counter(
    "penstock_processor_delivered_rows_total", "Rows that systems of others have taken.", _DELIVERY
)
DELIVERY_RETRIES = Counter("penstock_processor_delivery_retries_total", "Deliveries that are tried again.", _DELIVERY)
DELIVERY_REJECTED_ROWS = Counter(
    "penstock_processor_delivery_rejected_rows_total",
    "Rows that systems of others refused, or did not take in time; they are rejected events.",
    [*_DELIVERY, "code"],
)
DELIVERY_LOST = Counter(
    "penstock_processor_delivery_lost_events_total",
    "Events that the log let go of before they were delivered.",
    _DELIVERY,
)
DELIVERY_LAG_EVENTS = Gauge(
    "penstock_processor_delivery_lag_events", "Rows of a stream that wait to be delivered.", [*_DELIVERY, "partition"]
)
DELIVERY_SECONDS = Histogram("penstock_processor_delivery_seconds", "One delivery of a batch.", _DELIVERY)
