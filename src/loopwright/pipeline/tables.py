"""The tables of pipelines: what a run was asked to do, how its steps went, and the outputs that can be used again."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, String, Table, Text

from loopwright.store import Json, UtcTime, metadata

pipeline_runs = Table(
    "pipeline_runs",
    metadata,
    Column("run_id", String(32), primary_key=True),
    Column("project", String(128), nullable=False),
    Column("pipeline", String(400), nullable=False),
    Column("params", Json, nullable=False),
    Column("inputs", Json, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("capture", Json, nullable=False),
    Column("outputs", Json, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Index("ix_pipeline_runs_pipeline", "project", "pipeline", "run_id"),
)

pipeline_steps = Table(
    "pipeline_steps",
    metadata,
    Column("run_id", String(32), primary_key=True),
    Column("name", String(200), primary_key=True),
    Column("project", String(128), nullable=False),
    Column("position", Integer, nullable=False),
    Column("status", String(16), nullable=False),
    Column("key", String(64), nullable=False),
    Column("cached", Boolean, nullable=False),
    Column("origin", String(32), nullable=False),
    Column("seconds", Float(53), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("output", Json),
    Column("error", Text, nullable=False),
)

step_outputs = Table(
    "step_outputs",
    metadata,
    Column("project", String(128), primary_key=True),
    Column("key", String(64), primary_key=True),
    Column("function", String(400), nullable=False),
    Column("run_id", String(32), nullable=False),
    Column("output", Json, nullable=False),
    Column("notes", String(64), nullable=False),
    Column("seconds", Float(53), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Index("ix_step_outputs_created", "created_at"),
)
