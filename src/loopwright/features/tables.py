"""The tables of this room."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Integer, String, Table

from loopwright.store import Json, UtcTime, metadata

feature_views = Table(
    "feature_views",
    metadata,
    Column("project", String(128), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("body", Json, nullable=False),
    Column("types", Json, nullable=False),
    Column("applied_at", UtcTime, nullable=False),
    Column("materialised_until", UtcTime),
    Column("materialised_version", Integer),
    Column("materialised_held", Boolean, nullable=False),
)

feature_services = Table(
    "feature_services",
    metadata,
    Column("project", String(128), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("body", Json, nullable=False),
    Column("applied_at", UtcTime, nullable=False),
)
