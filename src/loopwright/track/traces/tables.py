"""The tables of traces."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, String, Table

from loopwright.store import Json, LongText, UtcTime, metadata, ordered
from loopwright.track.owned_texts import texts_table

# `run` made the trace; `trace_runs` names others that it was linked to later.
traces = Table(
    "traces",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("project", String(128), nullable=False),
    Column("experiment_id", String(32), nullable=False),
    Column("state", ordered(16), nullable=False),
    Column("started_at", UtcTime, nullable=False),
    Column("duration_ms", BigInteger),
    Column("run", ordered(32), nullable=False),
    Column("client_request", ordered(500), nullable=False),
    Column("request_preview", LongText, nullable=False),
    Column("response_preview", LongText, nullable=False),
    Column("actor", String(256), nullable=False),
    Index("ix_traces_started", "project", "experiment_id", "started_at", "id"),
    Index("ix_traces_run", "run"),
    sqlite_with_rowid=False,
)

trace_tags = texts_table("trace_tags", "trace")

trace_metadata = texts_table("trace_metadata", "trace")

trace_runs = Table(
    "trace_runs",
    metadata,
    Column("trace", String(64), primary_key=True),
    Column("run", ordered(32), primary_key=True),
    Index("ix_trace_runs_run", "run", "trace"),
    sqlite_with_rowid=False,
)

trace_assessments = Table(
    "trace_assessments",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("trace", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("name", ordered(250), nullable=False),
    Column("content", Json, nullable=False),
    Column("source_type", String(64), nullable=False),
    Column("source_id", String(250), nullable=False),
    Column("span", String(64), nullable=False),
    Column("rationale", LongText, nullable=False),
    Column("metadata", Json, nullable=False),
    Column("overrides", String(64), nullable=False),
    Column("valid", Boolean, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    Index("ix_trace_assessments_trace", "trace", "created_at"),
)

# What a span holds beside these columns is in `content`, whose bytes `size_bytes` counts.
trace_spans = Table(
    "trace_spans",
    metadata,
    Column("trace", String(64), primary_key=True),
    Column("id", String(16), primary_key=True),
    Column("parent", String(16), nullable=False),
    Column("name", ordered(250), nullable=False),
    Column("kind", ordered(64), nullable=False),
    Column("status", ordered(16), nullable=False),
    Column("started_ns", BigInteger, nullable=False),
    Column("ended_ns", BigInteger),
    Column("content", Json, nullable=False),
    Column("size_bytes", Integer, nullable=False),
    sqlite_with_rowid=False,
)
