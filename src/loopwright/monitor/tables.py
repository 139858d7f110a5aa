"""The tables of this room."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, LargeBinary, String, Table, Text

from loopwright.store import Json, UtcTime, metadata

monitors = Table(
    "monitors",
    metadata,
    Column("project", String(128), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("endpoint", String(128), nullable=False),
    Column("spec", Json, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("applied_at", UtcTime, nullable=False),
    Column("applied_by", String(256), nullable=False),
    Index("ix_monitors_endpoint", "project", "endpoint"),
)

# The state of a window (`state`) is kept until the window is judged; what was judged (`report`) stays.
monitor_windows = Table(
    "monitor_windows",
    metadata,
    Column("project", String(128), primary_key=True),
    Column("monitor", String(128), primary_key=True),
    Column("start", UtcTime, primary_key=True),
    Column("end", UtcTime, nullable=False),
    Column("endpoint", String(128), nullable=False),
    Column("stage", Integer, nullable=False),
    Column("model", String(300), nullable=False),
    Column("drift", String(32), nullable=False),
    Column("performance", String(32), nullable=False),
    Column("late_rows", BigInteger, nullable=False),
    Column("late_labels", BigInteger, nullable=False),
    Column("state", LargeBinary),
    Column("report", Json),
    Index("ix_monitor_windows_stage", "project", "monitor", "stage", "start"),
    Index("ix_monitor_windows_endpoint", "project", "endpoint", "start"),
)

# Sums over a quarter of an hour of event time, per endpoint and model version: what rollouts are judged by.
prediction_slots = Table(
    "prediction_slots",
    metadata,
    Column("project", String(128), primary_key=True),
    Column("endpoint", String(128), primary_key=True),
    Column("start", UtcTime, primary_key=True),
    Column("model", String(300), primary_key=True),
    Column("rows", BigInteger, nullable=False),
    Column("errors", BigInteger, nullable=False),
    Column("latency_n", BigInteger, nullable=False),
    Column("latency_ms", Float, nullable=False),
    Column("latency_ms_squared", Float, nullable=False),
    Column("labels", BigInteger, nullable=False),
    Column("loss", Float, nullable=False),
    Column("loss_squared", Float, nullable=False),
    Index("ix_prediction_slots_model", "project", "model", "start"),
)

# What a label that comes later needs of a prediction; rows older than the horizon are dropped.
predictions = Table(
    "predictions",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("project", String(128), nullable=False),
    Column("endpoint", String(128), nullable=False),
    Column("model", String(300), nullable=False),
    Column("shadow", Boolean, nullable=False),
    Column("failed", Boolean, nullable=False),
    Column("event_time", UtcTime, nullable=False),
    Column("outputs", Json, nullable=False),
    Column("label", Json),
    Column("labelled_at", UtcTime),
    Index("ix_predictions_model", "project", "model", "id"),
    Index("ix_predictions_endpoint", "project", "endpoint", "id"),
)

# Endpoints whose predictions were seen or asked for, each of one project. `loss_scale` is fixed by the first version
# of a regression, so that the losses of all later ones can be compared.
monitored_endpoints = Table(
    "monitored_endpoints",
    metadata,
    Column("endpoint", String(128), primary_key=True),
    Column("project", String(128), nullable=False),
    Column("loss_scale", Float),
    Column("latest_event_at", UtcTime),
    Column("folded_at", UtcTime),
)

# How far a journal has been read. `number` grows with each step, so that two readers cannot both take it; `planned` is
# where the step that is under way ends.
monitor_cursors = Table(
    "monitor_cursors",
    metadata,
    Column("reader", String(64), primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("position", Json, nullable=False),
    Column("planned", Json),
    Column("moved_at", UtcTime, nullable=False),
)

alerts = Table(
    "alerts",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("project", String(128), nullable=False),
    Column("monitor", String(128), nullable=False),
    Column("endpoint", String(128), nullable=False),
    Column("model", String(300), nullable=False),
    Column("about", String(32), nullable=False),
    Column("state", String(16), nullable=False),
    Column("summary", Text, nullable=False),
    Column("since", UtcTime, nullable=False),
    Column("opened_at", UtcTime, nullable=False),
    Column("closed_at", UtcTime),
    Column("closed_reason", Text, nullable=False),
    Column("owner", String(256), nullable=False),
    Column("evidence", Json, nullable=False),
    Column("event", String(32), nullable=False),
    Index("ix_alerts_state", "project", "state", "id"),
    Index("ix_alerts_monitor", "project", "monitor", "about", "state"),
)
