"""Run Alembic over the revisions of all rooms. Imported only when a schema has to change."""

from __future__ import annotations

from typing import Any

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.script.revision import RevisionError
from alembic.util import CommandError
from sqlalchemy import Connection

from loopwright.core import Conflict
from loopwright.store.db.schema import metadata
from loopwright.store.db.versions import Versions

REVISIONS_TABLE = "schema_revisions"


def upgrade(tx: Connection, versions: Versions, place: str) -> None:
    """Bring the schema to the newest revision of every room, inside the caller's transaction.

    Raises:
        Conflict: the database has a revision that this code does not know.
    """
    scripts = script_directory(versions)
    context = migration_context(tx)
    refuse_newer(scripts, context.get_current_heads(), place)

    def steps(revision: Any, _context: MigrationContext) -> Any:
        return scripts._upgrade_revs("heads", revision)

    context.opts["fn"] = steps
    context._migrations_fn = steps
    with Operations.context(context):
        context.run_migrations()


def script_directory(versions: Versions) -> ScriptDirectory:
    """Alembic's view of all revisions."""
    folders = [str(folder) for folder in versions.folders]
    return ScriptDirectory(folders[0], version_locations=folders)


def migration_context(connection: Connection) -> MigrationContext:
    """Alembic's view of the database."""
    return MigrationContext.configure(
        connection,
        opts={
            "version_table": REVISIONS_TABLE,
            "target_metadata": metadata,
            "compare_type": True,
            "render_as_batch": connection.dialect.name == "sqlite",
            "transactional_ddl": True,
        },
    )


def refuse_newer(scripts: ScriptDirectory, heads: tuple[str, ...], place: str) -> None:
    """Raise Conflict if the database has a revision that these scripts lack."""
    for head in heads:
        try:
            known = scripts.get_revision(head) is not None
        except (CommandError, RevisionError):
            known = False
        if not known:
            raise Conflict(
                f"the database {place} was made by a newer Loopwright: it has the schema revision {head!r}, "
                "which this one does not know",
                next_step="upgrade: pip install --upgrade loopwright",
            )
