"""The tables of e-mail subscriptions."""

from __future__ import annotations

import sqlalchemy as sa

from penstock_publish.emails.model import Email
from penstock_publish.outbound.rows import StandingRows, failed_table, standing_table

__all__ = ["email_rows"]


def email_rows() -> StandingRows[Email]:
    """Subscriptions and their failed mails."""
    texts = [sa.Column(name, sa.Text, nullable=False) for name in ("recipients", "title", "body")]
    emails = standing_table("emails", *texts, sa.Column("sent_at_ms", sa.BigInteger, nullable=False))
    failed = failed_table("email_failures", "email_id")
    return StandingRows(emails, failed, owner="email_id", model=Email)
