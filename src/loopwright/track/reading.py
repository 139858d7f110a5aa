"""From rows to records: one query per kind of thing, however many runs are read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from operator import attrgetter
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from sqlalchemy import Connection, Row, Select, Table, bindparam, select

from loopwright.core import Conflict, NotFound
from loopwright.track.columns import floats_of
from loopwright.track.keys import ByNumbers, Together, key_names
from loopwright.track.model import Experiment, Lifecycle, Run, RunInput, RunStatus, TimedPoint
from loopwright.track.tables import (
    experiment_tags,
    experiments,
    run_inputs,
    run_params,
    run_series,
    run_tags,
    runs,
    unindexed,
)
from loopwright.track.values import to_wire

_CHUNK = 500
_SHORT_ID = re.compile("[0-9a-f]{6,31}")
_CANDIDATES = 5


class ExperimentPlace(NamedTuple):
    """What a new run needs to know of its experiment."""

    id: str
    name: str
    is_deleted: bool


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
    """The row of a run of this project, deleted or not, by its id or the beginning of it, at least six digits.

    Raises:
        NotFound: there is no such run.
        Conflict: several runs begin so.
    """
    row = _find(connection, project, run_id) or _find_short(connection, project, run_id.removeprefix("run:"))
    if row is None:
        shown = run_id if len(run_id) <= 60 else f"{run_id[:60]}…"
        raise NotFound(f"there is no run {shown!r} in project {project!r}", next_step="loopwright runs search")
    return row


def any_runs(connection: Connection, project: str, ids: Sequence[str]) -> list[Row[Any]]:
    """The rows of runs of this project, deleted or not, in the order of their ids, each as `any_run` takes it.

    Raises:
        NotFound, Conflict: as `any_run`.
    """
    found: dict[str, Row[Any]] = {}
    for some in _chunks(list(dict.fromkeys(id.removeprefix("run:") for id in ids))):
        found.update({row.id: row for row in connection.execute(_RUNS, {"ids": some, "project": project})})
    return [found.get(id.removeprefix("run:")) or any_run(connection, project, id) for id in ids]


def _find(connection: Connection, project: str, run_id: str) -> Row[Any] | None:
    wanted = {"id": run_id.removeprefix("run:"), "project": project}
    return connection.execute(_RUN, wanted).one_or_none()


def _find_short(connection: Connection, project: str, start: str) -> Row[Any] | None:
    """The only run whose id begins so."""
    if not _SHORT_ID.fullmatch(start):
        return None
    query = select(runs).where(unindexed(runs.c.project) == project, runs.c.id >= start, runs.c.id < f"{start}g")
    rows = connection.execute(query.order_by(runs.c.id).limit(_CANDIDATES + 1)).all()
    if len(rows) > 1:
        shown = ", ".join(row.id for row in rows[:_CANDIDATES]) + (", …" if len(rows) > _CANDIDATES else "")
        raise Conflict(f"several runs begin with {start}: {shown}", next_step="give more of the id")
    return rows[0] if rows else None


def _the_one(table: Table, name: str) -> Select[Any]:
    """The row of a project that has a value."""
    return select(table).where(table.c[name] == bindparam(name), table.c.project == bindparam("project"))


# Made once: to make a statement costs more than to run it.
_RUN, _EXPERIMENT, _NAMED = _the_one(runs, "id"), _the_one(experiments, "id"), _the_one(experiments, "name")
_RUNS = select(runs).where(
    runs.c.id.in_(bindparam("ids", expanding=True)), unindexed(runs.c.project) == bindparam("project")
)
_NAMES = select(experiments.c.id, experiments.c.name).where(experiments.c.id.in_(bindparam("ids", expanding=True)))
_TITLE = {
    "sqlite": "SELECT id, name FROM experiments WHERE id = ?",
    "postgresql": "SELECT id, name FROM experiments WHERE id = %s",
}
_EXPERIMENT_TAGS = (
    select(experiment_tags)
    .where(experiment_tags.c.experiment_id.in_(bindparam("ids", expanding=True)))
    .order_by(experiment_tags.c.key)
)


def find_experiment(connection: Connection, project: str, name: str) -> Experiment | None:
    """The experiment of that name, deleted or not, if there is one."""
    return _experiment(connection, connection.execute(_NAMED, {"name": name, "project": project}).all())


def experiment_by_id(connection: Connection, project: str, id: str) -> Experiment | None:
    """The experiment of that id, deleted or not, if there is one."""
    return _experiment(connection, connection.execute(_EXPERIMENT, {"id": id, "project": project}).all())


def experiment_place(connection: Connection, project: str, id: str = "", name: str = "") -> ExperimentPlace | None:
    """Where runs of an experiment, of that id or name, belong; None where there is none."""
    query, value = (_EXPERIMENT, {"id": id}) if id else (_NAMED, {"name": name})
    row = connection.execute(query, {**value, "project": project}).one_or_none()
    return None if row is None else ExperimentPlace(row.id, row.name, row.deleted_at is not None)


def _experiment(connection: Connection, rows: Sequence[Row[Any]]) -> Experiment | None:
    return next(iter(load_experiments(connection, rows)), None)


def load_experiments(connection: Connection, rows: Sequence[Row[Any]]) -> list[Experiment]:
    """The records of experiments' rows, in their order."""
    tags: dict[str, dict[str, str]] = {}
    for some in _chunks([row.id for row in rows]):
        for tag in connection.execute(_EXPERIMENT_TAGS, {"ids": some}):
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


