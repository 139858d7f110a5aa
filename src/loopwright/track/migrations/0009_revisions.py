"""A number for each run that every change of it changes, so that what was made from its record can be kept."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "track_0009"
down_revision = "track_0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "run_changes",
        sa.Column("run_seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False, autoincrement=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("run_seq", name="pk_run_changes"),
    )
    op.create_index("ix_run_changes_revision", "run_changes", ["revision", "run_seq"])
    op.create_table(
        "run_turns",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_run_turns"),
    )
