"""Writing the registry's rows, each with its event and its lineage in the same transaction."""

from __future__ import annotations

import msgspec
from sqlalchemy import ColumnElement, Connection, delete, insert, select, update

from loopwright.core import Ref, Scope
from loopwright.models.model import BundleManifest, ModelVersion
from loopwright.models.tables import model_aliases, model_versions, models
from loopwright.store import Stores


def known_version(tx: Connection, project: str, draft: ModelVersion) -> int | None:
    """The version that the same bundle of the same run has already."""
    query = select(model_versions.c.version).where(
        model_versions.c.project == project,
        model_versions.c.bundle == draft.bundle,
        model_versions.c.name == draft.name,
        model_versions.c.run == draft.run,
    )
    found: int | None = tx.execute(query.order_by(model_versions.c.version).limit(1)).scalar()
    return found


def add_version(stores: Stores, tx: Connection, scope: Scope, draft: ModelVersion, manifest: BundleManifest) -> int:
    """Give a draft the next number of its name, which is made if it is new. The caller holds the name's lock."""
    project = scope.project
    fresh = {"project": project, "name": draft.name, "description": "", "created_at": draft.created_at, "latest": 0}
    tx.execute(stores.db.upsert(models, fresh, ["project", "name"]))
    here = (models.c.project == project, models.c.name == draft.name)
    number = int(tx.execute(select(models.c.latest).where(*here)).scalar_one()) + 1
    tx.execute(update(models).values(latest=number).where(*here))
    version = msgspec.structs.replace(draft, version=number, ref=str(Ref("model", draft.name, str(number))))
    row = {name: getattr(version, name) for name in ModelVersion.__struct_fields__ if name not in ("ref", "aliases")}
    tx.execute(insert(model_versions).values(project=project, **row))
    _tell(stores, tx, scope, version, manifest)
    return number


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
) -> None:
    """Replace a version's tags and description."""
    where = (
        model_versions.c.project == scope.project,
        model_versions.c.name == held.name,
        model_versions.c.version == held.version,
    )
    tx.execute(update(model_versions).values(tags=tags, description=description).where(*where))
    evidence = {"tags": tags, "description": description}
    stores.events.append(tx, "model.version_annotated", held.ref, scope, evidence)


def _where_alias(project: str, name: str, alias: str) -> tuple[ColumnElement[bool], ...]:
    return model_aliases.c.project == project, model_aliases.c.name == name, model_aliases.c.alias == alias


def _tell_alias(
    stores: Stores, tx: Connection, scope: Scope, name: str, alias: str, previous: int | None, version: int | None
) -> None:
    evidence = {"alias": alias, "from": previous, "to": version}
    subject = Ref("model", name, str(version if version is not None else previous))
    stores.events.append(tx, "model.alias_moved", str(subject), scope, evidence)


def _tell(stores: Stores, tx: Connection, scope: Scope, version: ModelVersion, manifest: BundleManifest) -> None:
    evidence = {
        "bundle": version.bundle,
        "run": version.run,
        "metrics": version.metrics,
        "training_data": version.training_data,
        "parity": manifest.parity,
    }
    stores.events.append(tx, "model.version_created", version.ref, scope, evidence)
    lineage, project = stores.lineage, scope.project
    bundle, environment = f"bundle:{version.bundle}", f"environment:{manifest.environment}"
    lineage.node(tx, version.ref, digest=version.bundle, attrs={"task": version.task}, project=project)
    lineage.node(tx, bundle, digest=version.bundle, project=project)
    lineage.node(tx, environment, digest=manifest.environment, project=project)
    lineage.edge(tx, environment, bundle, "environment", project)
    lineage.edge(tx, bundle, version.ref, "contains", project)
    if version.run:
        lineage.edge(tx, f"run:{version.run}", version.ref, "output", project)
    for source in version.training_data:
        lineage.edge(tx, source, version.ref, "input", project)
