"""The tables of this room. Only digests of secrets are kept."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, ForeignKey, Index, String, Table, Text

from loopwright.store import UtcTime, metadata

tokens = Table(
    "tokens",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("user_name", String(128), nullable=False),
    Column("note", String(256), nullable=False),
    Column("secret_digest", String(64), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("created_by", String(256), nullable=False),
    Column("expires_at", UtcTime),
    Column("revoked_at", UtcTime),
    Column("first", Boolean, nullable=False),
)

token_roles = Table(
    "token_roles",
    metadata,
    Column("token_id", String(32), ForeignKey("tokens.id"), primary_key=True),
    Column("project", String(128), primary_key=True),
    Column("role", String(16), nullable=False),
    Index("ix_token_roles_project", "project", "token_id"),
)

token_sessions = Table(
    "token_sessions",
    metadata,
    Column("cookie_digest", String(64), primary_key=True),
    Column("token_id", String(32), ForeignKey("tokens.id"), nullable=False),
    Column("csrf", String(64), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    Index("ix_token_sessions_expires_at", "expires_at"),
    Index("ix_token_sessions_token_id", "token_id"),
)

holds = Table(
    "holds",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("project", String(128), nullable=False),
    Column("ref", String(400), nullable=False),
    Column("reason", Text, nullable=False),
    Column("placed_at", UtcTime, nullable=False),
    Column("placed_by", String(256), nullable=False),
    Column("released_at", UtcTime),
    Column("released_by", String(256), nullable=False),
    Index("ix_holds_ref", "project", "ref"),
)
