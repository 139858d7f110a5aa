"""Evaluation sets, their records, their tags and the experiments that use them."""

from __future__ import annotations

from typing import Any

from alembic import op
from sqlalchemy import Column, Integer, String, Text
from sqlalchemy.dialects import postgresql

from loopwright.store import Json, UtcTime

revision = "track_0011"
down_revision = "track_0010"
branch_labels = None
depends_on = None


def _ordered(length: int) -> Any:
    return String(length).with_variant(postgresql.VARCHAR(length, collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "eval_sets",
        Column("id", String(64), primary_key=True),
        Column("project", String(128), nullable=False),
        Column("name", _ordered(250), nullable=False),
        Column("digest", String(64), nullable=False),
        Column("fields", Json, nullable=False),
        Column("records", Integer, nullable=False),
        Column("created_at", UtcTime, nullable=False),
        Column("updated_at", UtcTime, nullable=False),
        Column("created_by", _ordered(256), nullable=False),
        Column("updated_by", _ordered(256), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_eval_sets_created", "eval_sets", ["project", "created_at", "id"])
    op.create_table(
        "eval_set_tags",
        Column("eval_set", String(64), primary_key=True),
        Column("key", _ordered(250), primary_key=True),
        Column("value", Text().with_variant(postgresql.TEXT(collation="C"), "postgresql"), nullable=False),
        Column("head", _ordered(100), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_eval_set_tags_head", "eval_set_tags", ["key", "head", "eval_set"])
    op.create_table(
        "eval_set_experiments",
        Column("eval_set", String(64), primary_key=True),
        Column("experiment_id", String(32), primary_key=True),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_eval_set_experiments_experiment", "eval_set_experiments", ["experiment_id", "eval_set"])
    op.create_table(
        "eval_records",
        Column("eval_set", String(64), primary_key=True),
        Column("id", String(64), primary_key=True),
        Column("inputs_digest", String(64), nullable=False),
        Column("content", Json, nullable=False),
        Column("created_at", UtcTime, nullable=False),
        Column("updated_at", UtcTime, nullable=False),
        Column("created_by", String(256), nullable=False),
        Column("updated_by", String(256), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_eval_records_inputs", "eval_records", ["eval_set", "inputs_digest"], unique=True)
