"""The tables of this room."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, String, Table, Text, text

from loopwright.store import Json, UtcTime, metadata

loops = Table(
    "loops",
    metadata,
    Column("project", String(128), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("spec", Json, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("declared_at", UtcTime, nullable=False),
    Column("declared_by", String(200), nullable=False),
    Column("last_triggered_at", UtcTime),
)

_WAITING = text("state = 'waiting'")

# What asks a loop to start. A cause asks each loop once: that is what keeps a trigger from counting twice.
loop_triggers = Table(
    "loop_triggers",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("project", String(128), nullable=False),
    Column("loop", String(128), nullable=False),
    Column("cause", String(200), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("subject", String(400), nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("evidence", Json, nullable=False),
    Column("state", String(16), nullable=False),
    Column("run", String(32), nullable=False),
    Index("ux_loop_triggers_cause", "project", "loop", "cause", unique=True),
    Index("ix_loop_triggers_waiting", "id", sqlite_where=_WAITING, postgresql_where=_WAITING),
)

_ACTIVE = text("state <> 'finished'")

loop_runs = Table(
    "loop_runs",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("project", String(128), nullable=False),
    Column("loop", String(128), nullable=False),
    Column("spec", Json, nullable=False),
    Column("state", String(24), nullable=False),
    Column("outcome", String(24), nullable=False),
    Column("trigger", String(32), nullable=False),
    Column("cause", String(200), nullable=False),
    Column("last_event", String(40), nullable=False),
    Column("training_run", String(32), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("model_version", String(300), nullable=False),
    Column("holdout", String(300), nullable=False),
    Column("approval", String(32), nullable=False),
    Column("rollout", String(32), nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    Column("revision", Integer, nullable=False),
    Index("ix_loop_runs_project_loop_id", "project", "loop", "id"),
    Index("ix_loop_runs_project_id", "project", "id"),
    Index("ix_loop_runs_active", "id", sqlite_where=_ACTIVE, postgresql_where=_ACTIVE),
)

# One row while the workspace's clock is simulated: where it stands.
workspace_clocks = Table(
    "workspace_clocks",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("now", UtcTime, nullable=False),
)

# One row: which process has the controller's lease, so that a successor on the same machine need not wait for a dead
# one's lease to run out.
loop_controllers = Table(
    "loop_controllers",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("holder", String(200), nullable=False),
    Column("host", String(200), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("pid_started", Float, nullable=False),
)

# Declared jobs of batch scoring. `scored_to` is the version of the input up to which rows are scored.
scoring_jobs = Table(
    "scoring_jobs",
    metadata,
    Column("project", String(128), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("spec", Json, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("declared_at", UtcTime, nullable=False),
    Column("declared_by", String(200), nullable=False),
    Column("last_triggered_at", UtcTime),
    Column("scored_to", String(1200), nullable=False),
)

_UNDER_WAY = text("state IN ('waiting', 'running')")

scoring_runs = Table(
    "scoring_runs",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("project", String(128), nullable=False),
    Column("job", String(128), nullable=False),
    Column("spec", Json, nullable=False),
    Column("state", String(16), nullable=False),
    Column("trigger", String(32), nullable=False),
    Column("cause", String(200), nullable=False),
    Column("model", String(300), nullable=False),
    Column("source", String(1200), nullable=False),
    Column("since", Integer),
    Column("append", Boolean, nullable=False),
    Column("made", String(1200), nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("bad_rows", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    Column("revision", Integer, nullable=False),
    Index("ix_scoring_runs_project_job_id", "project", "job", "id"),
    Index("ix_scoring_runs_project_id", "project", "id"),
    Index("ix_scoring_runs_under_way", "id", sqlite_where=_UNDER_WAY, postgresql_where=_UNDER_WAY),
)
