"""The archive's catalogue, and tables that are being made again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the catalogue's tables and the registry of rebuilds."""
    op.create_table(
        "penstock_archive_place",
        sa.Column("one", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("mark", sa.Text, nullable=False),
    )
    op.create_table(
        "penstock_archived",
        sa.Column("stream", sa.Text, primary_key=True),
        sa.Column("partition", sa.Integer, primary_key=True),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("next", sa.BigInteger, nullable=False),
        sa.Column("holds", sa.Boolean, nullable=False),
    )
    op.create_table(
        "penstock_archive_file",
        sa.Column("stream", sa.Text, primary_key=True),
        sa.Column("partition", sa.Integer, primary_key=True),
        sa.Column("epoch", sa.BigInteger, primary_key=True),
        sa.Column("first", sa.BigInteger, primary_key=True),
        sa.Column("next", sa.BigInteger, nullable=False),
        sa.Column("rows", sa.BigInteger, nullable=False),
        sa.Column("min_time_ms", sa.BigInteger),
        sa.Column("max_time_ms", sa.BigInteger),
        sa.Column("min_received_ms", sa.BigInteger, nullable=False),
        sa.Column("max_received_ms", sa.BigInteger, nullable=False),
        sa.Column("path", sa.Text, nullable=False, unique=True),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("written_at_ms", sa.BigInteger, nullable=False),
    )
    op.create_index(
        "penstock_archive_file_by_next", "penstock_archive_file", ["stream", "partition", "next"], unique=False
    )
    op.create_table(
        "penstock_rebuild",
        sa.Column("relation", sa.Text, primary_key=True),
        sa.Column("beside", sa.Text, nullable=False),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("started_at_ms", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    """Forget the catalogue: files of the archive stay where they are."""
    op.drop_table("penstock_rebuild")
    op.drop_table("penstock_archive_file")
    op.drop_table("penstock_archived")
    op.drop_table("penstock_archive_place")
