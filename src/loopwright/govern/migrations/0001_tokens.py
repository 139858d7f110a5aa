"""Tokens, their roles and the sessions opened with them."""

import sqlalchemy as sa
from alembic import op

from loopwright.store import UtcTime

revision = "govern_0001"
down_revision = None
branch_labels = ("govern",)
depends_on = None


def upgrade() -> None:
    op.create_table(
        "tokens",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("user_name", sa.String(128), nullable=False),
        sa.Column("note", sa.String(256), nullable=False),
        sa.Column("secret_digest", sa.String(64), nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("created_by", sa.String(256), nullable=False),
        sa.Column("expires_at", UtcTime()),
        sa.Column("revoked_at", UtcTime()),
        sa.Column("first", sa.Boolean(), nullable=False),
    )
    op.create_table(
        "token_roles",
        sa.Column("token_id", sa.String(32), sa.ForeignKey("tokens.id"), primary_key=True),
        sa.Column("project", sa.String(128), primary_key=True),
        sa.Column("role", sa.String(16), nullable=False),
    )
    op.create_index("ix_token_roles_project", "token_roles", ["project", "token_id"])
    op.create_table(
        "token_sessions",
        sa.Column("cookie_digest", sa.String(64), primary_key=True),
        sa.Column("token_id", sa.String(32), sa.ForeignKey("tokens.id"), nullable=False),
        sa.Column("csrf", sa.String(64), nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("expires_at", UtcTime(), nullable=False),
    )
    op.create_index("ix_token_sessions_expires_at", "token_sessions", ["expires_at"])
    op.create_index("ix_token_sessions_token_id", "token_sessions", ["token_id"])


def downgrade() -> None:
    for name in ("token_sessions", "token_roles", "tokens"):
        op.drop_table(name)
