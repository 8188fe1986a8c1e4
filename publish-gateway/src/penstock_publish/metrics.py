"""Metrics of the publish gateway (Prometheus)."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

__all__ = [
    "CLOSED_CONNECTIONS",
    "CONNECTIONS",
    "DOOR_REQUESTS",
    "DOOR_SECONDS",
    "DOOR_SERVICE_UP",
    "DOOR_TUNNELS",
    "DURABLE_ACKS",
    "DURABLE_EXPIRED",
    "DURABLE_HELD",
    "EMAILS",
    "EMAILS_ACTIVE",
    "EVENTS_DELIVERED",
    "EVENTS_FANNED_OUT",
    "LOGINS",
    "OUTBOUND_EVENTS",
    "OUTBOUND_PAUSED",
    "OUTBOUND_RETRYING",
    "PAGES",
    "QUOTA_BYTES",
    "QUOTA_CLOSED",
    "QUOTA_CONNECTIONS",
    "QUOTA_MESSAGES",
    "QUOTA_PAUSES",
    "QUOTA_QUERIES",
    "QUOTA_REFUSED",
    "REVOKED_TOKENS",
    "RING_BYTES",
    "TOKENS_ISSUED",
    "UPSTREAM_REQUESTS",
    "UPSTREAM_SECONDS",
    "UPSTREAM_SOCKETS",
    "WEBHOOKS_ACTIVE",
    "WEBHOOK_REQUESTS",
]

TOKENS_ISSUED = Counter("penstock_oauth_tokens_total", "Replies of the token endpoint.", ["status"])
LOGINS = Counter("penstock_oauth_logins_total", "Logins with an account: done, failed or refused.", ["outcome"])
REVOKED_TOKENS = Counter("penstock_oauth_revoked_tokens_total", "Tokens revoked by this process.")
CONNECTIONS = Gauge("penstock_publish_connections", "Open connections.", ["encoding"])
CLOSED_CONNECTIONS = Counter("penstock_publish_closed_connections_total", "Connections that we closed.", ["code"])
EVENTS_FANNED_OUT = Counter("penstock_publish_events_total", "Events taken from the log for live subscribers.")
EVENTS_DELIVERED = Counter("penstock_publish_deliveries_total", "Events written to subscribers.")
RING_BYTES = Gauge("penstock_publish_ring_bytes", "Bytes held in rings.", ["topic"])
PAGES = Counter("penstock_publish_pages_total", "History pages served.")
DOOR_REQUESTS = Counter(
    "penstock_door_requests_total", "Requests forwarded to a service in another process.", ["service", "status"]
)
DOOR_SECONDS = Histogram(
    "penstock_door_seconds",
    "Time from a request at the door to the end of the service's reply.",
    ["service"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
DOOR_TUNNELS = Gauge("penstock_door_tunnels", "WebSockets open through the door.", ["service"])
DOOR_SERVICE_UP = Gauge("penstock_door_service_up", "1 while the service answers the door.", ["service"])
UPSTREAM_REQUESTS = Counter("penstock_upstream_requests_total", "Requests to upstreams.", ["upstream", "status"])
UPSTREAM_SECONDS = Histogram(
    "penstock_upstream_seconds",
    "Time from a request for an upstream to the end of its reply; of WebSockets, to their end.",
    ["upstream"],
    buckets=(0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
UPSTREAM_SOCKETS = Gauge("penstock_upstream_sockets", "WebSockets open to upstreams.", ["upstream"])
QUOTA_MESSAGES = Counter("penstock_quota_messages_total", "Events sent to metered applications.", ["plan"])
QUOTA_BYTES = Counter("penstock_quota_bytes_total", "Bytes sent to metered applications.", ["plan"])
QUOTA_QUERIES = Counter(
    "penstock_quota_queries_total", "Requests of metered applications that were answered.", ["plan"]
)
QUOTA_REFUSED = Counter("penstock_quota_refused_total", "Requests and connections over a limit.", ["plan", "limit"])
QUOTA_PAUSES = Counter("penstock_quota_pauses_total", "Pauses of connections over a rate.", ["plan", "limit"])
QUOTA_CLOSED = Counter(
    "penstock_quota_closed_total", "Connections closed for the rest of the day.", ["plan", "limit"]
)
QUOTA_CONNECTIONS = Gauge("penstock_quota_connections", "Open connections of metered applications.", ["plan"])
DURABLE_ACKS = Counter("penstock_durable_acks_total", "Acknowledgements of durable subscriptions.")
DURABLE_EXPIRED = Counter("penstock_durable_expired_total", "Durable subscriptions deleted since nobody used them.")
DURABLE_HELD = Gauge("penstock_durable_held", "Durable subscriptions that a connection of this process has.")
EMAILS = Counter("penstock_emails_total", "Mails given to the SMTP server, each try.", ["outcome"])
EMAILS_ACTIVE = Gauge("penstock_emails_active", "E-mail subscriptions that this process works at.")
WEBHOOKS_ACTIVE = Gauge("penstock_webhooks_active", "Webhooks that this process works at.")
OUTBOUND_EVENTS = Counter(
    "penstock_outbound_events_total",
    "Events of webhooks and e-mail subscriptions that were delivered, or refused: put aside after the last try.",
    ["kind", "outcome"],
)
OUTBOUND_PAUSED = Gauge(
    "penstock_outbound_paused",
    "Webhooks and e-mail subscriptions that this process holds and that are paused.",
    ["kind"],
)
OUTBOUND_RETRYING = Gauge(
    "penstock_outbound_retrying",
    "Webhooks and e-mail subscriptions that wait for the next try, or for the database.",
    ["kind"],
)
WEBHOOK_REQUESTS = Counter("penstock_webhook_requests_total", "Requests to receivers of webhooks.", ["outcome"])
