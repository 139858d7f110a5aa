"""Writing the registry's rows, each with its event and its lineage in the same transaction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, delete, insert, select, update

from loopwright.core import Ref, Scope, is_id
from loopwright.models.model import BundleManifest, ModelVersion
from loopwright.models.tables import model_aliases, model_tags, model_versions, models
from loopwright.models.tags import changed_tags
from loopwright.store import Stores

_HEAD = 100
_NO_COLUMN = ("ref", "aliases", "signatures")


def known_version(tx: Connection, project: str, draft: ModelVersion) -> int | None:
    """The version that the same bundle of the same run has already."""
    query = select(model_versions.c.version).where(
        model_versions.c.project == project,
        model_versions.c.bundle == draft.bundle,
        model_versions.c.name == draft.name,
        model_versions.c.run == draft.run,
        model_versions.c.deleted_at.is_(None),
    )
    found: int | None = tx.execute(query.order_by(model_versions.c.version).limit(1)).scalar()
    return found


def add_version(
    stores: Stores, tx: Connection, scope: Scope, draft: ModelVersion, manifest: BundleManifest | None
) -> int:
    """Give a draft the next number of its name, which is made if it is new. The caller holds the name's lock.

    The number follows all that the name ever had: one that was deleted is not given again.
    """
    ensure_model(stores, tx, scope, draft.name)
    here = (models.c.project == scope.project, models.c.name == draft.name)
    number = int(tx.execute(select(models.c.latest).where(*here)).scalar_one()) + 1
    tx.execute(update(models).values(latest=number, updated_at=draft.created_at).where(*here))
    version = msgspec.structs.replace(
        draft, version=number, ref=str(Ref("model", draft.name, str(number))), updated_at=draft.created_at
    )
    row = {name: getattr(version, name) for name in ModelVersion.__struct_fields__ if name not in _NO_COLUMN}
    tx.execute(insert(model_versions).values(project=scope.project, **row))
    index_tags(tx, scope.project, draft.name, number, version.tags)
    _tell(stores, tx, scope, version, manifest)
    return number


def copied(draft: ModelVersion, held: ModelVersion) -> ModelVersion:
    """The draft with what another version holds, and with what made that where the draft says nothing of it."""
    return msgspec.structs.replace(
        draft,
        kind=held.kind,
        scan=held.scan,
        bundle=held.bundle,
        size_bytes=held.size_bytes,
        task=held.task,
        metrics=held.metrics,
        training_data=held.training_data,
        run=draft.run or held.run,
        run_link=draft.run_link or held.run_link,
        model_id=draft.model_id or held.model_id,
    )


def ensure_model(stores: Stores, tx: Connection, scope: Scope, name: str) -> bool:
    """Make a name that is not there, or was deleted; whether it was made. The caller holds the name's lock."""
    now = stores.clock.now()
    mine = (models.c.project == scope.project, models.c.name == name)
    blank: dict[str, Any] = {
        "description": "",
        "tags": {},
        "deleted_at": None,
        "renamed_to": "",
        "created_at": now,
        "updated_at": now,
    }
    held = tx.execute(select(models.c.deleted_at).where(*mine)).first()
    if held is None:
        tx.execute(insert(models).values(project=scope.project, name=name, latest=0, **blank))
        return True
    if held.deleted_at is None:
        return False
    tx.execute(update(models).where(*mine).values(blank))
    return True


def change_model(tx: Connection, project: str, name: str, **values: Any) -> None:
    """Set columns of a name's row."""
    tx.execute(update(models).where(models.c.project == project, models.c.name == name).values(**values))


def change_version(tx: Connection, project: str, name: str, version: int, **values: Any) -> None:
    """Set columns of a version's row."""
    tx.execute(update(model_versions).where(*_where_version(project, name, version)).values(**values))


def index_tags(tx: Connection, project: str, name: str, version: int, tags: Mapping[str, str]) -> None:
    """Replace what searches see of the tags of a version, or of a name (version 0)."""
    here = (model_tags.c.project == project, model_tags.c.name == name, model_tags.c.version == version)
    tx.execute(delete(model_tags).where(*here))
    key = {"project": project, "name": name, "version": version}
    rows = [{**key, "key": tag, "value": value, "head": value[:_HEAD]} for tag, value in sorted(tags.items())]
    if rows:
        tx.execute(insert(model_tags), rows)


