"""Giving a model another name, so that refs with the old one still lead to it."""

from __future__ import annotations

from sqlalchemy import Connection, insert, select, update

from loopwright.core import Conflict, Ref, Scope
from loopwright.models.model import Model
from loopwright.models.tables import model_aliases, model_tags, model_versions, models
from loopwright.store import Stores


def rename(stores: Stores, tx: Connection, scope: Scope, held: Model, new_name: str) -> None:
    """Move a model's rows to another name. The old name stays behind as a sign that leads to the new one.

    Raises:
        Conflict: the new name is registered, or was that of a deleted model that had versions.
    """
    if new_name == held.name:
        return
    project, now = scope.project, stores.clock.now()
    _refuse_taken(tx, project, new_name)
    row = tx.execute(select(models).where(models.c.project == project, models.c.name == held.name)).one()
    fresh = {**row._mapping, "name": new_name, "updated_at": now, "renamed_to": ""}
    tx.execute(models.delete().where(models.c.project == project, models.c.name == new_name))
    tx.execute(insert(models).values(fresh))
    for table in (model_versions, model_aliases, model_tags):
        tx.execute(update(table).where(table.c.project == project, table.c.name == held.name).values(name=new_name))
    sign = {"deleted_at": now, "renamed_to": new_name, "updated_at": now}
    tx.execute(update(models).where(models.c.project == project, models.c.name == held.name).values(sign))
    _link(stores, tx, project, held.name, new_name)
    stores.events.append(tx, "model.renamed", f"model:{new_name}", scope, {"from": held.name})


def _refuse_taken(tx: Connection, project: str, name: str) -> None:
    row = tx.execute(select(models).where(models.c.project == project, models.c.name == name)).first()
    if row is not None and row.deleted_at is None:
        raise Conflict(f"there is a model {name!r} already", next_step="choose another name")
    # A name that was given up took its versions, and their numbers, along.
    if row is not None and row.latest and not row.renamed_to:
        raise Conflict(
            f"{name!r} was the name of a model that was deleted, and its version numbers are taken",
            next_step="choose another name",
        )


def _link(stores: Stores, tx: Connection, project: str, old: str, new: str) -> None:
    """What was known of the old refs leads on to the new ones."""
    versions = select(model_versions.c.version, model_versions.c.bundle).where(
        model_versions.c.project == project, model_versions.c.name == new
    )
    for row in tx.execute(versions).all():
        before, after = (str(Ref("model", name, str(row.version))) for name in (old, new))
        stores.lineage.node(tx, after, digest=row.bundle, project=project)
        stores.lineage.edge(tx, before, after, "renamed", project)
