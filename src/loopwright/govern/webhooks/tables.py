"""The tables of webhooks."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Index, Integer, String, Table, Text, text

from loopwright.store import Json, UtcTime, metadata

_WAITING = text("ended_at IS NULL")

# `secret` signs what is sent, so it is kept whole; with a key it is sealed (sealing.py). No operation gives it back.
webhooks = Table(
    "webhooks",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("project", String(128), nullable=False),
    Column("name", String(128), nullable=False),
    Column("url", String(2000), nullable=False),
    Column("events", Json, nullable=False),
    Column("format", String(40), nullable=False),
    Column("description", Text, nullable=False),
    Column("secret", Text, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    Column("created_by", String(256), nullable=False),
    Column("failures", Integer, nullable=False),
    Column("next_at", UtcTime),
    Index("ix_webhooks_project", "project", "id"),
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
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
    Index("ix_webhook_deliveries_webhook", "webhook", "id"),
    Index("ix_webhook_deliveries_waiting", "webhook", "id", sqlite_where=_WAITING, postgresql_where=_WAITING),
    Index("ix_webhook_deliveries_ended", "ended_at"),
)
