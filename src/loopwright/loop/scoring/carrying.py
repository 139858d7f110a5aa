"""What the process of a run does: pin model and rows, score, deliver, and end the run. Killed at any line and started
again, it goes on, and delivers once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from loopwright.core import Conflict, Corrupt, Forbidden, Invalid, NotFound, parse_ref
from loopwright.loop.scoring.ending import fail, finish
from loopwright.loop.scoring.model import ScoringRun, ScoringState
from loopwright.loop.scoring.rows import find_job, find_run, replace_run

if TYPE_CHECKING:
    from loopwright.loop.rooms import Rooms
    from loopwright.serve import ScoringOrder

_ENDPOINT = "endpoint:"


def carry_out(ws: Rooms, id: str) -> ScoringRun:
    """Bring a run that was started to its end.

    Raises:
        NotFound, Conflict, Invalid, Forbidden, Corrupt: it cannot be done; the run has failed.
        Unavailable, ModelFailed: it cannot be done now; the run may be begun again.
    """
    with ws.stores.db.read() as connection:
        run = find_run(connection, ws.scope, id)
    if run.state is not ScoringState.RUNNING:
        raise Conflict(f"scoring run {run.id} is {run.state.value}", next_step="trigger its job")
    try:
        run = run if run.source else _pinned(ws, run)
        if run.since is not None and run.since == parse_ref(run.source).version:
            return finish(ws, run, None, f"{run.source} has no rows that were not scored before")
        return finish(ws, run, ws.scoring.deliver(_order(run)))
    except (NotFound, Conflict, Invalid, Forbidden, Corrupt) as error:
        fail(ws, run.id, str(error))
        raise


def _pinned(ws: Rooms, run: ScoringRun) -> ScoringRun:
    """The run with the versions that it is of, so that a restart is of the same ones."""
    job = run.spec
    source = ws.scoring.newest(job.input)
    since, append = None, False
    if job.new_rows:
        with ws.stores.db.read() as connection:
            before = find_job(connection, ws.scope, run.job).scored_to
        version = parse_ref(before).version if before else None
        if version is not None and (before == source or ws.scoring.follows(source, version)):
            since, append = version, True
    now = ws.stores.clock.now()
    pinned = msgspec.structs.replace(
        run, model=_model_of(ws, job.model), source=source, since=since, append=append, updated_at=now
    )
    with ws.stores.db.begin() as tx:
        return replace_run(tx, run, pinned)


def _model_of(ws: Rooms, ref: str) -> str:
    """The version that answers.

    Raises:
        NotFound: there is none.
        Conflict: the endpoint has no stable version yet.
    """
    if ref.startswith(_ENDPOINT):
        stable = ws.endpoints.get(ref.removeprefix(_ENDPOINT)).stable
        if not stable:
            raise Conflict(f"{ref} has no stable version yet", next_step="release one, or name a model's version")
        return stable
    return ws.models.get(ref).ref


def _order(run: ScoringRun) -> ScoringOrder:
    from loopwright.serve import ScoringOptions, ScoringOrder

    job = run.spec
    return ScoringOrder(
        run=run.id,
        job=run.job,
        model=run.model,
        source=run.source,
        since=run.since,
        output=job.output,
        append=run.append,
        options=ScoringOptions(keep=job.keep, prefix=job.prefix, skip_bad=job.skip_bad),
        watched=job.drift is not None,
    )
