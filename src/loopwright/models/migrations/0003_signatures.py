"""Signatures over bundles, and what a scan of a version's files has found."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from loopwright.store import UtcTime

revision = "models_0003"
down_revision = "models_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("model_versions", sa.Column("scan", sa.Text, nullable=False, server_default="{}"))
    op.create_table(
        "model_signatures",
        sa.Column("project", sa.String(128), nullable=False),
        sa.Column("bundle", sa.String(64), nullable=False),
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("signature", sa.String(64), nullable=False),
        sa.Column("public_key", sa.Text, nullable=False),
        sa.Column("signed_at", UtcTime, nullable=False),
        sa.Column("actor", sa.String(200), nullable=False),
        sa.PrimaryKeyConstraint("project", "bundle", "key"),
    )
