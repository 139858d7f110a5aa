"""Feature views, with how far they are materialised, and feature services."""

import sqlalchemy as sa
from alembic import op

from loopwright.store import Json, UtcTime

revision = "features_0001"
down_revision = None
branch_labels = ("features",)
depends_on = None


def upgrade() -> None:
    op.create_table(
        "feature_views",
        sa.Column("project", sa.String(128), primary_key=True),
        sa.Column("name", sa.String(128), primary_key=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("body", Json(), nullable=False),
        sa.Column("types", Json(), nullable=False),
        sa.Column("applied_at", UtcTime(), nullable=False),
        sa.Column("materialised_until", UtcTime()),
        sa.Column("materialised_version", sa.Integer()),
        sa.Column("materialised_held", sa.Boolean(), nullable=False),
    )
    op.create_table(
        "feature_services",
        sa.Column("project", sa.String(128), primary_key=True),
        sa.Column("name", sa.String(128), primary_key=True),
        sa.Column("body", Json(), nullable=False),
        sa.Column("applied_at", UtcTime(), nullable=False),
    )


def downgrade() -> None:
    for name in ("feature_services", "feature_views"):
        op.drop_table(name)
