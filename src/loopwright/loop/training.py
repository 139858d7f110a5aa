"""The training part of a loop run: start the job, notice how it ended, try again or go on."""

from __future__ import annotations

from loopwright.core import LoopwrightError, NotFound, Scope, new_id, parse_ref
from loopwright.loop.jobs import JobOrder, JobResult, Jobs, model_of
from loopwright.loop.model import LoopRun
from loopwright.loop.moving import actor_of, move
from loopwright.loop.rooms import Rooms
from loopwright.loop.starting import event_that_made
from loopwright.loop.transitions import AttemptFailed, Begun, Trained
from loopwright.loop.triggers import fill
from loopwright.track import RunStatus

_RECENT_VERSIONS = 100


def begin(ws: Rooms, run: LoopRun) -> None:
    """Mint the id of the training run. The job is started by `follow`, so that a kill in between costs nothing."""
    with ws.stores.db.begin() as tx:
        move(ws.stores, tx, run, Begun(new_id()))


def follow(ws: Rooms, jobs: Jobs, run: LoopRun) -> bool:
    """Start, watch or end the training of a run; whether the run moved."""
    job = run.training_run
    if jobs.running(job):
        if jobs.age_s(job) <= run.spec.training_timeout_s:
            return False
        jobs.stop(job)
        return _failed(ws, run, f"training took longer than {run.spec.training_timeout_s:g} s and was ended")
    result = jobs.result(job) or _left_behind(ws, run)
    if result is not None and result.status == RunStatus.FINISHED.value:
        return _trained(ws, run, result)
    if result is not None or jobs.failed(job) or jobs.exhausted(job):
        said = result.error if result is not None else ""
        return _failed(ws, run, said or jobs.complaint(job) or "the training job ended without a word")
    jobs.ensure(_order(run))
    return False


def _order(run: LoopRun) -> JobOrder:
    values = {"now": run.created_at.isoformat(), "loop": run.loop, "cause": run.cause}
    return JobOrder(
        run.training_run,
        run.spec.pipeline,
        fill(run.spec.params, values),
        run.project,
        run.last_event,
        actor_of(run.loop),
    )


def _left_behind(ws: Rooms, run: LoopRun) -> JobResult | None:
    """What a job did that was killed between ending its run and saying so."""
    try:
        found = ws.runs.get(run.training_run)
        if found.status is not RunStatus.FINISHED:
            return None
        versions = ws.models.versions(run.spec.model, limit=_RECENT_VERSIONS)
    except NotFound:
        return None
    made = next((version.ref for version in versions if version.run == run.training_run), "")
    return JobResult(run.training_run, found.status.value, {run.spec.output: made})


def _trained(ws: Rooms, run: LoopRun, result: JobResult) -> bool:
    made = model_of(result, run.spec.output)
    try:
        version = ws.models.get(made) if made else None
    except LoopwrightError as error:
        return _failed(ws, run, f"the pipeline handed out {made!r} as {run.spec.output!r}: {error}")
    if version is None or version.name != run.spec.model:
        handed = ", ".join(result.outputs) or "nothing"
        reason = (
            f"the pipeline handed out no version of model:{run.spec.model} as {run.spec.output!r} (it has {handed})"
        )
        return _failed(ws, run, reason)
    holdout = model_of(result, run.spec.holdout)
    event = event_that_made(ws.stores, run.project, version.ref)
    with ws.stores.db.begin() as tx:
        move(ws.stores, tx, run, Trained(version.ref, _dataset(holdout), event))
    return True


def _dataset(text: str) -> str:
    """`text` if it names a dataset version; else nothing: the output of that name is something else."""
    try:
        return str(parse_ref(text, "dataset")) if text else ""
    except LoopwrightError:
        return ""


def _failed(ws: Rooms, run: LoopRun, reason: str) -> bool:
    scope = Scope(run.project, actor_of(run.loop), run.last_event)
    told = {
        "loop": f"loop:{run.loop}",
        "attempt": run.attempt,
        "attempts": run.spec.training_attempts,
        "training_run": f"run:{run.training_run}",
        "reason": reason,
    }
    with ws.stores.db.begin() as tx:
        event = ws.stores.events.append(tx, "loop.training_failed", run.ref, scope, told)
        move(ws.stores, tx, run, AttemptFailed(reason, new_id(), event.ref))
    return True
