"""Spans of traces, where they come one by one and not as the trace's file."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, Integer, String
from sqlalchemy.dialects import postgresql

from loopwright.store import Json

revision = "track_0010"
down_revision = "track_0009"
branch_labels = None
depends_on = None


def ordered(length: int) -> String:
    return String(length).with_variant(postgresql.VARCHAR(length, collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "trace_spans",
        Column("trace", String(64), primary_key=True),
        Column("id", String(16), primary_key=True),
        Column("parent", String(16), nullable=False),
        Column("name", ordered(250), nullable=False),
        Column("kind", ordered(64), nullable=False),
        Column("status", ordered(16), nullable=False),
        Column("started_ns", BigInteger, nullable=False),
        Column("ended_ns", BigInteger),
        Column("content", Json, nullable=False),
        Column("size_bytes", Integer, nullable=False),
        sqlite_with_rowid=False,
    )
