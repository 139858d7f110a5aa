"""Traces, with their tags, their metadata and the runs that they are linked to."""

from __future__ import annotations

from typing import Any

from alembic import op
from sqlalchemy import BigInteger, Column, String, Text
from sqlalchemy.dialects import postgresql

from loopwright.store import UtcTime

revision = "track_0006"
down_revision = "track_0005"
branch_labels = None
depends_on = None


def _ordered(length: int) -> Any:
    return String(length).with_variant(postgresql.VARCHAR(length, collation="C"), "postgresql")


def upgrade() -> None:
    long_text = Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
    op.create_table(
        "traces",
        Column("id", String(64), primary_key=True),
        Column("project", String(128), nullable=False),
        Column("experiment_id", String(32), nullable=False),
        Column("state", _ordered(16), nullable=False),
        Column("started_at", UtcTime, nullable=False),
        Column("duration_ms", BigInteger),
        Column("run", _ordered(32), nullable=False),
        Column("client_request", _ordered(500), nullable=False),
        Column("request_preview", long_text, nullable=False),
        Column("response_preview", long_text, nullable=False),
        Column("actor", String(256), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_traces_started", "traces", ["project", "experiment_id", "started_at", "id"])
    op.create_index("ix_traces_run", "traces", ["run"])
    for name in ("trace_tags", "trace_metadata"):
        op.create_table(
            name,
            Column("trace", String(64), primary_key=True),
            Column("key", _ordered(250), primary_key=True),
            Column("value", long_text, nullable=False),
            Column("head", _ordered(100), nullable=False),
            sqlite_with_rowid=False,
        )
        op.create_index(f"ix_{name}_head", name, ["key", "head", "trace"])
    op.create_table(
        "trace_runs",
        Column("trace", String(64), primary_key=True),
        Column("run", _ordered(32), primary_key=True),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_trace_runs_run", "trace_runs", ["run", "trace"])
