"""Assessments of traces."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Boolean, Column, String, Text
from sqlalchemy.dialects import postgresql

from loopwright.store import Json, UtcTime

revision = "track_0007"
down_revision = "track_0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "trace_assessments",
        Column("id", String(64), primary_key=True),
        Column("trace", String(64), nullable=False),
        Column("kind", String(16), nullable=False),
        Column("name", String(250).with_variant(postgresql.VARCHAR(250, collation="C"), "postgresql"), nullable=False),
        Column("content", Json, nullable=False),
        Column("source_type", String(64), nullable=False),
        Column("source_id", String(250), nullable=False),
        Column("span", String(64), nullable=False),
        Column("rationale", Text().with_variant(postgresql.TEXT(collation="C"), "postgresql"), nullable=False),
        Column("metadata", Json, nullable=False),
        Column("overrides", String(64), nullable=False),
        Column("valid", Boolean, nullable=False),
        Column("created_at", UtcTime, nullable=False),
        Column("updated_at", UtcTime, nullable=False),
    )
    op.create_index("ix_trace_assessments_trace", "trace_assessments", ["trace", "created_at"])
