"""Endpoints, the revision of what is served, approvals and rollouts."""

import sqlalchemy as sa
from alembic import op

from loopwright.store import Json, UtcTime

revision = "release_0001"
down_revision = None
branch_labels = ("release",)
depends_on = None


def upgrade() -> None:
    _create_endpoints()
    _create_approvals()
    _create_rollouts()


def _create_endpoints() -> None:
    op.create_table(
        "endpoints",
        sa.Column("name", sa.String(128), primary_key=True),
        sa.Column("project", sa.String(128), nullable=False),
        sa.Column("model", sa.String(128), nullable=False),
        sa.Column("salt", sa.String(32), nullable=False),
        sa.Column("stable", sa.String(300), nullable=False),
        sa.Column("previous", sa.String(300), nullable=False),
        sa.Column("shares", Json(), nullable=False),
        sa.Column("rollout", sa.String(32), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("actor", sa.String(200), nullable=False),
    )
    op.create_index("ix_endpoints_project_name", "endpoints", ["project", "name"])
    op.create_table(
        "serving_revisions",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("revision", sa.Integer(), nullable=False),
    )


def _create_approvals() -> None:
    op.create_table(
        "approvals",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("project", sa.String(128), nullable=False),
        sa.Column("subject", sa.String(400), nullable=False),
        sa.Column("model", sa.String(300), nullable=False),
        sa.Column("endpoint", sa.String(128), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("requested_at", UtcTime(), nullable=False),
        sa.Column("requested_by", sa.String(200), nullable=False),
        sa.Column("decided_at", UtcTime()),
        sa.Column("decided_by", sa.String(200), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("event", sa.String(40), nullable=False),
    )
    op.create_index("ix_approvals_project_id", "approvals", ["project", "id"])
    op.create_index("ix_approvals_project_state_id", "approvals", ["project", "state", "id"])


def _create_rollouts() -> None:
    op.create_table(
        "rollouts",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("project", sa.String(128), nullable=False),
        sa.Column("endpoint", sa.String(128), nullable=False),
        sa.Column("control", sa.String(300), nullable=False),
        sa.Column("candidate", sa.String(300), nullable=False),
        sa.Column("plan", Json(), nullable=False),
        sa.Column("guard", Json(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("share", sa.Float(), nullable=False),
        sa.Column("started_at", UtcTime(), nullable=False),
        sa.Column("step_started_at", UtcTime(), nullable=False),
        sa.Column("starts", Json(), nullable=False),
        sa.Column("ended_at", UtcTime()),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("statistics", Json(), nullable=False),
        sa.Column("control_before", Json(), nullable=False),
        sa.Column("event", sa.String(40), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
    )
    op.create_index("ix_rollouts_project_id", "rollouts", ["project", "id"])
    op.create_index("ix_rollouts_endpoint_id", "rollouts", ["endpoint", "id"])
    active = sa.text("state IN ('running', 'held', 'guarding')")
    op.create_index(
        "ux_rollouts_active", "rollouts", ["endpoint"], unique=True, sqlite_where=active, postgresql_where=active
    )


def downgrade() -> None:
    for name in ("rollouts", "approvals", "serving_revisions", "endpoints"):
        op.drop_table(name)
