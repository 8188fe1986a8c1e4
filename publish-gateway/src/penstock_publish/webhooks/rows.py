"""The tables of webhooks, and what is done with them. Blocking; runs in the gateway's database thread."""

from __future__ import annotations

from dataclasses import asdict

import sqlalchemy as sa

from penstock_publish.webhooks.model import Failed, Webhook

__all__ = [
    "FAILED",
    "WEBHOOKS",
    "add",
    "advance",
    "claim",
    "drop_failed",
    "failed_count",
    "failed_of",
    "find",
    "forget",
    "of_client",
    "pause",
    "release",
]  # fmt: skip

_metadata = sa.MetaData()
WEBHOOKS = sa.Table(
    "webhooks",
    _metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("client_id", sa.Text, nullable=False, index=True),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("scope", sa.Text, nullable=False),
    sa.Column("topic", sa.Text, nullable=False),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("filter", sa.Text, nullable=False),
    sa.Column("secret", sa.Text, nullable=False),
    sa.Column("cursor", sa.Text, nullable=False),
    sa.Column("created_at_ms", sa.BigInteger, nullable=False),
    sa.Column("paused", sa.Text),
    sa.Column("holder", sa.Text, nullable=False, default=""),
    sa.Column("held_until_ms", sa.BigInteger, nullable=False, default=0),
)
FAILED = sa.Table(
    "webhook_failures",
    _metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("webhook_id", sa.Text, nullable=False, index=True),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("events", sa.BigInteger, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("failed_at_ms", sa.BigInteger, nullable=False),
)
_w, _f = WEBHOOKS.c, FAILED.c
_OF_MODEL = [column for column in WEBHOOKS.columns if column.name not in ("holder", "held_until_ms")]


def add(connection: sa.Connection, webhook: Webhook, *, per_client_max: int, total_max: int) -> bool:
    """False without effect where there are too many."""
    count = sa.select(sa.func.count()).select_from(WEBHOOKS)
    if connection.execute(count).scalar_one() >= total_max:
        return False
    if connection.execute(count.where(_w.client_id == webhook.client_id)).scalar_one() >= per_client_max:
        return False
    connection.execute(sa.insert(WEBHOOKS).values(**asdict(webhook)))
    return True


def of_client(connection: sa.Connection, client_id: str) -> list[Webhook]:
    """All of a client, oldest first."""
    chosen = sa.select(*_OF_MODEL).where(_w.client_id == client_id).order_by(_w.created_at_ms, _w.id)
    return [Webhook(*row) for row in connection.execute(chosen)]


def find(connection: sa.Connection, webhook_id: str) -> Webhook | None:
    """One, whoever has made it."""
    row = connection.execute(sa.select(*_OF_MODEL).where(_w.id == webhook_id)).first()
    return None if row is None else Webhook(*row)


def forget(connection: sa.Connection, webhook_id: str) -> None:
    """Delete it with what failed."""
    connection.execute(sa.delete(FAILED).where(_f.webhook_id == webhook_id))
    connection.execute(sa.delete(WEBHOOKS).where(_w.id == webhook_id))


def claim(connection: sa.Connection, holder: str, *, now_ms: int, until_ms: int) -> list[Webhook]:
    """Take those that nobody holds any more, keep those of ours until then; all that are ours and not paused."""
    free = sa.or_(_w.holder == holder, _w.held_until_ms <= now_ms)
    connection.execute(sa.update(WEBHOOKS).where(free).values(holder=holder, held_until_ms=until_ms))
    chosen = sa.select(*_OF_MODEL).where(_w.holder == holder, _w.paused.is_(None))
    return [Webhook(*row) for row in connection.execute(chosen)]


def release(connection: sa.Connection, holder: str) -> None:
    """Others may have them at once."""
    connection.execute(sa.update(WEBHOOKS).where(_w.holder == holder).values(holder="", held_until_ms=0))


def advance(
    connection: sa.Connection, webhook_id: str, holder: str, *, before: str, cursor: str, failed: Failed | None
) -> bool:
    """Move the cursor, together with a request that failed; False where somebody else has it, or it is gone."""
    ours = sa.and_(_w.id == webhook_id, _w.holder == holder, _w.cursor == before)
    if not connection.execute(sa.update(WEBHOOKS).where(ours).values(cursor=cursor)).rowcount:
        return False
    if failed is not None:
        connection.execute(sa.insert(FAILED).values(**asdict(failed)))
    return True


def pause(connection: sa.Connection, webhook_id: str, reason: str | None) -> None:
    """Send nothing more for now, or go on."""
    connection.execute(sa.update(WEBHOOKS).where(_w.id == webhook_id).values(paused=reason))


def failed_of(connection: sa.Connection, webhook_id: str, limit: int) -> list[Failed]:
    """Oldest first."""
    chosen = sa.select(FAILED).where(_f.webhook_id == webhook_id).order_by(_f.failed_at_ms, _f.id).limit(limit)
    return [Failed(*row) for row in connection.execute(chosen)]


def drop_failed(connection: sa.Connection, failed_id: str) -> None:
    """It was delivered after all."""
    connection.execute(sa.delete(FAILED).where(_f.id == failed_id))


def failed_count(connection: sa.Connection, webhook_id: str) -> int:
    """How many failed requests there are."""
    return int(
        connection.execute(
            sa.select(sa.func.count()).select_from(FAILED).where(_f.webhook_id == webhook_id)
        ).scalar_one()
    )
