"""Searches and their trials."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from loopwright.store import Json, UtcTime

revision = "train_0001"
down_revision = None
branch_labels = ("train",)
depends_on = None


def upgrade() -> None:
    op.create_table(
        "searches",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("project", sa.String(128), nullable=False),
        sa.Column("spec", Json, nullable=False),
        sa.Column("created_at", UtcTime, nullable=False),
    )
    op.create_table(
        "search_trials",
        sa.Column("search_id", sa.String(32), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("project", sa.String(128), nullable=False),
        sa.Column("run_id", sa.String(32), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("params", Json, nullable=False),
        sa.Column("space", Json, nullable=False),
        sa.Column("value", sa.Float(53)),
        sa.Column("reports", Json, nullable=False),
        sa.Column("error", sa.Text, nullable=False),
    )
