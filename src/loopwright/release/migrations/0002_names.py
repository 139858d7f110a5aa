"""Endpoints of models whose names are long."""

import sqlalchemy as sa
from alembic import op

revision = "release_0002"
down_revision = "release_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("endpoints") as batch:
        batch.alter_column("model", type_=sa.String(256), existing_nullable=False)
