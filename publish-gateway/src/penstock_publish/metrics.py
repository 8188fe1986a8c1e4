"""Metrics of the publish gateway (Prometheus)."""

from __future__ import annotations

from prometheus_client import Counter

__all__ = ["REVOKED_TOKENS", "TOKENS_ISSUED"]

TOKENS_ISSUED = Counter("penstock_oauth_tokens_total", "Replies of the token endpoint.", ["status"])
REVOKED_TOKENS = Counter("penstock_oauth_revoked_tokens_total", "Tokens revoked by this process.")
