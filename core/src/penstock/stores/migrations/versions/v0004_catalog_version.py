"""The version of the catalog that the tables were made for: who knows an older one must not change them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table; a store without a row has been prepared for no version yet."""
    op.create_table(
        "penstock_prepared",
        sa.Column("one", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("catalog_version", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    """Forget the version."""
    op.drop_table("penstock_prepared")
