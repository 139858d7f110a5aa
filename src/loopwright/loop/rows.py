"""Between this room's records and its rows."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, func, select, update

from loopwright.core import Conflict, NotFound, Scope, parse_ref
from loopwright.loop.model import Loop, LoopInfo, LoopRun, LoopState
from loopwright.loop.tables import loop_runs, loops


def info_of(row: Row[Any]) -> LoopInfo:
    """The declared loop in a row."""
    values = {str(name): value for name, value in row._mapping.items()}
    spec = msgspec.convert(values.pop("spec"), Loop)
    values.pop("name")
    return LoopInfo(loop=spec, **values)


def run_of(row: Row[Any]) -> LoopRun:
    """The loop run in a row."""
    return msgspec.convert({str(name): value for name, value in row._mapping.items()}, LoopRun)


def values_of(run: LoopRun) -> dict[str, Any]:
    """A loop run as a row."""
    plain = msgspec.to_builtins(run)
    return {**plain, "created_at": run.created_at, "updated_at": run.updated_at}


def find_loop(connection: Connection, scope: Scope, name: str) -> LoopInfo:
    """A loop of the scope's project.

    Raises:
        NotFound: there is none of that name.
    """
    plain = parse_ref(name, "loop").name
    query = select(loops).where(loops.c.project == scope.project, loops.c.name == plain)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFound(f"there is no loop {plain!r}", next_step="loopwright loops list")
    return info_of(row)


def find_run(connection: Connection, scope: Scope, id: str) -> LoopRun:
    """A loop run of the scope's project, by its id or ref.

    Raises:
        NotFound: there is none.
    """
    identifier = parse_ref(id, "looprun").name
    query = select(loop_runs).where(loop_runs.c.id == identifier, loop_runs.c.project == scope.project)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFound(f"there is no loop run {identifier!r}", next_step="loopwright loops runs")
    return run_of(row)


def active_runs(connection: Connection) -> list[LoopRun]:
    """The runs of all projects that are under way, oldest first."""
    query = select(loop_runs).where(loop_runs.c.state != LoopState.FINISHED.value).order_by(loop_runs.c.id)
    return [run_of(row) for row in connection.execute(query)]


def last_ended_at(connection: Connection, project: str, loop: str) -> datetime | None:
    """When the newest run of a loop that was triggered (not proposed by a person) ended."""
    query = select(func.max(loop_runs.c.updated_at)).where(
        loop_runs.c.project == project,
        loop_runs.c.loop == loop,
        loop_runs.c.state == LoopState.FINISHED.value,
        loop_runs.c.training_run != "",
    )
    found: datetime | None = connection.execute(query).scalar_one_or_none()
    return found


def replace_run(tx: Connection, before: LoopRun, after: LoopRun) -> None:
    """Write a run's next state, if nobody else has moved it since `before` was read.

    Raises:
        Conflict: somebody has.
    """
    same = (loop_runs.c.id == before.id) & (loop_runs.c.revision == before.revision)
    if tx.execute(update(loop_runs).where(same).values(**values_of(after))).rowcount != 1:
        raise Conflict(f"loop run {before.id} was moved by somebody else", next_step="read it again")
