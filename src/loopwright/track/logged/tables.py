"""The tables of logged models."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Index, String, Table, Text

from loopwright.store import UtcTime, metadata, ordered
from loopwright.track.owned_texts import texts_table

logged_models = Table(
    "logged_models",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("project", String(128), nullable=False),
    Column("experiment_id", String(32), nullable=False),
    Column("name", ordered(500), nullable=False),
    Column("model_type", ordered(500), nullable=False),
    Column("source_run", String(32), nullable=False),
    Column("status", String(16), nullable=False),
    Column("status_message", Text, nullable=False),
    Column("actor", String(256), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    Column("deleted_at", UtcTime),
    Index("ix_logged_models_created", "project", "experiment_id", "created_at", "id"),
    Index("ix_logged_models_run", "source_run"),
    sqlite_with_rowid=False,
)

logged_params = texts_table("logged_params", "model")

logged_tags = texts_table("logged_tags", "model")

# The newest point of each metric of a model, for each run and dataset that it was measured with. The value is kept as
# the integer of `to_bits`, and as a number where it is one.
logged_metrics = Table(
    "logged_metrics",
    metadata,
    Column("model", String(64), primary_key=True),
    Column("key", ordered(250), primary_key=True),
    Column("run", String(32), primary_key=True),
    Column("dataset", ordered(500), primary_key=True),
    Column("dataset_digest", String(64), primary_key=True),
    Column("bits", BigInteger, nullable=False),
    Column("value", Float(53)),
    Column("step", BigInteger, nullable=False),
    Column("at", BigInteger, nullable=False),
    Index("ix_logged_metrics_value", "key", "value", "model"),
    sqlite_with_rowid=False,
)