Lasts: TypeAlias = Mapping[int, list[TimedPoint]]
"""The last point of each metric of runs, by the run's number, in the order of their keys."""


def load_runs(connection: Connection, rows: Sequence[Row[Any]]) -> list[Run]:
    """The records of runs' rows, in their order."""
    return load_with_lasts(connection, rows)[0]


def load_with_lasts(connection: Connection, rows: Sequence[Row[Any]]) -> tuple[list[Run], Lasts]:
    """The same with the last points of the runs."""
    seqs = [row.seq for row in rows]
    columns = _columns(connection, _WHOLE, seqs)
    params, tags, series, used = columns[:3], columns[3:6], columns[6:11], columns[11:]
    names = key_names(connection, {*params[1], *tags[1], *series[1]})
    lasts, params_of, tags_of = _lasts(series, names), _texts(params, names), _texts(tags, names)
    inputs = _inputs(used)
    titles = experiment_names(connection, {row.experiment_id for row in rows})
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
            params=params_of.get(row.seq, {}),
            tags=tags_of.get(row.seq, {}),
            inputs=tuple(inputs.get(row.seq, ())),
            experiment_id=row.experiment_id,
            lifecycle=Lifecycle.ACTIVE if row.deleted_at is None else Lifecycle.DELETED,
            **_metrics(lasts.get(row.seq, ())),
        )
        for row in rows
    ], lasts


def load_lasts(connection: Connection, seqs: Sequence[int]) -> Lasts:
    """The last points of runs of these numbers."""
    series = _columns(connection, _LASTS, seqs)
    return _lasts(series, key_names(connection, set(series[1])))


def _columns(connection: Connection, query: ByNumbers | Together, seqs: Sequence[int]) -> list[list[Any]]:
    """The columns of a query for runs; a part of the runs at a time, since a text on SQLite is no longer than 1 GB."""
    first, *others = [query.columns(connection, some) for some in _chunks(seqs)] or [query.columns(connection, [])]
    for part in others:
        for column, more in zip(first, part, strict=True):
            column += more
    return first


def _lasts(series: Sequence[list[Any]], names: Mapping[int, str]) -> Lasts:
    numbers, key_ids, bits, steps, times = series
    found: dict[int, list[TimedPoint]] = {}
    values = floats_of(np.array(bits, np.int64)).tolist()
    for seq, key_id, value, step, at in zip(numbers, key_ids, values, steps, times, strict=True):
        found.setdefault(seq, []).append(TimedPoint(names[key_id], value, step, at))
    for points in found.values():
        points.sort(key=_KEY)
    return found


_KEY = attrgetter("key")
_LASTS = ByNumbers(
    select(
        run_series.c.run_seq,
        run_series.c.key_id,
        run_series.c.last_bits,
        run_series.c.last_step,
        run_series.c.last_at,
    ),
    run_series.c.run_seq,
)


def _texts_by_run(table: Table) -> ByNumbers:
    return ByNumbers(select(table.c.run_seq, table.c.key_id, table.c.value), table.c.run_seq)


_PARAMS, _TAGS = _texts_by_run(run_params), _texts_by_run(run_tags)
_INPUTS = ByNumbers(
    select(*(run_inputs.c[name] for name in ("run_seq", "ref", "name", "digest", "dataset", "context"))),
    run_inputs.c.run_seq,
)
_WHOLE = Together(_PARAMS, _TAGS, _LASTS, _INPUTS)


def _texts(columns: Sequence[list[Any]], names: Mapping[int, str]) -> dict[int, dict[str, str]]:
    """Params or tags by the run's number, then by key."""
    found: dict[int, list[tuple[str, str]]] = {}
    for seq, key_id, text in zip(*columns, strict=True):
        found.setdefault(seq, []).append((names[key_id], text))
    return {seq: dict(sorted(pairs)) for seq, pairs in found.items()}


def _metrics(points: Sequence[TimedPoint]) -> dict[str, Any]:
    values = {point.key: point.value for point in points}
    strange = {key: str(to_wire(value)) for key, value in values.items() if not isfinite(value)}
    for key in strange:
        del values[key]
    return {"metrics": values, "not_finite": strange}


def _inputs(columns: Sequence[list[Any]]) -> dict[int, list[RunInput]]:
    """What each run read, by name, then by ref."""
    found: dict[int, list[RunInput]] = {}
    for seq, *texts in zip(*columns, strict=True):
        found.setdefault(seq, []).append(RunInput(*texts))
    for inputs in found.values():
        inputs.sort(key=_NAME_AND_REF)
    return found


_NAME_AND_REF = attrgetter("name", "ref")


def experiment_names(connection: Connection, ids: set[str]) -> dict[str, str]:
    """The names of experiments, deleted or not, by id."""
    found: dict[str, str] = {}
    if len(ids) == 1:
        return dict(connection.exec_driver_sql(_TITLE[connection.dialect.name], tuple(ids)).fetchall())
    for some in _chunks(sorted(ids)):
        found.update({row.id: row.name for row in connection.execute(_NAMES, {"ids": some})})
    return found


def _chunks(items: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK))
