"""Relations and how far each has been applied."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the system tables."""
    op.create_table(
        "penstock_relation",
        sa.Column("relation", sa.Text, primary_key=True),
        sa.Column("spec", sa.Text, nullable=False),
    )
    op.create_table(
        "penstock_applied",
        sa.Column("relation", sa.Text, primary_key=True),
        sa.Column("partition", sa.Integer, primary_key=True),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("next", sa.BigInteger, nullable=False),
        sa.Column("watermark_ms", sa.BigInteger),
    )


def downgrade() -> None:
    """Back to an empty database: the store is rebuilt from the log."""
    op.drop_table("penstock_applied")
    op.drop_table("penstock_relation")
