"""The tables of this room."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, String, Table, Text

from loopwright.store import Json, UtcTime, metadata

datasets = Table(
    "datasets",
    metadata,
    Column("project", String(128), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("head", Integer, nullable=False),
    Column("created_at", UtcTime, nullable=False),
)

dataset_versions = Table(
    "dataset_versions",
    metadata,
    Column("project", String(128), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("part_digest", String(64), nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("columns", Json),
    Column("created_at", UtcTime, nullable=False),
    Column("actor", String(256), nullable=False),
    Column("source", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("parent", Integer),
    Column("table_version", BigInteger),
    Column("once", String(128)),
    Index("ix_dataset_versions_once", "project", "name", "once", unique=True),
    Index("ix_dataset_versions_digest", "digest"),
)

dataset_profiles = Table(
    "dataset_profiles",
    metadata,
    Column("project", String(128), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("sketch", String(64), nullable=False),
    Column("created_at", UtcTime, nullable=False),
)

dataset_suites = Table(
    "dataset_suites",
    metadata,
    Column("project", String(128), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("body", Json, nullable=False),
    Column("saved_at", UtcTime, nullable=False),
)

dataset_checks = Table(
    "dataset_checks",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("project", String(128), nullable=False),
    Column("name", String(128), nullable=False),
    Column("version", Integer, nullable=False),
    Column("suite", String(128), nullable=False),
    Column("passed", Boolean, nullable=False),
    Column("report", Json, nullable=False),
    Column("checked_at", UtcTime, nullable=False),
    Index("ix_dataset_checks_dataset", "project", "name", "id"),
)
