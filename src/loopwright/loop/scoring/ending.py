"""How runs of scoring jobs end: each once, with its event, what its monitors see, and how far rows are scored."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from sqlalchemy import update

from loopwright.core import Scope
from loopwright.loop.scoring.model import ScoringRun, ScoringState, watched_name
from loopwright.loop.scoring.rows import find_run, replace_run
from loopwright.loop.scoring.starting import actor_of
from loopwright.loop.tables import scoring_jobs
from loopwright.monitor import ScoredRows

if TYPE_CHECKING:
    from loopwright.loop.rooms import Rooms
    from loopwright.serve import ScoringDone


def fail(ws: Rooms, id: str, reason: str) -> bool:
    """End a run that cannot go on; whether it was under way."""
    with ws.stores.db.begin() as tx:
        run = find_run(tx, ws.scope, id)
        if run.state is not ScoringState.RUNNING:
            return False
        now = ws.stores.clock.now()
        replace_run(tx, run, msgspec.structs.replace(run, state=ScoringState.FAILED, reason=reason, updated_at=now))
        told = {"job": f"scoring:{run.job}", "reason": reason, "attempts": run.attempt}
        ws.stores.events.append(tx, "scoring.failed", run.ref, _scope(run), told)
    ws.scoring.forget(id)
    return True


def finish(ws: Rooms, run: ScoringRun, done: ScoringDone | None, reason: str = "") -> ScoringRun:
    """End a run that went well. Everything that follows from it is one transaction.

    Args:
        done: what it came to; None where there was nothing to score.

    Raises:
        Conflict: somebody else moved the run.
    """
    with ws.stores.db.begin() as tx:
        now = ws.stores.clock.now()
        report = done.report if done is not None else None
        after = msgspec.structs.replace(
            run,
            state=ScoringState.FINISHED,
            made=report.output if report else "",
            rows=report.rows if report else 0,
            bad_rows=report.bad_rows if report else 0,
            reason=reason,
            updated_at=now,
        )
        after = replace_run(tx, run, after)
        here = (scoring_jobs.c.project == run.project) & (scoring_jobs.c.name == run.job)
        tx.execute(update(scoring_jobs).where(here).values(scored_to=run.source))
        if done is not None and done.counts:
            ws.monitors.note_scored(tx, _seen(after, done))
        ws.stores.events.append(tx, "scoring.finished", run.ref, _scope(run), _told(after))
    ws.scoring.forget(run.id)
    return after


def _seen(run: ScoringRun, done: ScoringDone) -> ScoredRows:
    return ScoredRows(
        watched=watched_name(run.project, run.job),
        model=run.model,
        start=run.created_at,
        end=run.updated_at,
        rows=run.rows,
        bad_rows=run.bad_rows,
        counts=done.counts,
    )


def _told(run: ScoringRun) -> dict[str, object]:
    told: dict[str, object] = {"job": f"scoring:{run.job}", "model": run.model, "input": run.source}
    told |= {"output": run.made, "rows": run.rows, "bad_rows": run.bad_rows}
    return (
        told | ({"since": run.since} if run.since is not None else {}) | ({"reason": run.reason} if run.reason else {})
    )


def _scope(run: ScoringRun) -> Scope:
    return Scope(run.project, actor_of(run.job), run.cause)
