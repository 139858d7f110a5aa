"""Registered models, their versions and aliases."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, Integer, PrimaryKeyConstraint, String, Text

from loopwright.store import Json, UtcTime

revision = "models_0001"
down_revision = None
branch_labels = ("models",)
depends_on = None


def upgrade() -> None:
    op.create_table(
        "models",
        Column("project", String(128), nullable=False),
        Column("name", String(128), nullable=False),
        Column("description", Text, nullable=False, server_default=""),
        Column("created_at", UtcTime, nullable=False),
        Column("latest", Integer, nullable=False),
        PrimaryKeyConstraint("project", "name"),
    )
    op.create_table(
        "model_versions",
        Column("project", String(128), nullable=False),
        Column("name", String(128), nullable=False),
        Column("version", Integer, nullable=False),
        Column("bundle", String(64), nullable=False),
        Column("task", String(16), nullable=False),
        Column("run", String(32), nullable=False),
        Column("training_data", Json, nullable=False),
        Column("metrics", Json, nullable=False),
        Column("tags", Json, nullable=False),
        Column("description", Text, nullable=False),
        Column("size_bytes", BigInteger, nullable=False),
        Column("created_at", UtcTime, nullable=False),
        Column("actor", String(200), nullable=False),
        PrimaryKeyConstraint("project", "name", "version"),
    )
    op.create_index("ix_model_versions_bundle", "model_versions", ["project", "bundle"])
    op.create_index("ix_model_versions_run", "model_versions", ["project", "run"])
    op.create_table(
        "model_aliases",
        Column("project", String(128), nullable=False),
        Column("name", String(128), nullable=False),
        Column("alias", String(128), nullable=False),
        Column("version", Integer, nullable=False),
        Column("moved_at", UtcTime, nullable=False),
        Column("actor", String(200), nullable=False),
        PrimaryKeyConstraint("project", "name", "alias"),
    )
