"""Tags of names, stages, sources, and deletion that leaves the number taken."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from loopwright.core import decode
from loopwright.store import UtcTime

revision = "models_0002"
down_revision = "models_0001"
branch_labels = None
depends_on = None

_HEAD = 100


def _ordered(length: int) -> Any:
    return sa.String(length).with_variant(postgresql.VARCHAR(length, collation="C"), "postgresql")


def upgrade() -> None:
    for table in ("models", "model_versions"):
        op.add_column(table, sa.Column("updated_at", UtcTime, nullable=False, server_default="0"))
        op.add_column(table, sa.Column("deleted_at", UtcTime))
        op.execute(sa.text(f"UPDATE {table} SET updated_at = created_at"))  # noqa: S608  two names of ours
    op.add_column("models", sa.Column("renamed_to", _ordered(256), nullable=False, server_default=""))
    op.add_column("models", sa.Column("tags", sa.Text, nullable=False, server_default="{}"))
    long_text = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
    for column in (
        sa.Column("kind", sa.String(16), nullable=False, server_default="bundle"),
        sa.Column("source", long_text, nullable=False, server_default=""),
        sa.Column("run_link", sa.Text, nullable=False, server_default=""),
        sa.Column("model_id", sa.String(64), nullable=False, server_default=""),
        sa.Column("stage", sa.String(16), nullable=False, server_default="None"),
    ):
        op.add_column("model_versions", column)
    _widen()
    op.create_index("ix_models_updated", "models", ["project", "updated_at", "name"])
    op.create_index("ix_model_versions_updated", "model_versions", ["project", "updated_at", "name", "version"])
    op.create_index("ix_model_versions_model", "model_versions", ["project", "model_id"])
    _create_tags()


def _widen() -> None:
    """Longer names, ordered by their bytes."""
    for table, column, length in (
        ("models", "name", 256),
        ("model_versions", "name", 256),
        ("model_versions", "run", 64),
        ("model_aliases", "name", 256),
    ):
        with op.batch_alter_table(table) as batch:
            batch.alter_column(column, type_=_ordered(length), existing_nullable=False)


def _create_tags() -> None:
    long_text = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
    tags = op.create_table(
        "model_tags",
        sa.Column("project", sa.String(128), nullable=False),
        sa.Column("name", _ordered(256), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("key", _ordered(250), nullable=False),
        sa.Column("value", long_text, nullable=False),
        sa.Column("head", _ordered(_HEAD), nullable=False),
        sa.PrimaryKeyConstraint("project", "name", "version", "key"),
    )
    op.create_index("ix_model_tags_head", "model_tags", ["project", "key", "head"])
    held = op.get_bind().execute(sa.text("SELECT project, name, version, tags FROM model_versions"))
    rows = [
        {
            "project": row.project,
            "name": row.name,
            "version": row.version,
            "key": key,
            "value": value,
            "head": value[:_HEAD],
        }
        for row in held.all()
        for key, value in decode(row.tags).items()
    ]
    if rows:
        op.bulk_insert(tags, rows)
