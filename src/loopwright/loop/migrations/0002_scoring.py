"""Scoring jobs and their runs."""

import sqlalchemy as sa
from alembic import op

from loopwright.store import Json, UtcTime

revision = "loop_0002"
down_revision = "loop_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "scoring_jobs",
        sa.Column("project", sa.String(128), primary_key=True),
        sa.Column("name", sa.String(128), primary_key=True),
        sa.Column("spec", Json(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("declared_at", UtcTime(), nullable=False),
        sa.Column("declared_by", sa.String(200), nullable=False),
        sa.Column("last_triggered_at", UtcTime()),
        sa.Column("scored_to", sa.String(1200), nullable=False),
    )
    op.create_table(
        "scoring_runs",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("project", sa.String(128), nullable=False),
        sa.Column("job", sa.String(128), nullable=False),
        sa.Column("spec", Json(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("trigger", sa.String(32), nullable=False),
        sa.Column("cause", sa.String(200), nullable=False),
        sa.Column("model", sa.String(300), nullable=False),
        sa.Column("source", sa.String(1200), nullable=False),
        sa.Column("since", sa.Integer()),
        sa.Column("append", sa.Boolean(), nullable=False),
        sa.Column("made", sa.String(1200), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("bad_rows", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("updated_at", UtcTime(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
    )
    op.create_index("ix_scoring_runs_project_job_id", "scoring_runs", ["project", "job", "id"])
    op.create_index("ix_scoring_runs_project_id", "scoring_runs", ["project", "id"])
    under_way = sa.text("state IN ('waiting', 'running')")
    op.create_index(
        "ix_scoring_runs_under_way", "scoring_runs", ["id"], sqlite_where=under_way, postgresql_where=under_way
    )


def downgrade() -> None:
    op.drop_table("scoring_runs")
    op.drop_table("scoring_jobs")
