"""The tables of searches."""

from __future__ import annotations

from sqlalchemy import Column, Float, Integer, String, Table, Text

from loopwright.store import Json, UtcTime, metadata

searches = Table(
    "searches",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("project", String(128), nullable=False),
    Column("spec", Json, nullable=False),
    Column("created_at", UtcTime, nullable=False),
)

search_trials = Table(
    "search_trials",
    metadata,
    Column("search_id", String(32), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("project", String(128), nullable=False),
    Column("run_id", String(32), nullable=False),
    Column("state", String(16), nullable=False),
    Column("params", Json, nullable=False),
    Column("space", Json, nullable=False),
    Column("value", Float(53)),
    Column("reports", Json, nullable=False),
    Column("error", Text, nullable=False),
)
