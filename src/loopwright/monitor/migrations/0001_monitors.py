"""Monitors, their windows and alerts, and what is kept of predictions."""

import sqlalchemy as sa
from alembic import op

from loopwright.store import Json, UtcTime

revision = "monitor_0001"
down_revision = None
branch_labels = ("monitor",)
depends_on = None


def upgrade() -> None:
    _create_monitors()
    _create_predictions()
    _create_alerts()


def _create_monitors() -> None:
    op.create_table(
        "monitors",
        sa.Column("project", sa.String(128), primary_key=True),
        sa.Column("name", sa.String(128), primary_key=True),
        sa.Column("endpoint", sa.String(128), nullable=False),
        sa.Column("spec", Json(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("applied_at", UtcTime(), nullable=False),
        sa.Column("applied_by", sa.String(256), nullable=False),
    )
    op.create_index("ix_monitors_endpoint", "monitors", ["project", "endpoint"])
    op.create_table(
        "monitor_windows",
        sa.Column("project", sa.String(128), primary_key=True),
        sa.Column("monitor", sa.String(128), primary_key=True),
        sa.Column("start", UtcTime(), primary_key=True),
        sa.Column("end", UtcTime(), nullable=False),
        sa.Column("endpoint", sa.String(128), nullable=False),
        sa.Column("stage", sa.Integer(), nullable=False),
        sa.Column("model", sa.String(260), nullable=False),
        sa.Column("drift", sa.String(32), nullable=False),
        sa.Column("performance", sa.String(32), nullable=False),
        sa.Column("late_rows", sa.BigInteger(), nullable=False),
        sa.Column("late_labels", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.LargeBinary()),
        sa.Column("report", Json()),
    )
    op.create_index("ix_monitor_windows_stage", "monitor_windows", ["project", "monitor", "stage", "start"])
    op.create_index("ix_monitor_windows_endpoint", "monitor_windows", ["project", "endpoint", "start"])
    op.create_table(
        "monitored_endpoints",
        sa.Column("endpoint", sa.String(128), primary_key=True),
        sa.Column("project", sa.String(128), nullable=False),
        sa.Column("loss_scale", sa.Float()),
        sa.Column("latest_event_at", UtcTime()),
        sa.Column("folded_at", UtcTime()),
    )
    op.create_table(
        "monitor_cursors",
        sa.Column("reader", sa.String(64), primary_key=True),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("position", Json(), nullable=False),
        sa.Column("planned", Json()),
        sa.Column("moved_at", UtcTime(), nullable=False),
    )


def _create_predictions() -> None:
    op.create_table(
        "prediction_slots",
        sa.Column("project", sa.String(128), primary_key=True),
        sa.Column("endpoint", sa.String(128), primary_key=True),
        sa.Column("start", UtcTime(), primary_key=True),
        sa.Column("model", sa.String(260), primary_key=True),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("errors", sa.BigInteger(), nullable=False),
        sa.Column("latency_n", sa.BigInteger(), nullable=False),
        sa.Column("latency_ms", sa.Float(), nullable=False),
        sa.Column("latency_ms_squared", sa.Float(), nullable=False),
        sa.Column("labels", sa.BigInteger(), nullable=False),
        sa.Column("loss", sa.Float(), nullable=False),
        sa.Column("loss_squared", sa.Float(), nullable=False),
    )
    op.create_index("ix_prediction_slots_model", "prediction_slots", ["project", "model", "start"])
    op.create_table(
        "predictions",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("project", sa.String(128), nullable=False),
        sa.Column("endpoint", sa.String(128), nullable=False),
        sa.Column("model", sa.String(260), nullable=False),
        sa.Column("shadow", sa.Boolean(), nullable=False),
        sa.Column("failed", sa.Boolean(), nullable=False),
        sa.Column("event_time", UtcTime(), nullable=False),
        sa.Column("outputs", Json(), nullable=False),
        sa.Column("label", Json()),
        sa.Column("labelled_at", UtcTime()),
    )
    op.create_index("ix_predictions_model", "predictions", ["project", "model", "id"])
    op.create_index("ix_predictions_endpoint", "predictions", ["project", "endpoint", "id"])


def _create_alerts() -> None:
    op.create_table(
        "alerts",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("project", sa.String(128), nullable=False),
        sa.Column("monitor", sa.String(128), nullable=False),
        sa.Column("endpoint", sa.String(128), nullable=False),
        sa.Column("model", sa.String(260), nullable=False),
        sa.Column("about", sa.String(32), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("since", UtcTime(), nullable=False),
        sa.Column("opened_at", UtcTime(), nullable=False),
        sa.Column("closed_at", UtcTime()),
        sa.Column("closed_reason", sa.Text(), nullable=False),
        sa.Column("owner", sa.String(256), nullable=False),
        sa.Column("evidence", Json(), nullable=False),
        sa.Column("event", sa.String(32), nullable=False),
    )
    op.create_index("ix_alerts_state", "alerts", ["project", "state", "id"])
    op.create_index("ix_alerts_monitor", "alerts", ["project", "monitor", "about", "state"])


def downgrade() -> None:
    names = ("alerts", "predictions", "prediction_slots", "monitor_cursors", "monitored_endpoints", "monitor_windows")
    for name in (*names, "monitors"):
        op.drop_table(name)
