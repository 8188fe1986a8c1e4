"""Metrics of the store adapters (Prometheus)."""

from __future__ import annotations

from prometheus_client import Counter

__all__ = ["LONG_KEYS"]

LONG_KEYS = Counter(
    "penstock_store_long_keys_total",
    "Rows left out of a PostgreSQL table because their key is longer than its index takes.",
    ["relation"],
)
