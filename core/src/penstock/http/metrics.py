"""Metrics of the listener and of the checks of tokens."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

__all__ = ["INTROSPECTIONS", "KEY_FETCHES", "PART_READY"]

PART_READY = Gauge("penstock_part_ready", "1 where a part of `/readyz` is ok, else 0.", ["part"])
KEY_FETCHES = Counter("penstock_key_fetches", "Fetches of the key set of an issuer, by outcome.", ["outcome"])
INTROSPECTIONS = Counter(
    "penstock_introspections", "Questions to an issuer about opaque tokens (RFC 7662), by outcome.", ["outcome"]
)
