"""Reading the registry's rows as records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, Select, func, select, tuple_

from loopwright.core import NotFound, Ref
from loopwright.models.findings import Scan
from loopwright.models.model import Kind, Model, ModelVersion, Signed, Stage, Task
from loopwright.models.tables import model_aliases, model_signatures, model_versions, models

_MAX_RENAMES = 20
_CHUNK = 500


def find_model(connection: Connection, project: str, name: str) -> Row[Any]:
    """The row of a registered name. A name that was given up for another leads to that.

    Raises:
        NotFound: there is none.
    """
    asked = name
    for _ in range(_MAX_RENAMES):
        row = connection.execute(select(models).where(models.c.project == project, models.c.name == asked)).first()
        if row is not None and row.deleted_at is None:
            return row
        if row is None or not row.renamed_to:
            break
        asked = row.renamed_to
    raise NotFound(f"there is no model {name!r}", next_step="loopwright models list shows those that there are")


def locate_version(connection: Connection, project: str, ref: Ref) -> tuple[str, int]:
    """The name, as it is now, and the version number that a ref selects: its number, its alias, or the newest.

    Raises:
        NotFound: there is no such model, version or alias.
    """
    row = find_model(connection, project, ref.name)
    name = str(row.name)
    if ref.alias is not None:
        aliases = aliases_of(connection, project, [name])[name]
        if ref.alias not in aliases:
            known = ", ".join(sorted(aliases)) or "none"
            raise NotFound(f"model {name!r} has no alias {ref.alias!r}", next_step=f"its aliases: {known}")
        return name, aliases[ref.alias]
    living = select(func.max(model_versions.c.version)).where(
        model_versions.c.project == project, model_versions.c.name == name, model_versions.c.deleted_at.is_(None)
    )
    newest: int = connection.execute(living).scalar() or 0
    if ref.version is None:
        if not newest:
            raise NotFound(f"model {name!r} has no version yet", next_step="register one")
        return name, newest
    if connection.execute(living.where(model_versions.c.version == ref.version)).scalar() is None:
        last = f"the newest is {newest}" if newest else "it has none"
        raise NotFound(
            f"model {name!r} has no version {ref.version}; {last}", next_step=f"loopwright models log {name!r}"
        )
    return name, ref.version


def living_versions(project: str) -> Select[Any]:
    """A project's versions, without those that were deleted."""
    return select(model_versions).where(model_versions.c.project == project, model_versions.c.deleted_at.is_(None))


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
    signed = signatures_of(connection, project, sorted({row.bundle for row in listed if row.bundle}))
    return [_record(row, tuple(pointing[row.name, row.version]), signed.get(row.bundle, ())) for row in listed]


def signatures_of(connection: Connection, project: str, bundles: Sequence[str]) -> dict[str, tuple[Signed, ...]]:
    """The signatures over each of the bundles, oldest first."""
    found: dict[str, list[Signed]] = defaultdict(list)
    columns = model_signatures.c
    for start in range(0, len(bundles), _CHUNK):
        some = columns.bundle.in_(bundles[start : start + _CHUNK])
        query = select(model_signatures).where(columns.project == project, some)
        for row in connection.execute(query.order_by(columns.signed_at, columns.key)):
            found[row.bundle].append(Signed(row.key, row.signature, row.public_key, row.signed_at, row.actor))
    return {bundle: tuple(signed) for bundle, signed in found.items()}


def aliases_of(connection: Connection, project: str, names: Sequence[str]) -> dict[str, dict[str, int]]:
    """Alias to version, for each of the names."""
    found: dict[str, dict[str, int]] = {name: {} for name in names}
    for start in range(0, len(names), _CHUNK):
        some = model_aliases.c.name.in_(names[start : start + _CHUNK])
        for row in connection.execute(select(model_aliases).where(model_aliases.c.project == project, some)):
            found[row.name][row.alias] = row.version
    return found


def load_models(connection: Connection, project: str, limit: int, after: str) -> list[Model]:
    """Registered names in order, behind the name `after`."""
    here = (models.c.project == project, models.c.deleted_at.is_(None), models.c.name > after)
    rows = connection.execute(select(models).where(*here).order_by(models.c.name).limit(limit)).all()
    return models_of(connection, project, rows)


def models_of(connection: Connection, project: str, rows: Sequence[Row[Any]]) -> list[Model]:
    """Records of rows of names, with their aliases."""
    aliases = aliases_of(connection, project, [row.name for row in rows])
    return [
        Model(row.name, row.description, row.created_at, row.latest, aliases[row.name], row.tags, row.updated_at)
        for row in rows
    ]


def signatures_stamp(connection: Connection) -> tuple[int, datetime | None]:
    """What changes whenever a signature is brought, in any project: how many there are, and when the last one came."""
    columns = model_signatures.c
    count, last = connection.execute(select(func.count(), func.max(columns.signed_at))).one()
    return int(count), last


def _record(row: Row[Any], aliases: tuple[str, ...], signatures: tuple[Signed, ...]) -> ModelVersion:
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
        updated_at=row.updated_at,
        actor=row.actor,
        kind=Kind(row.kind),
        source=row.source,
        run_link=row.run_link,
        model_id=row.model_id,
        stage=Stage(row.stage),
        signatures=signatures,
        scan=msgspec.convert(row.scan, Scan),
    )
