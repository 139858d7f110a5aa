"""Tables of the event log."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, String, Table, text

from loopwright.store.db.schema import Json, UtcTime, metadata

_UNSEALED = text("position IS NULL")

events = Table(
    "events",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("kind", String(64), nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("recorded_at", UtcTime, nullable=False),
    Column("project", String(128), nullable=False),
    Column("actor", String(200), nullable=False),
    Column("subject", String(400), nullable=False),
    Column("cause", String(400), nullable=False),
    Column("evidence", Json, nullable=False),
    Column("position", BigInteger, nullable=True),
    Column("hash", String(64), nullable=False),
    Index("ix_events_position", "position", unique=True),
    Index("ix_events_unsealed", "id", sqlite_where=_UNSEALED, postgresql_where=_UNSEALED),
    Index("ix_events_kind_position", "kind", "position"),
    Index("ix_events_project_position", "project", "position"),
    Index("ix_events_subject_position", "subject", "position"),
)

# One row: where the chain ends. It shows when the newest events were removed.
chain = Table(
    "event_chain",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("position", BigInteger, nullable=False),
    Column("hash", String(64), nullable=False),
)

cursors = Table(
    "event_cursors",
    metadata,
    Column("reader", String(200), primary_key=True),
    Column("position", BigInteger, nullable=False),
)
