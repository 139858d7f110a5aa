"""Datasets, their versions, profiles, suites and check reports."""

import sqlalchemy as sa
from alembic import op

from loopwright.store import Json, UtcTime

revision = "data_0001"
down_revision = None
branch_labels = ("data",)
depends_on = None


def upgrade() -> None:
    op.create_table(
        "datasets",
        sa.Column("project", sa.String(128), primary_key=True),
        sa.Column("name", sa.String(128), primary_key=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("head", sa.Integer(), nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
    )
    _create_versions()
    op.create_table(
        "dataset_profiles",
        sa.Column("project", sa.String(128), primary_key=True),
        sa.Column("name", sa.String(128), primary_key=True),
        sa.Column("version", sa.Integer(), primary_key=True),
        sa.Column("sketch", sa.String(64), nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
    )
    op.create_table(
        "dataset_suites",
        sa.Column("project", sa.String(128), primary_key=True),
        sa.Column("name", sa.String(128), primary_key=True),
        sa.Column("body", Json(), nullable=False),
        sa.Column("saved_at", UtcTime(), nullable=False),
    )
    op.create_table(
        "dataset_checks",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("project", sa.String(128), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("suite", sa.String(128), nullable=False),
        sa.Column("passed", sa.Boolean(), nullable=False),
        sa.Column("report", Json(), nullable=False),
        sa.Column("checked_at", UtcTime(), nullable=False),
    )
    op.create_index("ix_dataset_checks_dataset", "dataset_checks", ["project", "name", "id"])


def _create_versions() -> None:
    op.create_table(
        "dataset_versions",
        sa.Column("project", sa.String(128), primary_key=True),
        sa.Column("name", sa.String(128), primary_key=True),
        sa.Column("version", sa.Integer(), primary_key=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("part_digest", sa.String(64), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("columns", Json()),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("actor", sa.String(256), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("parent", sa.Integer()),
        sa.Column("table_version", sa.BigInteger()),
        sa.Column("once", sa.String(128)),
    )
    op.create_index("ix_dataset_versions_once", "dataset_versions", ["project", "name", "once"], unique=True)
    op.create_index("ix_dataset_versions_digest", "dataset_versions", ["digest"])


def downgrade() -> None:
    for name in ("dataset_checks", "dataset_suites", "dataset_profiles", "dataset_versions", "datasets"):
        op.drop_table(name)
