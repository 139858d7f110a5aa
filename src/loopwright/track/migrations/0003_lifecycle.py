"""Experiments have tags and can be deleted; datasets of runs can be searched; texts are ordered by their bytes."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, String, Text, column, func, table, update
from sqlalchemy.dialects import postgresql

from loopwright.store import UtcTime

revision = "track_0003"
down_revision = "track_0002"
branch_labels = None
depends_on = None

_TEXTS = (("run_params", "value"), ("run_tags", "value"))
_WORDS = (("experiments", "name", 500), ("runs", "name", 500), ("run_params", "head", 100), ("run_tags", "head", 100))


def upgrade() -> None:
    op.add_column("experiments", Column("updated_at", UtcTime, nullable=False, server_default="0"))
    op.add_column("experiments", Column("deleted_at", UtcTime))
    op.execute("UPDATE experiments SET updated_at = created_at")
    op.create_table(
        "experiment_tags",
        Column("experiment_id", String(32), primary_key=True),
        Column("key", String(250), primary_key=True),
        Column("value", Text().with_variant(postgresql.TEXT(collation="C"), "postgresql"), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_experiment_tags_key", "experiment_tags", ["key", "experiment_id"])
    op.create_table(
        "search_secrets",
        Column("name", String(64), primary_key=True),
        Column("secret", String(64), nullable=False),
    )
    _name_datasets()
    _order_by_bytes()


def _name_datasets() -> None:
    for name, length in (("dataset", 500), ("context", 250)):
        kind = String(length).with_variant(postgresql.VARCHAR(length, collation="C"), "postgresql")
        op.add_column("run_inputs", Column(name, kind, nullable=False, server_default=""))
    op.execute("UPDATE run_inputs SET context = name")
    op.create_index("ix_run_inputs_digest", "run_inputs", ["digest", "run_seq"])
    op.create_index("ix_run_inputs_dataset", "run_inputs", ["dataset", "run_seq"])
    inputs = table("run_inputs", column("ref", String), column("dataset", String))
    position = func.instr if op.get_bind().dialect.name == "sqlite" else func.strpos
    # What stands between `dataset:` and `@` in a ref.
    dataset = func.substr(inputs.c.ref, 9, position(inputs.c.ref + "@", "@") - 9)
    op.execute(update(inputs).values(dataset=dataset).where(inputs.c.ref.like("dataset:%")))


def _order_by_bytes() -> None:
    if op.get_bind().dialect.name != "postgresql":
        return
    for name, text in _TEXTS:
        op.alter_column(name, text, type_=postgresql.TEXT(collation="C"))
    for name, word, length in _WORDS:
        op.alter_column(name, word, type_=postgresql.VARCHAR(length, collation="C"))
