"""Tables of lineage."""

from __future__ import annotations

from sqlalchemy import Column, Index, String, Table

from loopwright.store.db.schema import Json, metadata

nodes = Table(
    "lineage_nodes",
    metadata,
    Column("project", String(128), primary_key=True),
    Column("ref", String(400), primary_key=True),
    Column("kind", String(64), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("attrs", Json, nullable=False),
)

edges = Table(
    "lineage_edges",
    metadata,
    Column("project", String(128), primary_key=True),
    Column("source", String(400), primary_key=True),
    Column("target", String(400), primary_key=True),
    Column("role", String(64), primary_key=True),
    Index("ix_lineage_edges_upstream", "project", "target", "source", "role"),
)
