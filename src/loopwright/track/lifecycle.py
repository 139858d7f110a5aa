"""How a run begins, goes on and ends, each inside a transaction that its caller opened."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, bindparam, select, update

from loopwright.core import Conflict, Invalid, NotFound, Scope, check_name, is_id, new_id
from loopwright.store import Database, Stores
from loopwright.track.bulk import settle_series
from loopwright.track.model import Run, RunStatus
from loopwright.track.reading import ExperimentPlace, experiment_place, find_run, load_runs, the_run
from loopwright.track.revisions import touch
from loopwright.track.tables import experiments, runs
from loopwright.track.writing import write_first_texts, write_texts

_MAX_NAME = 500
_CHANGE = update(runs).where(runs.c.seq == bindparam("the_seq"))
_INSERT = runs.insert().returning(runs.c.seq)
_COLUMNS = ("id", "experiment_id", "name", "kind", "status", "actor", "parent", "started_at")
_ENDED_EVENT = {
    RunStatus.FINISHED: "run.finished",
    RunStatus.FAILED: "run.failed",
    RunStatus.KILLED: "run.killed",
}


class NewRun(msgspec.Struct, frozen=True):
    """What a run starts with; see `RunService.start` and `RunService.start_in`."""

    experiment: str
    name: str
    params: dict[str, str]
    tags: dict[str, str]
    parent: str
    run_id: str
    kind: str
    experiment_id: str = ""
    started_at: datetime | None = None


def start_run(stores: Stores, scope: Scope, tx: Connection, wanted: NewRun) -> Run:
    """Add a run, or set one that did not finish to running again.

    Raises:
        Conflict: the run has finished, or the id belongs to another project.
        Invalid: a name, id, param or tag cannot be stored.
    """
    check_run_words(wanted.name, wanted.kind)
    if wanted.run_id and not is_id(wanted.run_id):
        raise Invalid(
            f"{wanted.run_id[:60]!r} is not a run id", next_step="an id has 32 hex digits; leave it out for a new one"
        )
    run_id = wanted.run_id or new_id()
    if wanted.run_id and _resume(stores, scope, tx, run_id):
        write_texts(stores.db, tx, the_run(tx, scope.project, run_id).seq, wanted.params, wanted.tags)
        return load_runs(tx, [the_run(tx, scope.project, run_id)])[0]
    seq, run = _insert(stores, scope, tx, run_id, wanted)
    write_first_texts(stores.db, tx, seq, wanted.params, wanted.tags)
    # Nothing else can hang on it yet, so it need not be read.
    return msgspec.structs.replace(
        run, params=dict(sorted(wanted.params.items())), tags=dict(sorted(wanted.tags.items()))
    )


def _insert(stores: Stores, scope: Scope, tx: Connection, run_id: str, wanted: NewRun) -> tuple[int, Run]:
    """Add a run; its number, and the run without what hangs on it."""
    project, now = scope.project, stores.clock.now()
    parent = the_run(tx, project, wanted.parent).id if wanted.parent else ""
    name = wanted.name or f"{wanted.kind}-{run_id[-6:]}"
    if wanted.experiment_id:
        found = active_experiment(tx, project, wanted.experiment_id)
    else:
        found = ensure_experiment(stores.db, tx, project, wanted.experiment, now)
    run = Run(
        id=run_id,
        experiment=found.name,
        name=name,
        status=RunStatus.RUNNING,
        started_at=wanted.started_at or now,
        actor=scope.actor,
        parent=parent,
        kind=wanted.kind,
        experiment_id=found.id,
    )
    seq = insert_run(tx, {"project": project, **{key: getattr(run, key) for key in _COLUMNS}})
    attrs = {"experiment": found.name, "name": name, "kind": wanted.kind}
    stores.lineage.node(tx, run.ref, attrs=attrs, project=project)
    stores.events.append(tx, "run.started", run.ref, scope, {**attrs, "parent": parent})
    return seq, run


def _resume(stores: Stores, scope: Scope, tx: Connection, run_id: str) -> bool:
    row = find_run(tx, scope.project, run_id)
    if row is None:
        if tx.execute(select(runs.c.seq).where(runs.c.id == run_id)).first() is not None:
            raise Conflict(f"the run id {run_id} is taken", next_step="leave the id out to get a new one")
        return False
    if row.status == RunStatus.FINISHED:
        raise Conflict(f"run {run_id} has finished and cannot go on", next_step="start a new run")
    reopen_run(tx, row)
    stores.events.append(tx, "run.resumed", f"run:{run_id}", scope, {"status_before": row.status})
    return True


def tell_end(stores: Stores, scope: Scope, tx: Connection, run: Run) -> None:
    """Raise the event that a run has ended."""
    evidence: dict[str, Any] = {"seconds": run.seconds, "metrics": run.metrics}
    if run.error:
        evidence["error"] = run.error
    stores.events.append(tx, _ENDED_EVENT[run.status], run.ref, scope, evidence)


def ensure_experiment(database: Database, tx: Connection, project: str, name: str, now: datetime) -> ExperimentPlace:
    """The experiment of that name, made if there is none.

    Raises:
        Invalid: the name cannot be stored.
        Conflict: it is deleted.
    """
    check_title("experiment", name)
    found = experiment_place(tx, project, name=name)
    if found is None:
        row = {"id": new_id(), "project": project, "name": name, "created_at": now, "updated_at": now}
        tx.execute(database.upsert(experiments, row, ["project", "name"]))
        found = experiment_place(tx, project, name=name)
    if found is None:
        raise Conflict(f"the experiment {name!r} was removed while it was made", next_step="try again")
    return _not_deleted(found)


def active_experiment(connection: Connection, project: str, id: str) -> ExperimentPlace:
    """The experiment of that id.

    Raises:
        NotFound: there is none.
        Conflict: it is deleted.
    """
    found = experiment_place(connection, project, id=id)
    if found is None:
        raise NotFound(
            f"there is no experiment {id[:60]!r} in project {project!r}",
            next_step="loopwright experiments search lists them",
        )
    return _not_deleted(found)


def _not_deleted(found: ExperimentPlace) -> ExperimentPlace:
    if found.is_deleted:
        raise Conflict(
            f"the experiment {found.name!r} is deleted",
            next_step=f"loopwright experiments restore {found.id} brings it back",
        )
    return found


def check_run_words(name: str, kind: str) -> None:
    """Refuse a run name or kind that cannot be stored.

    Raises:
        Invalid: too long, empty or with control characters.
    """
    if name:
        check_title("run", name)
    check_name("kind of run", kind)


def insert_run(tx: Connection, row: Mapping[str, Any]) -> int:
    """Add a run; returns its number."""
    seq = int(tx.execute(_INSERT, {"deleted_at": None, "ended_at": None, "error": "", **row}).scalar_one())
    touch(tx, [seq])
    return seq


def reopen_run(tx: Connection, row: Row[Any]) -> None:
    """Set a run that did not finish to running again."""
    touch(tx, [row.seq])
    values = {"status": RunStatus.RUNNING, "ended_at": None, "error": ""}
    tx.execute(update(runs).where(runs.c.seq == row.seq).values(values))


def end_run(tx: Connection, row: Row[Any], status: RunStatus, error: str, now: datetime) -> bool:
    """Set a running run to its end; False if it has ended so already.

    Raises:
        Conflict: it has ended in another way.
    """
    if row.status == status:
        return False
    touch(tx, [row.seq])
    values = {"status": status, "ended_at": now, "error": error}
    still_running = (runs.c.seq == row.seq) & (runs.c.status == RunStatus.RUNNING)
    if tx.execute(update(runs).where(still_running).values(values)).rowcount != 1:
        raise Conflict(f"run {row.id} has ended as {row.status!r} and cannot become {status.value!r}")
    settle_series(tx, row.seq)
    return True


def check_title(noun: str, name: str) -> str:
    """`name`, if an experiment or a run may be called so.

    Raises:
        Invalid: it is empty, too long, or holds a control character.
    """
    if name.isprintable() and 0 < len(name) <= _MAX_NAME:
        return name
    raise Invalid(
        f"{name[:60]!r} cannot name {'an' if noun == 'experiment' else 'a'} {noun}",
        next_step=f"use 1 to {_MAX_NAME} characters without control characters",
    )


def change_run(
    stores: Stores,
    scope: Scope,
    tx: Connection,
    row: Row[Any],
    name: str,
    status: RunStatus | None,
    ended_at: datetime | None,
) -> None:
    """Change a run's name, status or end, and tell of what changed.

    Raises:
        Invalid: the name cannot be stored, or a running run was given an end.
    """
    values = changed_run(row, name, status, ended_at, stores.clock.now())
    if not values:
        return
    touch(tx, [row.seq])
    tx.execute(_CHANGE, {"the_seq": row.seq, **values})
    if values.get("status", RunStatus.RUNNING) is not RunStatus.RUNNING:
        settle_series(tx, row.seq)
    before = {key: str(getattr(row, key)) for key in values}
    evidence = {"before": before, "after": {key: str(value) for key, value in values.items()}}
    stores.events.append(tx, "run.changed", f"run:{row.id}", scope, evidence)


def changed_run(
    row: Any, name: str, status: RunStatus | None, ended_at: datetime | None, now: datetime
) -> dict[str, Any]:
    """The columns of a run that change, with their new values."""
    values: dict[str, Any] = {}
    if name:
        check_run_words(name, row.kind)
        values["name"] = name
    after = RunStatus(status or row.status)
    values["status"] = after
    if after is RunStatus.RUNNING:
        if ended_at is not None:
            raise Invalid(f"run {row.id} is running and can have no end", next_step="give its status, too")
        values["ended_at"] = None
    else:
        values["ended_at"] = ended_at or row.ended_at or now
    return {key: value for key, value in values.items() if value != getattr(row, key)}


def delete_run(stores: Stores, scope: Scope, tx: Connection, row: Row[Any]) -> None:
    """Mark a run deleted; nothing happens to one that is."""
    if row.deleted_at is None:
        touch(tx, [row.seq])
        tx.execute(update(runs).where(runs.c.seq == row.seq).values(deleted_at=stores.clock.now()))
        stores.events.append(tx, "run.deleted", f"run:{row.id}", scope, {"name": row.name})


def restore_run(stores: Stores, scope: Scope, tx: Connection, row: Row[Any]) -> None:
    """Take back a run's deletion; nothing happens to one that is not deleted.

    Raises:
        Conflict: its experiment is deleted.
    """
    if row.deleted_at is None:
        return
    holder = tx.execute(select(experiments).where(experiments.c.id == row.experiment_id)).one()
    if holder.deleted_at is not None:
        raise Conflict(
            f"the experiment {holder.name!r} of run {row.id} is deleted",
            next_step=f"loopwright experiments restore {holder.id} brings both back",
        )
    touch(tx, [row.seq])
    tx.execute(update(runs).where(runs.c.seq == row.seq).values(deleted_at=None))
    stores.events.append(tx, "run.restored", f"run:{row.id}", scope, {"name": row.name})
