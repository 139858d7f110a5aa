"""The end of deleted runs and experiments: which may go, and their removal, a run whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from loopwright.store import Doomed, Expiry, Stores, metadata
from loopwright.track.logged.collecting import forget_models
from loopwright.track.logged.tables import logged_metrics, logged_models
from loopwright.track.revisions import note_purge
from loopwright.track.tables import (
    experiment_tags,
    experiments,
    run_datasets,
    run_inputs,
    run_series,
    runs,
    unindexed,
)
from loopwright.track.traces.tables import trace_runs, traces
from loopwright.track.traces.writing import drop_traces

Protected = Callable[[str, str], bool]
_CHUNK = 500
_ROWS_AT_ONCE = 2000


def expire(connection: Connection, project: str | None, before: datetime, is_protected: Protected) -> Expiry:
    """The runs that were deleted before a time and may go, and those that may not, with the reason.

    Args:
        project: only of this project; None for all.
        is_protected: says of a project and a ref whether it is reachable from a model version or a hold.
    """
    query = select(runs.c.id, runs.c.project, runs.c.seq, runs.c.parent, runs.c.experiment_id, experiments.c.name)
    query = query.join(experiments, experiments.c.id == runs.c.experiment_id).where(runs.c.deleted_at < before)
    rows = connection.execute(query if project is None else query.where(runs.c.project == project)).all()
    models = _models_of(connection)
    kept: dict[str, str] = {}
    for row in rows:
        refs = [f"run:{row.id}", f"experiment:{row.experiment_id}", f"experiment:{row.name}", f"project:{row.project}"]
        refs += [f"logged_model:{id}" for id in models.get(row.id, ())]
        if any(is_protected(row.project, ref) for ref in refs):
            kept[row.id] = "a model version or a hold needs it"
    _keep_parents(connection, rows, kept)
    doomed = [Doomed(row.id, row.project, row.seq) for row in rows if row.id not in kept]
    return Expiry(tuple(doomed), tuple((f"run:{id}", reason) for id, reason in kept.items()))


def _models_of(connection: Connection) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in connection.execute(select(logged_models.c.id, logged_models.c.source_run)):
        found.setdefault(row.source_run, []).append(row.id)
    return found


def _keep_parents(connection: Connection, rows: Sequence[Any], kept: dict[str, str]) -> None:
    """A run stays as long as a run that is a part of it does."""
    going = {row.id for row in rows} - kept.keys()
    children = select(runs.c.id, runs.c.parent).where(runs.c.parent != "")
    parts = [(row.id, row.parent) for row in connection.execute(children) if row.parent in going]
    changed = True
    while changed:
        changed = False
        for id, parent in parts:
            if id not in going and parent in going:
                going.discard(parent)
                kept[parent] = f"the run {id} is a part of it"
                changed = True


def still_deleted(tx: Connection, doomed: Sequence[Doomed]) -> list[Doomed]:
    """Those runs that nobody has restored meanwhile; they cannot be until the transaction ends."""
    query = select(runs.c.seq).where(runs.c.seq.in_([run.seq for run in doomed]), runs.c.deleted_at.is_not(None))
    seqs = set(tx.execute(query.with_for_update()).scalars())
    return [run for run in doomed if run.seq in seqs]


def forget_runs(stores: Stores, tx: Connection, doomed: Sequence[Doomed]) -> None:
    """Remove runs with all that hangs on them, and what names them elsewhere in this room and in the lineage."""
    seqs, ids = [run.seq for run in doomed], [run.id for run in doomed]
    note_purge(tx)
    series = select(run_series.c.id).where(run_series.c.run_seq.in_(seqs))
    for table in _tables_with("series_id"):
        tx.execute(table.delete().where(table.c.series_id.in_(series)))
    forget_models(tx, select(logged_models.c.id).where(logged_models.c.source_run.in_(ids)))
    tx.execute(logged_metrics.delete().where(logged_metrics.c.run.in_(ids)))
    drop_traces(tx, select(traces.c.id).where(traces.c.run.in_(ids)))
    tx.execute(trace_runs.delete().where(trace_runs.c.run.in_(ids)))
    tx.execute(experiments.update().where(experiments.c.baseline.in_(ids)).values(baseline=""))
    for table in _tables_with("run_seq"):
        tx.execute(table.delete().where(table.c.run_seq.in_(seqs)))
    tx.execute(runs.delete().where(runs.c.seq.in_(seqs)))
    for project in sorted({run.project for run in doomed}):
        stores.lineage.forget(tx, [f"run:{run.id}" for run in doomed if run.project == project], project)


def _tables_with(column: str) -> list[Any]:
    """This room's tables with such a column: what is added to runs later goes with them, too."""
    return [table for name, table in sorted(metadata.tables.items()) if column in table.c and name.startswith("run_")]


