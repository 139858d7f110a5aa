"""From rows to records: one query per kind of thing, however many runs are read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, Table, select

from loopwright.core import Conflict, NotFound
from loopwright.track.model import Experiment, Lifecycle, Run, RunInput, RunStatus
from loopwright.track.tables import (
    experiment_tags,
    experiments,
    run_inputs,
    run_keys,
    run_params,
    run_series,
    run_tags,
    runs,
)
from loopwright.track.values import from_bits, to_wire

_CHUNK = 500


def find_run(connection: Connection, project: str, run_id: str) -> Row[Any] | None:
    """The row of a run of this project, if there is one that is not deleted."""
    row = _find(connection, project, run_id)
    return row if row is not None and row.deleted_at is None else None


def the_run(connection: Connection, project: str, run_id: str) -> Row[Any]:
    """The row of a run of this project that may be changed.

    Raises:
        NotFound: there is no such run.
        Conflict: it is deleted.
    """
    row = any_run(connection, project, run_id)
    if row.deleted_at is not None:
        raise Conflict(f"run {row.id} is deleted", next_step=f"loopwright runs restore {row.id} brings it back")
    return row


def any_run(connection: Connection, project: str, run_id: str) -> Row[Any]:
    """The row of a run of this project, deleted or not.

    Raises:
        NotFound: there is no such run.
    """
    row = _find(connection, project, run_id)
    if row is None:
        shown = run_id if len(run_id) <= 60 else f"{run_id[:60]}…"
        raise NotFound(f"there is no run {shown!r} in project {project!r}", next_step="loopwright runs search")
    return row


def _find(connection: Connection, project: str, run_id: str) -> Row[Any] | None:
    query = select(runs).where(runs.c.id == run_id.removeprefix("run:"), runs.c.project == project)
    return connection.execute(query).one_or_none()


def find_experiment(connection: Connection, project: str, name: str) -> Experiment | None:
    """The experiment of that name, deleted or not, if there is one."""
    query = select(experiments).where(experiments.c.project == project, experiments.c.name == name)
    return _one_experiment(connection, query)


def experiment_by_id(connection: Connection, project: str, id: str) -> Experiment | None:
    """The experiment of that id, deleted or not, if there is one."""
    query = select(experiments).where(experiments.c.project == project, experiments.c.id == id)
    return _one_experiment(connection, query)


def _one_experiment(connection: Connection, query: Select[Any]) -> Experiment | None:
    return next(iter(load_experiments(connection, connection.execute(query).all())), None)


def load_experiments(connection: Connection, rows: Sequence[Row[Any]]) -> list[Experiment]:
    """The records of experiments' rows, in their order."""
    tags: dict[str, dict[str, str]] = {}
    for some in _chunks([row.id for row in rows]):
        query = select(experiment_tags).where(experiment_tags.c.experiment_id.in_(some))
        for tag in connection.execute(query.order_by(experiment_tags.c.key)):
            tags.setdefault(tag.experiment_id, {})[tag.key] = tag.value
    return [
        Experiment(
            id=row.id,
            name=row.name,
            created_at=row.created_at,
            baseline=row.baseline,
            tags=tags.get(row.id, {}),
            lifecycle=Lifecycle.ACTIVE if row.deleted_at is None else Lifecycle.DELETED,
            updated_at=row.updated_at,
        )
        for row in rows
    ]


def load_runs(connection: Connection, rows: Sequence[Row[Any]]) -> list[Run]:
    """The records of runs' rows, in their order."""
    seqs = [row.seq for row in rows]
    params, tags = _texts(connection, run_params, seqs), _texts(connection, run_tags, seqs)
    metrics, inputs = _metrics(connection, seqs), _inputs(connection, seqs)
    names = _experiment_names(connection, {row.experiment_id for row in rows})
    return [
        Run(
            id=row.id,
            experiment=names[row.experiment_id],
            name=row.name,
            status=RunStatus(row.status),
            started_at=row.started_at,
            ended_at=row.ended_at,
            actor=row.actor,
            parent=row.parent,
            kind=row.kind,
            error=row.error,
            params=params.get(row.seq, {}),
            metrics={key: value for key, value in metrics.get(row.seq, {}).items() if math.isfinite(value)},
            not_finite={
                key: str(to_wire(value)) for key, value in metrics.get(row.seq, {}).items() if not math.isfinite(value)
            },
            tags=tags.get(row.seq, {}),
            inputs=tuple(inputs.get(row.seq, ())),
            experiment_id=row.experiment_id,
            lifecycle=Lifecycle.ACTIVE if row.deleted_at is None else Lifecycle.DELETED,
        )
        for row in rows
    ]


def _texts(connection: Connection, table: Table, seqs: list[int]) -> dict[int, dict[str, str]]:
    found: dict[int, dict[str, str]] = {}
    query = select(table.c.run_seq, run_keys.c.key, table.c.value).join(run_keys, run_keys.c.id == table.c.key_id)
    for some in _chunks(seqs):
        for row in connection.execute(query.where(table.c.run_seq.in_(some)).order_by(run_keys.c.key)):
            found.setdefault(row.run_seq, {})[row.key] = row.value
    return found


def _metrics(connection: Connection, seqs: list[int]) -> dict[int, dict[str, float]]:
    found: dict[int, dict[str, float]] = {}
    columns = run_series.c
    query = select(columns.run_seq, run_keys.c.key, columns.last_bits).join(run_keys, run_keys.c.id == columns.key_id)
    for some in _chunks(seqs):
        for row in connection.execute(query.where(columns.run_seq.in_(some)).order_by(run_keys.c.key)):
            found.setdefault(row.run_seq, {})[row.key] = from_bits(row.last_bits)
    return found


def _inputs(connection: Connection, seqs: list[int]) -> dict[int, list[RunInput]]:
    found: dict[int, list[RunInput]] = {}
    for some in _chunks(seqs):
        query = select(run_inputs).where(run_inputs.c.run_seq.in_(some)).order_by(run_inputs.c.name, run_inputs.c.ref)
        for row in connection.execute(query):
            found.setdefault(row.run_seq, []).append(RunInput(row.ref, row.name, row.digest, row.dataset, row.context))
    return found


def _experiment_names(connection: Connection, ids: set[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for some in _chunks(sorted(ids)):
        query = select(experiments.c.id, experiments.c.name).where(experiments.c.id.in_(some))
        found.update({row.id: row.name for row in connection.execute(query)})
    return found


def _chunks(items: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK))
