"""Experiments, runs and what hangs on them."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, Float, Integer, String, Text, UniqueConstraint

from loopwright.store import UtcTime

revision = "track_0001"
down_revision = None
branch_labels = ("track",)
depends_on = None

Number = BigInteger().with_variant(Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "experiments",
        Column("id", String(32), primary_key=True),
        Column("project", String(128), nullable=False),
        Column("name", String(500), nullable=False),
        Column("created_at", UtcTime, nullable=False),
        Column("baseline", String(32), nullable=False, server_default=""),
        UniqueConstraint("project", "name", name="uq_experiments_name"),
    )
    _create_runs()
    op.create_table(
        "run_keys",
        Column("id", Number, primary_key=True, autoincrement=True),
        Column("key", String(250), nullable=False),
        UniqueConstraint("key", name="uq_run_keys_key"),
    )
    for name in ("run_params", "run_tags"):
        _create_texts(name)
    _create_metrics()
    _create_files()


def _create_runs() -> None:
    op.create_table(
        "runs",
        Column("seq", Number, primary_key=True, autoincrement=True),
        Column("id", String(32), nullable=False),
        Column("project", String(128), nullable=False),
        Column("experiment_id", String(32), nullable=False),
        Column("name", String(500), nullable=False),
        Column("kind", String(32), nullable=False),
        Column("status", String(16), nullable=False),
        Column("actor", String(256), nullable=False),
        Column("parent", String(32), nullable=False),
        Column("error", Text, nullable=False),
        Column("started_at", UtcTime, nullable=False),
        Column("ended_at", UtcTime),
        Column("deleted_at", UtcTime),
        UniqueConstraint("id", name="uq_runs_id"),
    )
    op.create_index("ix_runs_started", "runs", ["project", "started_at", "seq"])
    op.create_index("ix_runs_experiment", "runs", ["experiment_id", "started_at", "seq"])
    op.create_index("ix_runs_status", "runs", ["project", "status", "started_at", "seq"])
    op.create_index("ix_runs_name", "runs", ["project", "name", "seq"])
    op.create_index("ix_runs_parent", "runs", ["parent", "seq"])


def _create_texts(name: str) -> None:
    op.create_table(
        name,
        Column("run_seq", BigInteger, primary_key=True, autoincrement=False),
        Column("key_id", BigInteger, primary_key=True, autoincrement=False),
        Column("value", Text, nullable=False),
        Column("head", String(100), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index(f"ix_{name}_head", name, ["key_id", "head", "run_seq"])


def _create_metrics() -> None:
    op.create_table(
        "run_series",
        Column("id", Number, primary_key=True, autoincrement=True),
        Column("run_seq", BigInteger, nullable=False),
        Column("key_id", BigInteger, nullable=False),
        Column("last_step", BigInteger, nullable=False),
        Column("last_at", BigInteger, nullable=False),
        Column("last_bits", BigInteger, nullable=False),
        Column("last_value", Float(53)),
        UniqueConstraint("run_seq", "key_id", name="uq_run_series_key"),
    )
    op.create_index("ix_run_series_last", "run_series", ["key_id", "last_value", "run_seq"])
    op.create_table(
        "run_points",
        Column("series_id", BigInteger, primary_key=True, autoincrement=False),
        Column("step", BigInteger, primary_key=True, autoincrement=False),
        Column("at", BigInteger, primary_key=True, autoincrement=False),
        Column("bits", BigInteger, primary_key=True, autoincrement=False),
        sqlite_with_rowid=False,
    )


def _create_files() -> None:
    op.create_table(
        "run_inputs",
        Column("run_seq", BigInteger, primary_key=True, autoincrement=False),
        Column("ref", String(300), primary_key=True),
        Column("name", String(250), nullable=False),
        Column("digest", String(64), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_run_inputs_ref", "run_inputs", ["ref", "run_seq"])
    op.create_table(
        "run_artifacts",
        Column("run_seq", BigInteger, primary_key=True, autoincrement=False),
        Column("path", String(1024), primary_key=True),
        Column("digest", String(64), nullable=False),
        Column("size_bytes", BigInteger, nullable=False),
        Column("created_at", UtcTime, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_run_artifacts_digest", "run_artifacts", ["digest"])
