"""MLflow's stages: which moves are allowed, and the newest version in each."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, func, select, tuple_, update

from loopwright.core import Invalid, Ref, Scope
from loopwright.models.model import ModelVersion, Stage
from loopwright.models.tables import model_versions
from loopwright.store import Stores

_ACTIVE = (Stage.STAGING, Stage.PRODUCTION)


def check_archiving(stage: Stage) -> None:
    """Refuse to archive what else is in a stage that nobody uses.

    Raises:
        Invalid: the stage is neither Staging nor Production.
    """
    if stage not in _ACTIVE:
        raise Invalid(
            f"Model version transition cannot archive existing model versions because '{stage}' is not an Active "
            f"stage. Valid stages are {[str(item) for item in _ACTIVE]}"
        )


def archive_others(
    stores: Stores, tx: Connection, scope: Scope, held: ModelVersion, stage: Stage, now: datetime
) -> None:
    """Move the other versions of a stage to Archived, each with its event."""
    columns = model_versions.c
    others = (
        columns.project == scope.project,
        columns.name == held.name,
        columns.version != held.version,
        columns.stage == stage,
        columns.deleted_at.is_(None),
    )
    for number in tx.execute(select(columns.version).where(*others)).scalars().all():
        told = {"from": stage, "to": Stage.ARCHIVED}
        stores.events.append(tx, "model.stage_moved", str(Ref("model", held.name, str(number))), scope, told)
    tx.execute(update(model_versions).where(*others).values(stage=Stage.ARCHIVED, updated_at=now))


def newest_in_stages(project: str, names: Sequence[str]) -> ColumnElement[bool]:
    """The condition that a version is the newest of its name in its stage."""
    columns = model_versions.c
    newest = select(columns.name, func.max(columns.version)).where(
        columns.project == project, columns.name.in_(list(names)), columns.deleted_at.is_(None)
    )
    return tuple_(columns.name, columns.version).in_(newest.group_by(columns.name, columns.stage))
