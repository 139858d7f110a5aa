"""From rows to records: one query per kind of thing, however many runs are read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, Table, select

from loopwright.core import Conflict, NotFound
from loopwright.track.keys import is_among, key_names
from loopwright.track.model import Experiment, Lifecycle, Run, RunInput, RunStatus
from loopwright.track.tables import (
    experiment_tags,
    experiments,
    run_inputs,
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
    params, tags = _keyed(connection, _PARAMS, seqs), _keyed(connection, _TAGS, seqs)
    bits, inputs = _keyed(connection, _METRICS, seqs), _inputs(connection, seqs)
    names = key_names(connection, {key for found in (params, tags, bits) for row in found.values() for key in row})
    titles = _experiment_names(connection, {row.experiment_id for row in rows})
    return [
        Run(
            id=row.id,
            experiment=titles[row.experiment_id],
            name=row.name,
            status=RunStatus(row.status),
            started_at=row.started_at,
            ended_at=row.ended_at,
            actor=row.actor,
            parent=row.parent,
            kind=row.kind,
            error=row.error,
            params=_named(params.get(row.seq, {}), names),
            tags=_named(tags.get(row.seq, {}), names),
            inputs=tuple(inputs.get(row.seq, ())),
            experiment_id=row.experiment_id,
            lifecycle=Lifecycle.ACTIVE if row.deleted_at is None else Lifecycle.DELETED,
            **_metrics(_named(bits.get(row.seq, {}), names)),
        )
        for row in rows
    ]


_PARAMS = (run_params, "value")
_TAGS = (run_tags, "value")
_METRICS = (run_series, "last_bits")


def _keyed(connection: Connection, of: tuple[Table, str], seqs: list[int]) -> dict[int, dict[int, Any]]:
    table, column = of
    columns = table.c
    query = select(columns.run_seq, columns.key_id, columns[column])
    found: dict[int, dict[int, Any]] = {}
    # All at once: row by row costs a call each.
    rows = connection.execute(query.where(is_among(connection, columns.run_seq, seqs))).all()
    for seq, key_id, value in rows:
        if seq in found:
            found[seq][key_id] = value
        else:
            found[seq] = {key_id: value}
    return found


def _named(values: dict[int, Any], names: Mapping[int, str]) -> dict[str, Any]:
    return dict(sorted([(names[key], value) for key, value in values.items()]))


def _metrics(bits: Mapping[str, int]) -> dict[str, Any]:
    values = {key: from_bits(found) for key, found in bits.items()}
    return {
        "metrics": {key: value for key, value in values.items() if math.isfinite(value)},
        "not_finite": {key: str(to_wire(value)) for key, value in values.items() if not math.isfinite(value)},
    }


def _inputs(connection: Connection, seqs: list[int]) -> dict[int, list[RunInput]]:
    found: dict[int, list[RunInput]] = {}
    query = select(run_inputs).where(is_among(connection, run_inputs.c.run_seq, seqs))
    for row in connection.execute(query.order_by(run_inputs.c.name, run_inputs.c.ref)):
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
