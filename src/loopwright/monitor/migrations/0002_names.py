"""Refs of versions of models whose names are long."""

import sqlalchemy as sa
from alembic import op

revision = "monitor_0002"
down_revision = "monitor_0001"
branch_labels = None
depends_on = None

_TABLES = ("monitor_windows", "prediction_slots", "predictions", "alerts")


def upgrade() -> None:
    for table in _TABLES:
        with op.batch_alter_table(table) as batch:
            batch.alter_column("model", type_=sa.String(300), existing_nullable=False)
