"""Clients, revoked tokens and signing keys, shared by the replicas of the publish gateway. PostgreSQL only.

A schema of their own: who may read the store's tables must not find keys there. With SQLite they are in publish.db.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

SCHEMA = "penstock_auth"


def upgrade() -> None:
    """Create the tables."""
    if op.get_bind().dialect.name != "postgresql":
        return
    op.create_table(
        "clients",
        sa.Column("client_id", sa.Text, primary_key=True),
        sa.Column("secret_sha256", sa.Text, nullable=False),
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("secret", sa.Text),
        schema=SCHEMA,
    )
    op.create_table(
        "revoked_tokens",
        sa.Column("token_id", sa.Text, primary_key=True),
        sa.Column("expires_at_s", sa.Double, nullable=False),
        sa.Column(
            "revoked_at",
            sa.DateTime(timezone=True),
            nullable=False,
            server_default=sa.func.clock_timestamp(),
            index=True,
        ),
        schema=SCHEMA,
    )
    op.create_table(
        "signing_keys",
        sa.Column("kid", sa.Text, primary_key=True),
        sa.Column("jwk", sa.Text, nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp()),
        schema=SCHEMA,
    )


def downgrade() -> None:
    """Forget clients, revocations and keys."""
    if op.get_bind().dialect.name == "postgresql":
        for name in ("clients", "revoked_tokens", "signing_keys"):
            op.drop_table(name, schema=SCHEMA)
