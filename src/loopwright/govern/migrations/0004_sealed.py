"""Room for the secrets of webhooks when they are sealed."""

import sqlalchemy as sa
from alembic import op

revision = "govern_0004"
down_revision = "govern_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("webhooks") as batch:
        batch.alter_column("secret", type_=sa.Text(), existing_nullable=False)
