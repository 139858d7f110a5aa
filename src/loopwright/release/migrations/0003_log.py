"""What of an endpoint's answers is logged."""

import sqlalchemy as sa
from alembic import op

from loopwright.store import Json

revision = "release_0003"
down_revision = "release_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("endpoints", sa.Column("log", Json(), nullable=False, server_default="{}"))
