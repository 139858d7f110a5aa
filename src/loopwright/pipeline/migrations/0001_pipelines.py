"""Runs of pipelines, their steps, and outputs that can be used again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from loopwright.store import Json, UtcTime

revision = "pipeline_0001"
down_revision = None
branch_labels = ("pipeline",)
depends_on = None


def upgrade() -> None:
    op.create_table(
        "pipeline_runs",
        sa.Column("run_id", sa.String(32), primary_key=True),
        sa.Column("project", sa.String(128), nullable=False),
        sa.Column("pipeline", sa.String(400), nullable=False),
        sa.Column("params", Json, nullable=False),
        sa.Column("inputs", Json, nullable=False),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("capture", Json, nullable=False),
        sa.Column("outputs", Json, nullable=False),
        sa.Column("created_at", UtcTime, nullable=False),
    )
    op.create_index("ix_pipeline_runs_pipeline", "pipeline_runs", ["project", "pipeline", "run_id"])
    op.create_table(
        "pipeline_steps",
        sa.Column("run_id", sa.String(32), primary_key=True),
        sa.Column("name", sa.String(200), primary_key=True),
        sa.Column("project", sa.String(128), nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("cached", sa.Boolean, nullable=False),
        sa.Column("origin", sa.String(32), nullable=False),
        sa.Column("seconds", sa.Float(53), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("output", Json),
        sa.Column("error", sa.Text, nullable=False),
    )
    op.create_table(
        "step_outputs",
        sa.Column("project", sa.String(128), primary_key=True),
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("function", sa.String(400), nullable=False),
        sa.Column("run_id", sa.String(32), nullable=False),
        sa.Column("output", Json, nullable=False),
        sa.Column("notes", sa.String(64), nullable=False),
        sa.Column("seconds", sa.Float(53), nullable=False),
        sa.Column("created_at", UtcTime, nullable=False),
    )
    op.create_index("ix_step_outputs_created", "step_outputs", ["created_at"])
