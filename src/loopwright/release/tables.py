"""The tables of this room."""

from __future__ import annotations

from sqlalchemy import Column, Float, Index, Integer, String, Table, Text, text

from loopwright.store import Json, UtcTime, metadata

endpoints = Table(
    "endpoints",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("project", String(128), nullable=False),
    Column("model", String(256), nullable=False),
    Column("salt", String(32), nullable=False),
    Column("stable", String(300), nullable=False),
    Column("previous", String(300), nullable=False),
    Column("shares", Json, nullable=False),
    Column("rollout", String(32), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("actor", String(200), nullable=False),
    Column("log", Json, nullable=False, server_default="{}"),
    Index("ix_endpoints_project_name", "project", "name"),
)

# One row: how often what is served has changed. The inference process goes by it.
serving_revisions = Table(
    "serving_revisions",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("revision", Integer, nullable=False),
)

approvals = Table(
    "approvals",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("project", String(128), nullable=False),
    Column("subject", String(400), nullable=False),
    Column("model", String(300), nullable=False),
    Column("endpoint", String(128), nullable=False),
    Column("state", String(16), nullable=False),
    Column("requested_at", UtcTime, nullable=False),
    Column("requested_by", String(200), nullable=False),
    Column("decided_at", UtcTime),
    Column("decided_by", String(200), nullable=False),
    Column("reason", Text, nullable=False),
    Column("event", String(40), nullable=False),
    Index("ix_approvals_project_id", "project", "id"),
    Index("ix_approvals_project_state_id", "project", "state", "id"),
)

_ACTIVE = text("state IN ('running', 'held', 'guarding')")

rollouts = Table(
    "rollouts",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("project", String(128), nullable=False),
    Column("endpoint", String(128), nullable=False),
    Column("control", String(300), nullable=False),
    Column("candidate", String(300), nullable=False),
    Column("plan", Json, nullable=False),
    Column("guard", Json, nullable=False),
    Column("state", String(16), nullable=False),
    Column("step", Integer, nullable=False),
    Column("share", Float, nullable=False),
    Column("started_at", UtcTime, nullable=False),
    Column("step_started_at", UtcTime, nullable=False),
    Column("starts", Json, nullable=False),
    Column("ended_at", UtcTime),
    Column("reason", Text, nullable=False),
    Column("statistics", Json, nullable=False),
    Column("control_before", Json, nullable=False),
    Column("event", String(40), nullable=False),
    Column("revision", Integer, nullable=False),
    Index("ix_rollouts_project_id", "project", "id"),
    Index("ix_rollouts_endpoint_id", "endpoint", "id"),
    # At most one rollout decides over an endpoint's traffic at a time.
    Index("ux_rollouts_active", "endpoint", unique=True, sqlite_where=_ACTIVE, postgresql_where=_ACTIVE),
)
