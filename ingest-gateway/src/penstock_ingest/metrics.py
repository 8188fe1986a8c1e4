"""Metrics of the ingest gateway."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

__all__ = ["APPEND_EVENTS", "APPEND_SECONDS", "BODY_BYTES", "DEDUPE_IDS", "DEDUPE_WINDOW_SECONDS", "EVENTS",
           "FEED_EVENTS", "FEED_RETRIES",
           "INLET_LAG_EVENTS", "INLET_LAG_SECONDS", "INLET_RECORDS",
           "IN_FLIGHT_BYTES", "IS_ADMITTER", "OUTRUN_APPENDS", "REFUSED_REQUESTS", "REJECTED_EVENTS",
           "SOCKETS", "SOCKETS_CLOSED", "SOCKET_BATCHES", "SOCKET_BYTES",
           "UNKNOWN_FIELD_REQUESTS"]  # fmt: skip

EVENTS = Counter("penstock_ingest_events_total", "Events by outcome.", ["stream", "outcome"])
REJECTED_EVENTS = Counter(
    "penstock_ingest_rejected_events_total", "Events rejected at admission, by code.", ["stream", "code"]
)
BODY_BYTES = Counter("penstock_ingest_body_bytes_total", "Bytes of bodies of admitted requests.", ["stream"])
REFUSED_REQUESTS = Counter(
    "penstock_ingest_refused_requests_total", "Requests refused as a whole, by code.", ["code"]
)
UNKNOWN_FIELD_REQUESTS = Counter(
    "penstock_ingest_unknown_field_requests_total",
    "Requests with at least one field that is no column of the stream and was ignored.",
    ["stream"],
)
IN_FLIGHT_BYTES = Gauge("penstock_ingest_in_flight_bytes", "Bytes of bodies being read or appended.")
SOCKETS = Gauge("penstock_ingest_sockets", "Open WebSockets into streams.")
SOCKETS_CLOSED = Counter(
    "penstock_ingest_sockets_closed_total", "WebSockets that ended, by our close code, or `client`.", ["code"]
)
SOCKET_BATCHES = Counter(
    "penstock_ingest_socket_batches_total", "Messages of WebSockets that were replied to, by outcome.",
    ["stream", "outcome"],
)  # fmt: skip
SOCKET_BYTES = Counter("penstock_ingest_socket_bytes_total", "Bytes of batches that came by WebSocket.", ["stream"])
APPEND_SECONDS = Histogram(
    "penstock_ingest_append_seconds",
    "Time of one durable append, as ingest sees it.",
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
APPEND_EVENTS = Histogram(
    "penstock_ingest_append_events",
    "Accepted events of one append.",
    buckets=(1, 10, 100, 1_000, 10_000, 100_000),
)
OUTRUN_APPENDS = Counter(
    "penstock_ingest_outrun_appends_total",
    "Appends refused because another gateway had just appended one of their ids; they are tried again.",
    ["stream"],
)
DEDUPE_IDS = Gauge("penstock_ingest_dedupe_ids", "Dedupe keys in memory.", ["stream"])
DEDUPE_WINDOW_SECONDS = Gauge(
    "penstock_ingest_dedupe_window_seconds",
    "How far back a repetition is recognised; less than the setting once dedupe.max_ids was reached.",
    ["stream"],
)
INLET_RECORDS = Counter(
    "penstock_ingest_inlet_records_total", "Records taken from the inlet and dealt with, by outcome.",
    ["stream", "outcome"],
)  # fmt: skip
INLET_LAG_EVENTS = Gauge(
    "penstock_ingest_inlet_lag_events", "Offsets of the inlet that wait for admission; at the admitter.", ["stream"]
)
INLET_LAG_SECONDS = Gauge(
    "penstock_ingest_inlet_lag_seconds",
    "Age of the newest record admitted while others wait, else 0; at the admitter.",
    ["stream"],
)
IS_ADMITTER = Gauge("penstock_ingest_is_admitter", "1 where this gateway takes the inlet and appends.")
FEED_EVENTS = Counter(
    "penstock_ingest_feed_events_total", "Events fetched from others, by outcome.", ["stream", "connector", "outcome"]
)
FEED_RETRIES = Counter(
    "penstock_ingest_feed_retries_total",
    "Times that a place of others had to be asked again.",
    ["stream", "connector"],
)
