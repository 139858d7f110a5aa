"""The end of deleted logged models: which may go, and their removal with all that hangs on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, select

from loopwright.store import Lapse, Lapsed, Stores
from loopwright.track.files.tables import kept_files
from loopwright.track.logged.tables import logged_metrics, logged_models, logged_params, logged_tags
from loopwright.track.revisions import touch_found
from loopwright.track.tables import run_models, runs

_KIND = "logged_model"
_CHUNK = 500


def lapse(
    connection: Connection, project: str | None, before: datetime, is_protected: Callable[[str, str], bool]
) -> Lapse:
    """The logged models that were deleted before a time, and of those that stay, why."""
    columns = logged_models.c
    query = select(columns.id, columns.project, columns.source_run).where(columns.deleted_at < before)
    rows = connection.execute(query if project is None else query.where(columns.project == project)).all()
    used = _read_by_runs(connection, [row.id for row in rows])
    going: list[Lapsed] = []
    kept: list[tuple[str, str]] = []
    for row in rows:
        ref = f"{_KIND}:{row.id}"
        if row.id in used:
            kept.append((ref, "a run used it"))
        elif is_protected(row.project, ref) or is_protected(row.project, f"project:{row.project}"):
            kept.append((ref, "a model version or a hold needs it"))
        else:
            going.append(Lapsed(ref, row.project))
    return Lapse(tuple(going), tuple(kept))


def _read_by_runs(connection: Connection, ids: Sequence[str]) -> set[str]:
    """Those of the models that a run which is not deleted took as an input."""
    found: set[str] = set()
    for start in range(0, len(ids), _CHUNK):
        mine = run_models.c.model.in_(ids[start : start + _CHUNK])
        query = select(run_models.c.model).join(runs, runs.c.seq == run_models.c.run_seq)
        query = query.where(mine, run_models.c.role == "input", runs.c.deleted_at.is_(None))
        found.update(connection.execute(query).scalars())
    return found


def forget_lapsed(_stores: Stores, tx: Connection, lapsed: Sequence[Lapsed]) -> list[Lapsed]:
    """Remove those of the things that are logged models and still deleted; returns these."""
    mine = {item.ref.removeprefix(f"{_KIND}:"): item for item in lapsed if item.kind == _KIND}
    columns = logged_models.c
    deleted = select(columns.id).where(columns.id.in_(mine), columns.deleted_at.is_not(None)).with_for_update()
    ids = tx.execute(deleted).scalars().all()
    forget_models(tx, select(columns.id).where(columns.id.in_(ids)))
    return [mine[id] for id in ids]


def forget_models(tx: Connection, models: Select[Any]) -> None:
    """Remove the logged models whose ids a query gives, with their files, words and measurements."""
    owners = select("model:" + logged_models.c.id).where(logged_models.c.id.in_(models))
    tx.execute(kept_files.delete().where(kept_files.c.owner.in_(owners)))
    touch_found(tx, select(run_models.c.run_seq).where(run_models.c.model.in_(models)))
    for table in (logged_params, logged_tags, logged_metrics, run_models):
        tx.execute(table.delete().where(table.c.model.in_(models)))
    tx.execute(logged_models.delete().where(logged_models.c.id.in_(models)))
