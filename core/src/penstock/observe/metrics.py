"""Metrics of observation itself."""

from __future__ import annotations

from prometheus_client import Counter

__all__ = ["TRACE_SPANS"]

TRACE_SPANS = Counter(
    "penstock_trace_spans_total", "Spans sent to the collector, by result: exported or failed (dropped).", ["result"]
)
