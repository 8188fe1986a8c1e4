"""Metrics of the listener."""

from __future__ import annotations

from prometheus_client import Gauge

__all__ = ["PART_READY"]

PART_READY = Gauge("penstock_part_ready", "1 where a part of `/readyz` is ok, else 0.", ["part"])
