"""Files of logged models and traces, uploads in parts, and logged models themselves."""

from __future__ import annotations

from typing import Any

from alembic import op
from sqlalchemy import BigInteger, Column, Float, Integer, String, Text
from sqlalchemy.dialects import postgresql

from loopwright.store import UtcTime

revision = "track_0005"
down_revision = "track_0004"
branch_labels = None
depends_on = None


def _ordered(length: int) -> Any:
    return String(length).with_variant(postgresql.VARCHAR(length, collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "kept_files",
        Column("project", String(128), primary_key=True),
        Column("owner", String(64), primary_key=True),
        Column("path", String(1024), primary_key=True),
        Column("digest", String(64), nullable=False),
        Column("size_bytes", BigInteger, nullable=False),
        Column("created_at", UtcTime, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_kept_files_digest", "kept_files", ["digest"])
    _create_uploads()
    _create_models()
    _create_texts()


def _create_uploads() -> None:
    op.create_table(
        "uploads",
        Column("id", String(32), primary_key=True),
        Column("project", String(128), nullable=False),
        Column("owner", String(64), nullable=False),
        Column("path", String(1024), nullable=False),
        Column("parts", Integer, nullable=False),
        Column("secret", String(64), nullable=False),
        Column("actor", String(200), nullable=False),
        Column("created_at", UtcTime, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_uploads_created", "uploads", ["created_at"])
    op.create_table(
        "upload_parts",
        Column("upload", String(32), primary_key=True),
        Column("number", Integer, primary_key=True, autoincrement=False),
        Column("digest", String(64), nullable=False),
        Column("size_bytes", BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_upload_parts_digest", "upload_parts", ["digest"])


def _create_models() -> None:
    op.create_table(
        "logged_models",
        Column("id", String(64), primary_key=True),
        Column("project", String(128), nullable=False),
        Column("experiment_id", String(32), nullable=False),
        Column("name", _ordered(500), nullable=False),
        Column("model_type", _ordered(500), nullable=False),
        Column("source_run", String(32), nullable=False),
        Column("status", String(16), nullable=False),
        Column("status_message", Text, nullable=False),
        Column("actor", String(256), nullable=False),
        Column("created_at", UtcTime, nullable=False),
        Column("updated_at", UtcTime, nullable=False),
        Column("deleted_at", UtcTime),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_logged_models_created", "logged_models", ["project", "experiment_id", "created_at", "id"])
    op.create_index("ix_logged_models_run", "logged_models", ["source_run"])


def _create_texts() -> None:
    long_text = Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
    for name in ("logged_params", "logged_tags"):
        op.create_table(
            name,
            Column("model", String(64), primary_key=True),
            Column("key", _ordered(250), primary_key=True),
            Column("value", long_text, nullable=False),
            Column("head", _ordered(100), nullable=False),
            sqlite_with_rowid=False,
        )
        op.create_index(f"ix_{name}_head", name, ["key", "head", "model"])
    op.create_table(
        "logged_metrics",
        Column("model", String(64), primary_key=True),
        Column("key", _ordered(250), primary_key=True),
        Column("run", String(32), primary_key=True),
        Column("dataset", _ordered(500), primary_key=True),
        Column("dataset_digest", String(64), primary_key=True),
        Column("bits", BigInteger, nullable=False),
        Column("value", Float(53)),
        Column("step", BigInteger, nullable=False),
        Column("at", BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_logged_metrics_value", "logged_metrics", ["key", "value", "model"])
