"""On PostgreSQL, packed points are stored as they are: to compress them took longer than to write them."""

from __future__ import annotations

from alembic import op

revision = "track_0008"
down_revision = "track_0007"
branch_labels = None
depends_on = None

_PACKED = (("run_blocks", "points"), ("run_blocks", "summary"), ("run_blocks", "outline"), ("run_frames", "points"))


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        for table, column in _PACKED:
            op.execute(f"ALTER TABLE {table} ALTER COLUMN {column} SET STORAGE EXTERNAL")
