"""The tables of tracking.

A run has a number (`seq`) beside its id, so that the rows below it carry 8 bytes and not 32. Keys of params, metrics
and tags are interned in `run_keys`. `run_series` has one row per metric of a run, with its last value, which is what
searches read. The points themselves are in three places: `run_blocks` has up to 16,384 points of a series a row,
packed, with a summary for plots (`loopwright.track.blocks`); what was written in small pieces waits to be packed so in
`run_points`, a row a point, or, where a call brought many metrics of a run, in `run_frames`, a row a call
(`loopwright.track.frames`). `run_deliveries` says how far each segment of a client's spool has arrived.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    TableClause,
    Text,
    UniqueConstraint,
    func,
)
from sqlalchemy import column as sql_column
from sqlalchemy.ext.compiler import compiles

from loopwright.store import Json, LongText, UtcTime, metadata, ordered

# SQLite hands out row numbers only for a column of exactly this type.
Number = BigInteger().with_variant(Integer, "sqlite")


def unindexed(column: Any) -> Any:
    """A text column in a condition that must not choose the index: SQLite, which has no statistics, takes a project for
    as rare as an id, and would walk all of its runs to find a few by their ids."""
    return func.coalesce(column, "")


experiments = Table(
    "experiments",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("project", String(128), nullable=False),
    Column("name", ordered(500), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("baseline", String(32), nullable=False, server_default=""),
    Column("updated_at", UtcTime, nullable=False, server_default="0"),
    # Of an experiment that was deleted, and the same of each run that was deleted with it.
    Column("deleted_at", UtcTime),
    UniqueConstraint("project", "name", name="uq_experiments_name"),
)

experiment_tags = Table(
    "experiment_tags",
    metadata,
    Column("experiment_id", String(32), primary_key=True),
    Column("key", String(250), primary_key=True),
    Column("value", LongText, nullable=False),
    Index("ix_experiment_tags_key", "key", "experiment_id"),
    sqlite_with_rowid=False,
)

runs = Table(
    "runs",
    metadata,
    Column("seq", Number, primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False),
    Column("project", String(128), nullable=False),
    Column("experiment_id", String(32), nullable=False),
    Column("name", ordered(500), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("status", String(16), nullable=False),
    Column("actor", String(256), nullable=False),
    Column("parent", String(32), nullable=False),
    Column("error", Text, nullable=False),
    Column("started_at", UtcTime, nullable=False),
    Column("ended_at", UtcTime),
    Column("deleted_at", UtcTime),
    UniqueConstraint("id", name="uq_runs_id"),
    Index("ix_runs_started", "project", "started_at", "seq"),
    Index("ix_runs_experiment", "experiment_id", "started_at", "seq"),
    Index("ix_runs_status", "project", "status", "started_at", "seq"),
    Index("ix_runs_name", "project", "name", "seq"),
    Index("ix_runs_parent", "parent", "seq"),
)

# A number that changes with whatever a run's record shows (`loopwright.track.revisions`).
run_changes = Table(
    "run_changes",
    metadata,
    Column("run_seq", Number, primary_key=True, autoincrement=False),
    Column("revision", BigInteger, nullable=False),
    Index("ix_run_changes_revision", "revision", "run_seq"),
)

run_turns = Table(
    "run_turns",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("number", BigInteger, nullable=False),
)

run_keys = Table(
    "run_keys",
    metadata,
    Column("id", Number, primary_key=True, autoincrement=True),
    Column("key", String(250), nullable=False),
    UniqueConstraint("key", name="uq_run_keys_key"),
)

run_params = Table(
    "run_params",
    metadata,
    Column("run_seq", BigInteger, primary_key=True, autoincrement=False),
    Column("key_id", BigInteger, primary_key=True, autoincrement=False),
    Column("value", LongText, nullable=False),
    Column("head", ordered(100), nullable=False),
    Index("ix_run_params_head", "key_id", "head", "run_seq"),
    sqlite_with_rowid=False,
)

run_tags = Table(
    "run_tags",
    metadata,
    Column("run_seq", BigInteger, primary_key=True, autoincrement=False),
    Column("key_id", BigInteger, primary_key=True, autoincrement=False),
    Column("value", LongText, nullable=False),
    Column("head", ordered(100), nullable=False),
    Index("ix_run_tags_head", "key_id", "head", "run_seq"),
    sqlite_with_rowid=False,
)

run_series = Table(
    "run_series",
    metadata,
    Column("id", Number, primary_key=True, autoincrement=True),
    Column("run_seq", BigInteger, nullable=False),
    Column("key_id", BigInteger, nullable=False),
    Column("last_step", BigInteger, nullable=False),
    Column("last_at", BigInteger, nullable=False),
    Column("last_bits", BigInteger, nullable=False),
    # The last value where it is finite or infinite; NULL for NaN, which no comparison matches.
    Column("last_value", Float(53)),
    # About how many rows of run_points the series has; a server of the revision before does not count.
    Column("tail_count", BigInteger, nullable=False, server_default="0"),
    UniqueConstraint("run_seq", "key_id", name="uq_run_series_key"),
    # PostgreSQL has more columns and other indexes here: see `run_lasts`.
    Index("ix_run_series_last", "key_id", "last_value", "run_seq").ddl_if(dialect="sqlite"),
)


class _Lasts(TableClause):
    """A view on PostgreSQL, `run_series` itself on SQLite; to be used by an alias."""

    inherit_cache = True


@compiles(_Lasts, "sqlite")
def _itself(_element: Any, _compiler: Any, **_named: Any) -> str:
    return "run_series"


# The last values of metrics where they are to be found by their size, or by their key. On PostgreSQL an index that
# holds them would have to follow each point that is logged; it follows when a run ends (migrations/0012_lasts.py).
run_lasts = _Lasts(
    "run_lasts", *(sql_column(name) for name in ("run_seq", "key_id")), sql_column("last_value", Float(53))
)

run_points = Table(
    "run_points",
    metadata,
    Column("series_id", BigInteger, primary_key=True, autoincrement=False),
    Column("step", BigInteger, primary_key=True, autoincrement=False),
    Column("at", BigInteger, primary_key=True, autoincrement=False),
    Column("bits", BigInteger, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)

run_blocks = Table(
    "run_blocks",
    metadata,
    Column("id", Number, primary_key=True, autoincrement=True),
    Column("series_id", BigInteger, nullable=False),
    Column("first_step", BigInteger, nullable=False),
    Column("last_step", BigInteger, nullable=False),
    Column("count", BigInteger, nullable=False),
    # What a plot reads stands before the points, so that it never touches their pages.
    Column("outline", LargeBinary, nullable=False),
    Column("summary", LargeBinary, nullable=False),
    Column("points", LargeBinary, nullable=False),
    Index("ix_run_blocks_range", "series_id", "last_step", "first_step", "count", "id"),
)

run_frames = Table(
    "run_frames",
    metadata,
    Column("id", Number, primary_key=True, autoincrement=True),
    Column("run_seq", BigInteger, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("points", LargeBinary, nullable=False),
    Index("ix_run_frames_run", "run_seq", "count"),
)

run_deliveries = Table(
    "run_deliveries",
    metadata,
    Column("spool", String(64), primary_key=True),
    Column("segment", BigInteger, primary_key=True, autoincrement=False),
    Column("position", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

run_inputs = Table(
    "run_inputs",
    metadata,
    Column("run_seq", BigInteger, primary_key=True, autoincrement=False),
    Column("ref", String(300), primary_key=True),
    Column("name", String(250), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("dataset", ordered(500), nullable=False, server_default=""),
    Column("context", ordered(250), nullable=False, server_default=""),
    Index("ix_run_inputs_ref", "ref", "run_seq"),
    Index("ix_run_inputs_digest", "digest", "run_seq"),
    Index("ix_run_inputs_dataset", "dataset", "run_seq"),
    sqlite_with_rowid=False,
)

run_artifacts = Table(
    "run_artifacts",
    metadata,
    Column("run_seq", BigInteger, primary_key=True, autoincrement=False),
    Column("path", String(1024), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Index("ix_run_artifacts_digest", "digest"),
    sqlite_with_rowid=False,
)

run_datasets = Table(
    "run_datasets",
    metadata,
    Column("id", Number, primary_key=True, autoincrement=True),
    Column("experiment_id", String(32), nullable=False),
    Column("name", ordered(500), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("source_type", String(100), nullable=False),
    Column("source", Text, nullable=False),
    Column("schema", Text, nullable=False),
    Column("profile", Text, nullable=False),
    UniqueConstraint("experiment_id", "name", "digest", name="uq_run_datasets_digest"),
)

run_dataset_uses = Table(
    "run_dataset_uses",
    metadata,
    Column("run_seq", BigInteger, primary_key=True, autoincrement=False),
    Column("dataset_id", BigInteger, primary_key=True, autoincrement=False),
    Column("tags", Json, nullable=False),
    Index("ix_run_dataset_uses_dataset", "dataset_id", "run_seq"),
    sqlite_with_rowid=False,
)

# The models that a run read (role `input`) and made (`output`).
run_models = Table(
    "run_models",
    metadata,
    Column("run_seq", BigInteger, primary_key=True, autoincrement=False),
    Column("role", String(8), primary_key=True),
    Column("model", String(64), primary_key=True),
    Column("step", BigInteger, nullable=False),
    Index("ix_run_models_model", "model", "role", "run_seq"),
    sqlite_with_rowid=False,
)

# What page tokens are sealed with.
search_secrets = Table(
    "search_secrets",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("secret", String(64), nullable=False),
)
