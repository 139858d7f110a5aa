"""The tables of evaluation sets."""

from __future__ import annotations

from sqlalchemy import Column, Index, Integer, String, Table

from loopwright.store import Json, UtcTime, metadata, ordered
from loopwright.track.owned_texts import texts_table

eval_sets = Table(
    "eval_sets",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("project", String(128), nullable=False),
    Column("name", ordered(250), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("fields", Json, nullable=False),
    Column("records", Integer, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    Column("created_by", ordered(256), nullable=False),
    Column("updated_by", ordered(256), nullable=False),
    Index("ix_eval_sets_created", "project", "created_at", "id"),
    sqlite_with_rowid=False,
)

eval_set_tags = texts_table("eval_set_tags", "eval_set")

eval_set_experiments = Table(
    "eval_set_experiments",
    metadata,
    Column("eval_set", String(64), primary_key=True),
    Column("experiment_id", String(32), primary_key=True),
    Index("ix_eval_set_experiments_experiment", "experiment_id", "eval_set"),
    sqlite_with_rowid=False,
)

# `inputs_digest` is the digest of the inputs in canonical JSON.
eval_records = Table(
    "eval_records",
    metadata,
    Column("eval_set", String(64), primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("inputs_digest", String(64), nullable=False),
    Column("content", Json, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    Column("created_by", String(256), nullable=False),
    Column("updated_by", String(256), nullable=False),
    Index("ix_eval_records_inputs", "eval_set", "inputs_digest", unique=True),
    sqlite_with_rowid=False,
)
