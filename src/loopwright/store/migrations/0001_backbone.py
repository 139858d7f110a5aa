"""State, leases, events and lineage."""

import sqlalchemy as sa
from alembic import op

from loopwright.store import Json, UtcTime

revision = "store_0001"
down_revision = None
branch_labels = ("store",)
depends_on = None


def upgrade() -> None:
    _create_state_and_leases()
    _create_events()
    _create_lineage()


def _create_state_and_leases() -> None:
    op.create_table(
        "store_state",
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.String(200), primary_key=True),
        sa.Column("holder", sa.String(200), nullable=False),
        sa.Column("expires_at_us", sa.BigInteger, nullable=False),
    )


def _create_events() -> None:
    op.create_table(
        "events",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("at", UtcTime, nullable=False),
        sa.Column("recorded_at", UtcTime, nullable=False),
        sa.Column("project", sa.String(128), nullable=False),
        sa.Column("actor", sa.String(200), nullable=False),
        sa.Column("subject", sa.String(400), nullable=False),
        sa.Column("cause", sa.String(400), nullable=False),
        sa.Column("evidence", Json, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=True),
        sa.Column("hash", sa.String(64), nullable=False),
    )
    op.create_index("ix_events_position", "events", ["position"], unique=True)
    unsealed = sa.text("position IS NULL")
    op.create_index("ix_events_unsealed", "events", ["id"], sqlite_where=unsealed, postgresql_where=unsealed)
    for column in ("kind", "project", "subject"):
        op.create_index(f"ix_events_{column}_position", "events", [column, "position"])
    op.create_table(
        "event_chain",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
    )
    op.create_table(
        "event_cursors",
        sa.Column("reader", sa.String(200), primary_key=True),
        sa.Column("position", sa.BigInteger, nullable=False),
    )


def _create_lineage() -> None:
    op.create_table(
        "lineage_nodes",
        sa.Column("project", sa.String(128), primary_key=True),
        sa.Column("ref", sa.String(400), primary_key=True),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("attrs", Json, nullable=False),
    )
    op.create_table(
        "lineage_edges",
        sa.Column("project", sa.String(128), primary_key=True),
        sa.Column("source", sa.String(400), primary_key=True),
        sa.Column("target", sa.String(400), primary_key=True),
        sa.Column("role", sa.String(64), primary_key=True),
    )
    op.create_index("ix_lineage_edges_upstream", "lineage_edges", ["project", "target", "source", "role"])
