"""What a run read and made in the words of other trackers: datasets with their schema and profile, and models."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, Integer, String, Text, UniqueConstraint
from sqlalchemy.dialects import postgresql

revision = "track_0004"
down_revision = "track_0003"
branch_labels = None
depends_on = None

Number = BigInteger().with_variant(Integer, "sqlite")


def upgrade() -> None:
    ordered = String(500).with_variant(postgresql.VARCHAR(500, collation="C"), "postgresql")
    op.create_table(
        "run_datasets",
        Column("id", Number, primary_key=True, autoincrement=True),
        Column("experiment_id", String(32), nullable=False),
        Column("name", ordered, nullable=False),
        Column("digest", String(64), nullable=False),
        Column("source_type", String(100), nullable=False),
        Column("source", Text, nullable=False),
        Column("schema", Text, nullable=False),
        Column("profile", Text, nullable=False),
        UniqueConstraint("experiment_id", "name", "digest", name="uq_run_datasets_digest"),
    )
    op.create_table(
        "run_dataset_uses",
        Column("run_seq", BigInteger, primary_key=True, autoincrement=False),
        Column("dataset_id", BigInteger, primary_key=True, autoincrement=False),
        Column("tags", Text, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_run_dataset_uses_dataset", "run_dataset_uses", ["dataset_id", "run_seq"])
    op.create_table(
        "run_models",
        Column("run_seq", BigInteger, primary_key=True, autoincrement=False),
        Column("role", String(8), primary_key=True),
        Column("model", String(64), primary_key=True),
        Column("step", BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_run_models_model", "run_models", ["model", "role", "run_seq"])
