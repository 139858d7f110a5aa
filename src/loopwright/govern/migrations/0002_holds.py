"""Legal holds: what must not be removed, and why."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, String, Text

from loopwright.store import UtcTime

revision = "govern_0002"
down_revision = "govern_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "holds",
        Column("id", String(32), primary_key=True),
        Column("project", String(128), nullable=False),
        Column("ref", String(400), nullable=False),
        Column("reason", Text, nullable=False),
        Column("placed_at", UtcTime, nullable=False),
        Column("placed_by", String(256), nullable=False),
        Column("released_at", UtcTime),
        Column("released_by", String(256), nullable=False),
    )
    op.create_index("ix_holds_ref", "holds", ["project", "ref"])
