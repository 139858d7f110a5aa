"""Blocks of metric points, and how far each spool has been delivered."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, Integer, LargeBinary, String

revision = "track_0002"
down_revision = "track_0001"
branch_labels = None
depends_on = None

Number = BigInteger().with_variant(Integer, "sqlite")


def upgrade() -> None:
    # A server of the revision before goes on beside this one: it writes no block, and its series have a tail of 0.
    op.add_column("run_series", Column("tail_count", BigInteger, nullable=False, server_default="0"))
    op.create_table(
        "run_blocks",
        Column("id", Number, primary_key=True, autoincrement=True),
        Column("series_id", BigInteger, nullable=False),
        Column("first_step", BigInteger, nullable=False),
        Column("last_step", BigInteger, nullable=False),
        Column("count", BigInteger, nullable=False),
        Column("outline", LargeBinary, nullable=False),
        Column("summary", LargeBinary, nullable=False),
        Column("points", LargeBinary, nullable=False),
    )
    op.create_index("ix_run_blocks_range", "run_blocks", ["series_id", "last_step", "first_step", "count", "id"])
    op.create_table(
        "run_frames",
        Column("id", Number, primary_key=True, autoincrement=True),
        Column("run_seq", BigInteger, nullable=False),
        Column("count", BigInteger, nullable=False),
        Column("points", LargeBinary, nullable=False),
    )
    op.create_index("ix_run_frames_run", "run_frames", ["run_seq", "count"])
    op.create_table(
        "run_deliveries",
        Column("spool", String(64), primary_key=True),
        Column("segment", BigInteger, primary_key=True, autoincrement=False),
        Column("position", BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    if op.get_bind().dialect.name == "postgresql":
        # Packed numbers do not shrink further; trying costs milliseconds a block.
        op.execute("ALTER TABLE run_blocks ALTER COLUMN summary SET STORAGE EXTERNAL")
        op.execute("ALTER TABLE run_blocks ALTER COLUMN points SET STORAGE EXTERNAL")
        op.execute("ALTER TABLE run_frames ALTER COLUMN points SET STORAGE EXTERNAL")
