"""On PostgreSQL, last values are brought forward without touching an index.

PostgreSQL writes a row anew when it changes, and enters it into each index unless no indexed column has changed and
the page has room. So the index of last values is on a copy, `found_value`, which follows when a run ends; `fresh` says
where it has not followed yet, and is computed by the database, so that a server of the version before keeps it right.
The view `run_lasts` has every last value, each from where it can be found.
"""

from __future__ import annotations

from alembic import op

revision = "track_0012"
down_revision = "track_0011"
branch_labels = None
depends_on = None

_STEPS = (
    # Room for a second version of each row of a page.
    "ALTER TABLE run_series SET (fillfactor = 50)",
    "DROP INDEX ix_run_series_last",
    "ALTER TABLE run_series ADD COLUMN found_value double precision",
    "UPDATE run_series SET found_value = last_value",
    "ALTER TABLE run_series ADD COLUMN fresh boolean "
    "GENERATED ALWAYS AS (last_value IS DISTINCT FROM found_value) STORED",
    "CREATE INDEX ix_run_series_found ON run_series (key_id, found_value, run_seq) WHERE NOT fresh",
    "CREATE INDEX ix_run_series_fresh ON run_series (key_id, run_seq) WHERE fresh",
    "CREATE VIEW run_lasts AS "
    "SELECT run_seq, key_id, found_value AS last_value FROM run_series WHERE NOT fresh UNION ALL "
    "SELECT run_seq, key_id, last_value FROM run_series WHERE fresh",
)


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        for step in _STEPS:
            op.execute(step)
