"""Metrics of rules. By severity, not by rule: there may be thousands of these."""

from __future__ import annotations

from prometheus_client import Counter

__all__ = ["RULE_HITS"]

RULE_HITS = Counter("penstock_rules_hits_total", "Hits of rules in committed cycles.", ["severity"])
