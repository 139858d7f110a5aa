"""The tables of the registry: names, versions, aliases."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, PrimaryKeyConstraint, String, Table, Text

from loopwright.store import Json, UtcTime, metadata

models = Table(
    "models",
    metadata,
    Column("project", String(128), nullable=False),
    Column("name", String(128), nullable=False),
    Column("description", Text, nullable=False, server_default=""),
    Column("created_at", UtcTime, nullable=False),
    Column("latest", Integer, nullable=False),
    PrimaryKeyConstraint("project", "name"),
)

model_versions = Table(
    "model_versions",
    metadata,
    Column("project", String(128), nullable=False),
    Column("name", String(128), nullable=False),
    Column("version", Integer, nullable=False),
    Column("bundle", String(64), nullable=False),
    Column("task", String(16), nullable=False),
    Column("run", String(32), nullable=False),
    Column("training_data", Json, nullable=False),
    Column("metrics", Json, nullable=False),
    Column("tags", Json, nullable=False),
    Column("description", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("actor", String(200), nullable=False),
    PrimaryKeyConstraint("project", "name", "version"),
    Index("ix_model_versions_bundle", "project", "bundle"),
    Index("ix_model_versions_run", "project", "run"),
)

model_aliases = Table(
    "model_aliases",
    metadata,
    Column("project", String(128), nullable=False),
    Column("name", String(128), nullable=False),
    Column("alias", String(128), nullable=False),
    Column("version", Integer, nullable=False),
    Column("moved_at", UtcTime, nullable=False),
    Column("actor", String(200), nullable=False),
    PrimaryKeyConstraint("project", "name", "alias"),
)
