"""What holds keep, for rooms that remove something at once."""

from __future__ import annotations

from sqlalchemy import Connection, select

from loopwright.govern.tables import holds
from loopwright.store import Stores


def held_refs(stores: Stores, connection: Connection, project: str) -> set[str]:
    """The refs that a project's holds name, and all that those came from."""
    query = select(holds.c.ref).where(holds.c.project == project, holds.c.released_at.is_(None))
    named = set(connection.execute(query).scalars())
    return stores.lineage.ancestors(connection, named, project) if named else named
