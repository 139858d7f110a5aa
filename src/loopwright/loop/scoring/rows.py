"""Between the records of scoring jobs and their rows."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection, Row, select, update

from loopwright.core import Conflict, NotFound, Scope, parse_ref
from loopwright.loop.scoring.model import ScoringJob, ScoringJobInfo, ScoringRun, ScoringState
from loopwright.loop.tables import scoring_jobs, scoring_runs

UNDER_WAY = (ScoringState.WAITING.value, ScoringState.RUNNING.value)


def info_of(row: Row[Any]) -> ScoringJobInfo:
    """The declared job in a row."""
    values = {str(name): value for name, value in row._mapping.items()}
    spec = msgspec.convert(values.pop("spec"), ScoringJob)
    values.pop("name")
    return ScoringJobInfo(job=spec, **values)


def run_of(row: Row[Any]) -> ScoringRun:
    """The run in a row."""
    return msgspec.convert({str(name): value for name, value in row._mapping.items()}, ScoringRun)


def values_of(run: ScoringRun) -> dict[str, Any]:
    """A run as a row."""
    return {**msgspec.to_builtins(run), "created_at": run.created_at, "updated_at": run.updated_at}


def all_jobs(connection: Connection) -> list[ScoringJobInfo]:
    """The jobs of all projects."""
    query = select(scoring_jobs).order_by(scoring_jobs.c.project, scoring_jobs.c.name)
    return [info_of(row) for row in connection.execute(query)]


def find_job(connection: Connection, scope: Scope, name: str) -> ScoringJobInfo:
    """A job of the scope's project.

    Raises:
        NotFound: there is none of that name.
    """
    plain = parse_ref(name, "scoring").name
    query = select(scoring_jobs).where(scoring_jobs.c.project == scope.project, scoring_jobs.c.name == plain)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFound(f"there is no scoring job {plain!r}", next_step="loopwright scoring list")
    return info_of(row)


def find_run(connection: Connection, scope: Scope, id: str) -> ScoringRun:
    """A run of a job of the scope's project, by its id or ref.

    Raises:
        NotFound: there is none.
    """
    identifier = parse_ref(id, "run").name
    query = select(scoring_runs).where(scoring_runs.c.id == identifier, scoring_runs.c.project == scope.project)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFound(f"run {identifier!r} is of no scoring job", next_step="loopwright scoring runs")
    return run_of(row)


def runs_under_way(connection: Connection) -> list[ScoringRun]:
    """The runs of all projects that wait or run, oldest first."""
    query = select(scoring_runs).where(scoring_runs.c.state.in_(UNDER_WAY)).order_by(scoring_runs.c.id)
    return [run_of(row) for row in connection.execute(query)]


def replace_run(tx: Connection, before: ScoringRun, after: ScoringRun) -> ScoringRun:
    """Write a run's next state, if nobody else has moved it since `before` was read; what was written.

    Raises:
        Conflict: somebody has.
    """
    moved = msgspec.structs.replace(after, revision=before.revision + 1)
    same = (scoring_runs.c.id == before.id) & (scoring_runs.c.revision == before.revision)
    if tx.execute(update(scoring_runs).where(same).values(**values_of(moved))).rowcount != 1:
        raise Conflict(f"scoring run {before.id} was moved by somebody else", next_step="read it again")
    return moved
