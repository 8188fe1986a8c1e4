"""Metrics of the publish gateway (Prometheus)."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

__all__ = [
    "CLOSED_CONNECTIONS",
    "CONNECTIONS",
    "EVENTS_DELIVERED",
    "EVENTS_FANNED_OUT",
    "PAGES",
    "REVOKED_TOKENS",
    "RING_BYTES",
    "TOKENS_ISSUED",
]

TOKENS_ISSUED = Counter("penstock_oauth_tokens_total", "Replies of the token endpoint.", ["status"])
REVOKED_TOKENS = Counter("penstock_oauth_revoked_tokens_total", "Tokens revoked by this process.")
CONNECTIONS = Gauge("penstock_publish_connections", "Open connections.", ["encoding"])
CLOSED_CONNECTIONS = Counter("penstock_publish_closed_connections_total", "Connections that we closed.", ["code"])
EVENTS_FANNED_OUT = Counter("penstock_publish_events_total", "Events taken from the log for live subscribers.")
EVENTS_DELIVERED = Counter("penstock_publish_deliveries_total", "Events written to subscribers.")
RING_BYTES = Gauge("penstock_publish_ring_bytes", "Bytes held in rings.", ["topic"])
PAGES = Counter("penstock_publish_pages_total", "History pages served.")
