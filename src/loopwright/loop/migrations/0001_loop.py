"""Loops, their triggers and runs, the simulated clock, and who has the controller's lease."""

import sqlalchemy as sa
from alembic import op

from loopwright.store import Json, UtcTime

revision = "loop_0001"
down_revision = None
branch_labels = ("loop",)
depends_on = None


def upgrade() -> None:
    _create_loops()
    _create_triggers()
    _create_runs()
    op.create_table(
        "workspace_clocks",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("now", UtcTime(), nullable=False),
    )
    op.create_table(
        "loop_controllers",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("holder", sa.String(200), nullable=False),
        sa.Column("host", sa.String(200), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("pid_started", sa.Float(), nullable=False),
    )


def _create_loops() -> None:
    op.create_table(
        "loops",
        sa.Column("project", sa.String(128), primary_key=True),
        sa.Column("name", sa.String(128), primary_key=True),
        sa.Column("spec", Json(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("declared_at", UtcTime(), nullable=False),
        sa.Column("declared_by", sa.String(200), nullable=False),
        sa.Column("last_triggered_at", UtcTime()),
    )


def _create_triggers() -> None:
    op.create_table(
        "loop_triggers",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("project", sa.String(128), nullable=False),
        sa.Column("loop", sa.String(128), nullable=False),
        sa.Column("cause", sa.String(200), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("subject", sa.String(400), nullable=False),
        sa.Column("at", UtcTime(), nullable=False),
        sa.Column("evidence", Json(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("run", sa.String(32), nullable=False),
    )
    op.create_index("ux_loop_triggers_cause", "loop_triggers", ["project", "loop", "cause"], unique=True)
    waiting = sa.text("state = 'waiting'")
    op.create_index("ix_loop_triggers_waiting", "loop_triggers", ["id"], sqlite_where=waiting, postgresql_where=waiting)


def _create_runs() -> None:
    op.create_table(
        "loop_runs",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("project", sa.String(128), nullable=False),
        sa.Column("loop", sa.String(128), nullable=False),
        sa.Column("spec", Json(), nullable=False),
        sa.Column("state", sa.String(24), nullable=False),
        sa.Column("outcome", sa.String(24), nullable=False),
        sa.Column("trigger", sa.String(32), nullable=False),
        sa.Column("cause", sa.String(200), nullable=False),
        sa.Column("last_event", sa.String(40), nullable=False),
        sa.Column("training_run", sa.String(32), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("model_version", sa.String(300), nullable=False),
        sa.Column("holdout", sa.String(300), nullable=False),
        sa.Column("approval", sa.String(32), nullable=False),
        sa.Column("rollout", sa.String(32), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("updated_at", UtcTime(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
    )
    op.create_index("ix_loop_runs_project_loop_id", "loop_runs", ["project", "loop", "id"])
    op.create_index("ix_loop_runs_project_id", "loop_runs", ["project", "id"])
    active = sa.text("state <> 'finished'")
    op.create_index("ix_loop_runs_active", "loop_runs", ["id"], sqlite_where=active, postgresql_where=active)


def downgrade() -> None:
    for name in ("loop_controllers", "workspace_clocks", "loop_runs", "loop_triggers", "loops"):
        op.drop_table(name)