def expire_experiments(
    connection: Connection,
    project: str | None,
    before: datetime,
    is_protected: Protected,
    doomed: Collection[int] = frozenset(),
) -> list[tuple[str, str]]:
    """The project and id of each experiment that was deleted before a time and has no run but the doomed.

    Args:
        doomed: the numbers of runs that are to be removed before.
    """
    columns = experiments.c
    query = select(columns.id, columns.project, columns.name).where(columns.deleted_at < before)
    rows = connection.execute(query if project is None else query.where(columns.project == project)).all()
    living = _with_other_runs(connection, [row.id for row in rows], doomed)
    return [
        (row.project, row.id)
        for row in rows
        if row.id not in living
        and not any(is_protected(row.project, f"experiment:{word}") for word in (row.id, row.name))
        and not is_protected(row.project, f"project:{row.project}")
    ]


def _with_other_runs(connection: Connection, ids: Sequence[str], doomed: Collection[int]) -> set[str]:
    """Those of the experiments that have a run which is not doomed."""
    found: set[str] = set()
    for start in range(0, len(ids), _CHUNK):
        mine = runs.c.experiment_id.in_(ids[start : start + _CHUNK])
        query = select(runs.c.experiment_id, runs.c.seq).where(mine).execution_options(yield_per=_ROWS_AT_ONCE)
        found.update(row.experiment_id for row in connection.execute(query) if row.seq not in doomed)
    return found


def forget_experiments(
    tx: Connection,
    project: str | None,
    before: datetime,
    is_protected: Protected,
    doomed: Collection[int] = frozenset(),
) -> list[tuple[str, str]]:
    """Remove the experiments that `expire_experiments` names, with their traces; returns the same."""
    going = expire_experiments(tx, project, before, is_protected, doomed)
    for start in range(0, len(going), _CHUNK):
        ids = [id for _, id in going[start : start + _CHUNK]]
        drop_traces(tx, select(traces.c.id).where(traces.c.experiment_id.in_(ids)))
        for table in (experiment_tags, run_datasets):
            tx.execute(table.delete().where(table.c.experiment_id.in_(ids)))
        tx.execute(experiments.delete().where(experiments.c.id.in_(ids)))
    return going


def refs_in_use(connection: Connection, project: str, refs: Sequence[str]) -> set[str]:
    """Those of the refs that a run of the project which is not deleted names as an input."""
    found: set[str] = set()
    for start in range(0, len(refs), _CHUNK):
        mine = run_inputs.c.ref.in_(refs[start : start + _CHUNK])
        query = select(run_inputs.c.ref).join(runs, runs.c.seq == run_inputs.c.run_seq)
        query = query.where(mine, unindexed(runs.c.project) == project, runs.c.deleted_at.is_(None))
        found.update(connection.execute(query).scalars())
    return found


def running_since(connection: Connection, at_least: datetime) -> datetime | None:
    """When the oldest run that is running began, of those that began at or after a time."""
    query = select(runs.c.started_at).where(runs.c.status == "running", runs.c.started_at >= at_least)
    return connection.execute(query.order_by(runs.c.started_at).limit(1)).scalar_one_or_none()