def point_alias(stores: Stores, tx: Connection, scope: Scope, name: str, alias: str, version: int) -> None:
    """Point an alias at a version, if it does not yet."""
    where = _where_alias(scope.project, name, alias)
    previous = tx.execute(select(model_aliases.c.version).where(*where)).scalar()
    if previous == version:
        return
    row = {
        "project": scope.project,
        "name": name,
        "alias": alias,
        "version": version,
        "moved_at": stores.clock.now(),
        "actor": scope.actor,
    }
    changed = ["version", "moved_at", "actor"]
    tx.execute(stores.db.upsert(model_aliases, row, ["project", "name", "alias"], changed))
    _tell_alias(stores, tx, scope, name, alias, previous, version)


def drop_alias(stores: Stores, tx: Connection, scope: Scope, name: str, alias: str, version: int) -> None:
    """Take away an alias that points at `version`."""
    tx.execute(delete(model_aliases).where(*_where_alias(scope.project, name, alias)))
    _tell_alias(stores, tx, scope, name, alias, version, None)


def annotate_version(
    stores: Stores, tx: Connection, scope: Scope, held: ModelVersion, tags: dict[str, str], description: str
) -> ModelVersion:
    """Replace a version's tags and description."""
    now = stores.clock.now()
    values = {"tags": tags, "description": description, "updated_at": now}
    change_version(tx, scope.project, held.name, held.version, **values)
    if tags != held.tags:
        index_tags(tx, scope.project, held.name, held.version, tags)
    evidence = {"tags": tags, "description": description, "changed": changed_tags(held.tags, tags)}
    stores.events.append(tx, "model.version_annotated", held.ref, scope, evidence)
    return msgspec.structs.replace(held, **values)


def _where_version(project: str, name: str, version: int) -> tuple[ColumnElement[bool], ...]:
    columns = model_versions.c
    return columns.project == project, columns.name == name, columns.version == version


def _where_alias(project: str, name: str, alias: str) -> tuple[ColumnElement[bool], ...]:
    return model_aliases.c.project == project, model_aliases.c.name == name, model_aliases.c.alias == alias


def _tell_alias(
    stores: Stores, tx: Connection, scope: Scope, name: str, alias: str, previous: int | None, version: int | None
) -> None:
    evidence = {"alias": alias, "from": previous, "to": version}
    subject = Ref("model", name, str(version if version is not None else previous))
    stores.events.append(tx, "model.alias_moved", str(subject), scope, evidence)


def _tell(stores: Stores, tx: Connection, scope: Scope, version: ModelVersion, manifest: BundleManifest | None) -> None:
    evidence = {
        "bundle": version.bundle,
        "run": version.run,
        "metrics": version.metrics,
        "training_data": version.training_data,
        "parity": manifest.parity if manifest else None,
        "kind": version.kind,
        "source": version.source,
        "tags": version.tags,
        "description": version.description,
    }
    stores.events.append(tx, "model.version_created", version.ref, scope, evidence)
    link_version(stores, tx, scope.project, version, manifest)


def link_version(
    stores: Stores, tx: Connection, project: str, version: ModelVersion, manifest: BundleManifest | None
) -> None:
    """Note in the lineage what a version holds, and what it was made by and of."""
    lineage = stores.lineage
    lineage.node(tx, version.ref, digest=version.bundle, attrs={"task": version.task}, project=project)
    if version.bundle:
        bundle = f"bundle:{version.bundle}"
        lineage.node(tx, bundle, digest=version.bundle, project=project)
        lineage.edge(tx, bundle, version.ref, "contains", project)
    if manifest is not None:
        environment = f"environment:{manifest.environment}"
        lineage.node(tx, environment, digest=manifest.environment, project=project)
        lineage.edge(tx, environment, f"bundle:{version.bundle}", "environment", project)
        for ref in manifest.features:
            lineage.edge(tx, ref, version.ref, "features", project)
    if is_id(version.run):
        lineage.edge(tx, f"run:{version.run}", version.ref, "output", project)
    for source in version.training_data:
        lineage.edge(tx, source, version.ref, "input", project)
