"""From rows to records: one query per kind of thing, however many runs are read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Table, select

from loopwright.core import NotFound
from loopwright.track.model import Experiment, Run, RunInput, RunStatus
from loopwright.track.tables import experiments, run_inputs, run_keys, run_params, run_series, run_tags, runs
from loopwright.track.values import from_bits, to_wire

_CHUNK = 500


def find_run(connection: Connection, project: str, run_id: str) -> Row[Any] | None:
    """The row of a run of this project, if there is one."""
    query = select(runs).where(runs.c.id == run_id.removeprefix("run:"), runs.c.project == project)
    return connection.execute(query.where(runs.c.deleted_at.is_(None))).one_or_none()


def the_run(connection: Connection, project: str, run_id: str) -> Row[Any]:
    """The row of a run of this project.

    Raises:
        NotFound: there is no such run.
    """
    row = find_run(connection, project, run_id)
    if row is None:
        shown = run_id if len(run_id) <= 60 else f"{run_id[:60]}…"
        raise NotFound(f"there is no run {shown!r} in project {project!r}", next_step="loopwright runs search")
    return row


def find_experiment(connection: Connection, project: str, name: str) -> Experiment | None:
    """The experiment of that name, if there is one."""
    query = select(experiments).where(experiments.c.project == project, experiments.c.name == name)
    row = connection.execute(query).one_or_none()
    return None if row is None else experiment_of(row)


def experiment_of(row: Row[Any]) -> Experiment:
    """The record of an experiment's row."""
    return Experiment(row.id, row.name, row.created_at, row.baseline)


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
            found.setdefault(row.run_seq, []).append(RunInput(row.ref, row.name, row.digest))
    return found


def _experiment_names(connection: Connection, ids: set[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for some in _chunks(sorted(ids)):
        query = select(experiments.c.id, experiments.c.name).where(experiments.c.id.in_(some))
        found.update({row.id: row.name for row in connection.execute(query)})
    return found


def _chunks(items: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK))
