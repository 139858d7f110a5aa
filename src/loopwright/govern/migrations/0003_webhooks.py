"""Webhooks, and what is to be delivered to them."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Boolean, Column, Integer, String, Text, text

from loopwright.store import Json, UtcTime

revision = "govern_0003"
down_revision = "govern_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "webhooks",
        Column("id", String(32), primary_key=True),
        Column("project", String(128), nullable=False),
        Column("name", String(128), nullable=False),
        Column("url", String(2000), nullable=False),
        Column("events", Json, nullable=False),
        Column("format", String(40), nullable=False),
        Column("description", Text, nullable=False),
        Column("secret", String(1000), nullable=False),
        Column("active", Boolean, nullable=False),
        Column("created_at", UtcTime, nullable=False),
        Column("updated_at", UtcTime, nullable=False),
        Column("created_by", String(256), nullable=False),
        Column("failures", Integer, nullable=False),
        Column("next_at", UtcTime),
    )
    op.create_index("ix_webhooks_project", "webhooks", ["project", "id"])
    op.create_table(
        "webhook_deliveries",
        Column("id", String(32), primary_key=True),
        Column("webhook", String(32), nullable=False),
        Column("event", String(128), nullable=False),
        Column("event_id", String(32), nullable=False),
        Column("body", Text, nullable=False),
        Column("state", String(16), nullable=False),
        Column("attempts", Integer, nullable=False),
        Column("created_at", UtcTime, nullable=False),
        Column("ended_at", UtcTime),
        Column("status", Integer),
        Column("problem", String(500), nullable=False),
    )
    op.create_index("ix_webhook_deliveries_webhook", "webhook_deliveries", ["webhook", "id"])
    waiting = text("ended_at IS NULL")
    op.create_index(
        "ix_webhook_deliveries_waiting",
        "webhook_deliveries",
        ["webhook", "id"],
        sqlite_where=waiting,
        postgresql_where=waiting,
    )
    op.create_index("ix_webhook_deliveries_ended", "webhook_deliveries", ["ended_at"])
