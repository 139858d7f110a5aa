"""What this room keeps in the object store: the bundles of model versions; and what no version may lose."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, select

from loopwright.models.tables import model_versions
from loopwright.store import Holding

_columns = model_versions.c

HOLDINGS = (Holding("bundles of model versions", select(_columns.bundle)),)


def roots(connection: Connection) -> Iterator[tuple[str, str]]:
    """Every model version, and the run and the logged model that it names: whatever they came from stays."""
    query = select(_columns.project, _columns.name, _columns.version, _columns.run, _columns.model_id)
    for row in connection.execute(query):
        yield row.project, f"model:{row.name}@{row.version}"
        if row.run:
            yield row.project, f"run:{row.run.removeprefix('run:')}"
        if row.model_id:
            yield row.project, f"logged_model:{row.model_id}"
