"""The tables of the registry: names, versions, aliases, tags.

A name or version that was deleted keeps its row: its number is never given to another thing, and what was made of it
can still be traced.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, PrimaryKeyConstraint, String, Table, Text

from loopwright.store import Json, LongText, UtcTime, metadata, ordered

models = Table(
    "models",
    metadata,
    Column("project", String(128), nullable=False),
    Column("name", ordered(256), nullable=False),
    Column("description", Text, nullable=False, server_default=""),
    Column("created_at", UtcTime, nullable=False),
    Column("latest", Integer, nullable=False),
    Column("tags", Json, nullable=False, server_default="{}"),
    Column("updated_at", UtcTime, nullable=False, server_default="0"),
    Column("deleted_at", UtcTime),
    # Of a name that was given up for another: where refs to its versions lead.
    Column("renamed_to", ordered(256), nullable=False, server_default=""),
    PrimaryKeyConstraint("project", "name"),
    Index("ix_models_updated", "project", "updated_at", "name"),
)

model_versions = Table(
    "model_versions",
    metadata,
    Column("project", String(128), nullable=False),
    Column("name", ordered(256), nullable=False),
    Column("version", Integer, nullable=False),
    Column("bundle", String(64), nullable=False),
    Column("task", String(16), nullable=False),
    Column("run", ordered(64), nullable=False),
    Column("training_data", Json, nullable=False),
    Column("metrics", Json, nullable=False),
    Column("tags", Json, nullable=False),
    Column("description", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("actor", String(200), nullable=False),
    Column("updated_at", UtcTime, nullable=False, server_default="0"),
    Column("deleted_at", UtcTime),
    Column("kind", String(16), nullable=False, server_default="bundle"),
    Column("source", LongText, nullable=False, server_default=""),
    Column("run_link", Text, nullable=False, server_default=""),
    Column("model_id", String(64), nullable=False, server_default=""),
    Column("stage", String(16), nullable=False, server_default="None"),
    Column("scan", Json, nullable=False, server_default="{}"),
    PrimaryKeyConstraint("project", "name", "version"),
    Index("ix_model_versions_bundle", "project", "bundle"),
    Index("ix_model_versions_run", "project", "run"),
    Index("ix_model_versions_updated", "project", "updated_at", "name", "version"),
    Index("ix_model_versions_model", "project", "model_id"),
)

# What searches read of the tags: those of a name have the version 0.
model_tags = Table(
    "model_tags",
    metadata,
    Column("project", String(128), nullable=False),
    Column("name", ordered(256), nullable=False),
    Column("version", Integer, nullable=False),
    Column("key", ordered(250), nullable=False),
    Column("value", LongText, nullable=False),
    Column("head", ordered(100), nullable=False),
    PrimaryKeyConstraint("project", "name", "version", "key"),
    Index("ix_model_tags_head", "project", "key", "head"),
)

model_aliases = Table(
    "model_aliases",
    metadata,
    Column("project", String(128), nullable=False),
    Column("name", ordered(256), nullable=False),
    Column("alias", String(128), nullable=False),
    Column("version", Integer, nullable=False),
    Column("moved_at", UtcTime, nullable=False),
    Column("actor", String(200), nullable=False),
    PrimaryKeyConstraint("project", "name", "alias"),
)

# Signatures over bundles: whoever holds the bundle, by whatever name, holds them too.
model_signatures = Table(
    "model_signatures",
    metadata,
    Column("project", String(128), nullable=False),
    Column("bundle", String(64), nullable=False),
    Column("key", String(64), nullable=False),
    Column("signature", String(64), nullable=False),
    Column("public_key", Text, nullable=False),
    Column("signed_at", UtcTime, nullable=False),
    Column("actor", String(200), nullable=False),
    PrimaryKeyConstraint("project", "bundle", "key"),
)
