"""The tables of webhooks."""

from __future__ import annotations

import sqlalchemy as sa

from penstock_publish.outbound.rows import StandingRows, failed_table, standing_table
from penstock_publish.webhooks.model import Webhook

__all__ = ["webhook_rows"]


def webhook_rows() -> StandingRows[Webhook]:
    """Webhooks and their failed requests."""
    url = sa.Column("url", sa.Text, nullable=False)
    secret = sa.Column("secret", sa.Text, nullable=False)
    before = sa.Column("secret_before", sa.Text, nullable=False, server_default="")
    until = sa.Column("secret_before_until_ms", sa.BigInteger, nullable=False, server_default="0")
    webhooks = standing_table("webhooks", url, secret, before, until)
    failed = failed_table("webhook_failures", "webhook_id")
    return StandingRows(webhooks, failed, owner="webhook_id", model=Webhook)
