"""The controller's part in scoring jobs: start what waits, watch what runs, begin again what was killed."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from loopwright.core import Conflict, Scope
from loopwright.loop.jobs import Jobs
from loopwright.loop.scoring.ending import fail
from loopwright.loop.scoring.model import ScoringRun, ScoringState
from loopwright.loop.scoring.rows import find_run, replace_run, runs_under_way
from loopwright.loop.scoring.starting import actor_of, collect

if TYPE_CHECKING:
    from loopwright.loop.rooms import Rooms


class ScoringProcess(msgspec.Struct, frozen=True):
    """What to run: the process that carries out a run."""

    run_id: str
    project: str
    cause: str
    actor: str

    def arguments(self, root: Path) -> list[str]:
        """The command line."""
        program = [sys.executable, "-m", "loopwright", "scoring", "carry-out", "--run-id", self.run_id]
        scope = ["--actor", self.actor, "--cause", self.cause, "--project", self.project]
        return [*program, *scope, "--json", "--workspace", str(root)]


def step(ws: Rooms, jobs: Jobs, now: datetime) -> bool:
    """Look at all jobs once; whether anything moved."""
    stores = ws.stores
    moved = collect(stores, now)
    with stores.db.read() as connection:
        runs = runs_under_way(connection)
    busy = {(run.project, run.job) for run in runs if run.state is ScoringState.RUNNING}
    for run in runs:
        room = ws.scoped(Scope(run.project, actor_of(run.job), run.cause))
        if run.state is ScoringState.RUNNING:
            moved |= _follow(room, jobs, run)
        elif (run.project, run.job) not in busy:
            busy.add((run.project, run.job))
            moved |= _move(room, run, state=ScoringState.RUNNING, attempt=1)
    return moved


def running_ids(ws: Rooms) -> set[str]:
    """The ids of the runs whose processes are wanted."""
    with ws.stores.db.read() as connection:
        return {run.id for run in runs_under_way(connection)}


def _follow(ws: Rooms, jobs: Jobs, run: ScoringRun) -> bool:
    if jobs.running(run.id):
        if jobs.age_s(run.id) <= run.spec.timeout_s:
            return False
        jobs.stop(run.id)
        return fail(ws, run.id, f"it took longer than {run.spec.timeout_s:g} s and was ended")
    with ws.stores.db.read() as connection:
        run = find_run(connection, ws.scope, run.id)
    if run.state is not ScoringState.RUNNING:
        ws.scoring.forget(run.id)
        return True
    said = jobs.complaint(run.id) or "the process ended without a word"
    if jobs.exhausted(run.id):
        return fail(ws, run.id, f"its process was killed again and again: {said}")
    if jobs.failed(run.id):
        if run.attempt >= run.spec.attempts:
            return fail(ws, run.id, said)
        _move(ws, run, attempt=run.attempt + 1, reason=said)
    jobs.ensure(ScoringProcess(run.id, run.project, run.cause, actor_of(run.job)))
    return False


def _move(ws: Rooms, run: ScoringRun, **changes: object) -> bool:
    after = msgspec.structs.replace(run, updated_at=ws.stores.clock.now(), **changes)
    try:
        with ws.stores.db.begin() as tx:
            replace_run(tx, run, after)
    except Conflict:
        return False
    return True
