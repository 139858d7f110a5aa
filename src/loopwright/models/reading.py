"""Reading the registry's rows as records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, Row, select, tuple_

from loopwright.core import NotFound, Ref
from loopwright.models.model import Model, ModelVersion, Task
from loopwright.models.tables import model_aliases, model_versions, models


def find_model(connection: Connection, project: str, name: str) -> Row[Any]:
    """The row of a registered name.

    Raises:
        NotFound: there is none.
    """
    row = connection.execute(select(models).where(models.c.project == project, models.c.name == name)).first()
    if row is None:
        raise NotFound(f"there is no model {name!r}", next_step="loopwright models list shows those that there are")
    return row


def version_of(connection: Connection, project: str, ref: Ref) -> int:
    """The version number that a ref selects: its number, its alias, or the newest.

    Raises:
        NotFound: there is no such model, version or alias.
    """
    row = find_model(connection, project, ref.name)
    if ref.version is not None:
        if not 1 <= ref.version <= row.latest:
            raise NotFound(
                f"model {ref.name!r} has no version {ref.version}; the newest is {row.latest}",
                next_step=f"loopwright models versions {ref.name}",
            )
        return ref.version
    if ref.alias is None:
        return int(row.latest)
    aliases = aliases_of(connection, project, [ref.name])[ref.name]
    if ref.alias not in aliases:
        known = ", ".join(sorted(aliases)) or "none"
        raise NotFound(f"model {ref.name!r} has no alias {ref.alias!r}", next_step=f"its aliases: {known}")
    return aliases[ref.alias]


def load_versions(connection: Connection, project: str, keys: Iterable[tuple[str, int]]) -> list[ModelVersion]:
    """The records of versions, newest first within a name."""
    wanted = list(keys)
    if not wanted:
        return []
    pairs = tuple_(model_versions.c.name, model_versions.c.version).in_(wanted)
    query = select(model_versions).where(model_versions.c.project == project, pairs)
    rows = connection.execute(query.order_by(model_versions.c.name, model_versions.c.version.desc())).all()
    return with_aliases(connection, project, rows)


def with_aliases(connection: Connection, project: str, rows: Iterable[Row[Any]]) -> list[ModelVersion]:
    """Records of version rows, with the aliases that point at them."""
    listed = list(rows)
    pointing: dict[tuple[str, int], list[str]] = defaultdict(list)
    for name, aliases in aliases_of(connection, project, sorted({row.name for row in listed})).items():
        for alias, version in sorted(aliases.items()):
            pointing[name, version].append(alias)
    return [_record(row, tuple(pointing[row.name, row.version])) for row in listed]


def aliases_of(connection: Connection, project: str, names: list[str]) -> dict[str, dict[str, int]]:
    """Alias to version, for each of the names."""
    found: dict[str, dict[str, int]] = {name: {} for name in names}
    if names:
        query = select(model_aliases).where(model_aliases.c.project == project, model_aliases.c.name.in_(names))
        for row in connection.execute(query):
            found[row.name][row.alias] = row.version
    return found


def load_models(connection: Connection, project: str, limit: int, after: str) -> list[Model]:
    """Registered names in order, behind the name `after`."""
    query = select(models).where(models.c.project == project, models.c.name > after).order_by(models.c.name)
    rows = connection.execute(query.limit(limit)).all()
    aliases = aliases_of(connection, project, [row.name for row in rows])
    return [Model(row.name, row.description, row.created_at, row.latest, aliases[row.name]) for row in rows]


def _record(row: Row[Any], aliases: tuple[str, ...]) -> ModelVersion:
    return ModelVersion(
        ref=str(Ref("model", row.name, str(row.version))),
        name=row.name,
        version=row.version,
        bundle=row.bundle,
        task=Task(row.task),
        run=row.run,
        training_data=tuple(row.training_data),
        metrics=row.metrics,
        tags=row.tags,
        aliases=aliases,
        description=row.description,
        size_bytes=row.size_bytes,
        created_at=row.created_at,
        actor=row.actor,
    )
