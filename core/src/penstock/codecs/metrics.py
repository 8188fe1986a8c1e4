"""Metrics of the codecs."""

from __future__ import annotations

from prometheus_client import Counter

__all__ = ["NONFINITE_VALUES"]

NONFINITE_VALUES = Counter(
    "penstock_nonfinite_values_total",
    "NaN and infinite values written to JSON as null, since JSON has no such numbers.",
)
