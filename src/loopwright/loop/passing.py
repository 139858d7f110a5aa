"""One pass of the controller over everything that it looks after."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial

from loopwright.core import Conflict, LoopwrightError, Scope, Unavailable
from loopwright.loop import judging, rolling, training
from loopwright.loop.jobs import Jobs
from loopwright.loop.model import LoopRun, LoopState
from loopwright.loop.moving import actor_of, move
from loopwright.loop.rooms import Rooms
from loopwright.loop.rows import active_runs, find_run
from loopwright.loop.scoring import passing as scoring
from loopwright.loop.scoring.rows import all_jobs
from loopwright.loop.starting import collect, start_waiting
from loopwright.loop.transitions import Failed

_log = logging.getLogger(__name__)


class Pass:
    """What a controller does again and again. Each part is safe to repeat, and to be killed in anywhere."""

    def __init__(self, ws: Rooms, jobs: Jobs, renew: Callable[[], None]) -> None:
        """Args:
        ws: the workspace, in any project.
        jobs: the training jobs.
        renew: called before each piece of work that may take long, to keep the controller's lease.
        """
        self._ws, self._jobs, self._renew = ws, jobs, renew
        self._published: object = None
        self.troubles: list[str] = []

    def run(self) -> bool:
        """Look at everything once; whether anything moved. `troubles` then says what has to be tried again."""
        self.troubles = []
        stores = self._ws.stores
        now = stores.clock.now()
        rooms = [self._rooms(project, "controller") for project in self._projects()]
        moved = [self._guarded(f"monitors of {ws.scope.project}", partial(_watch, ws)) for ws in rooms]
        moved += [collect(stores, now), start_waiting(stores, now)]
        moved.append(self._guarded("scoring jobs", partial(scoring.step, self._ws, self._jobs, now)))
        for ws in rooms:
            for rollout in ws.rollouts.list(active=True):
                judged = partial(rolling.judge_rollout, ws, rollout)
                moved.append(self._guarded(f"rollout {rollout.id}", judged))
        with stores.db.read() as connection:
            runs = active_runs(connection)
        moved += [self._step(run) for run in runs]
        self._end_stray_jobs(runs)
        self._guarded("publishing what is served", self._publish)
        return any(moved)

    def _rooms(self, project: str, actor: str) -> Rooms:
        return self._ws.scoped(Scope(project, actor))

    def _projects(self) -> list[str]:
        """The projects that have endpoints or scoring jobs."""
        with self._ws.stores.db.read() as connection:
            scored = {info.project for info in all_jobs(connection)}
        return sorted({*self._ws.endpoints.projects(), *scored})

    def _publish(self) -> bool:
        """Catch up with a change whose maker was killed, or met a full disk, before the file was written."""
        endpoints = self._ws.endpoints
        stamp = endpoints.serving_stamp()
        if stamp != self._published:
            endpoints.publish()
            self._published = stamp
        return False

    def _guarded(self, what: str, work: Callable[[], bool]) -> bool:
        """Do a piece of work whose failure must not keep the rest from being done."""
        self._renew()
        try:
            return work()
        except LoopwrightError as error:
            self.troubles.append(f"{what}: {error}")
            _log.warning("%s: %s", what, error)
        except Exception as error:  # noqa: BLE001 (as said below)
            # A defect in one piece must not stop the loops of all others; it is told, and tried again.
            self.troubles.append(f"{what}: {type(error).__name__}: {error}")
            _log.exception("%s", what)
        return False

    def _step(self, run: LoopRun) -> bool:
        """Move one run on as far as one transition; whether it moved. What cannot be mended by waiting ends the run."""
        self._renew()
        ws = self._rooms(run.project, actor_of(run.loop))
        try:
            return self._transition(ws, run)
        except Conflict as error:
            _log.info("%s: %s", run.ref, error)
            return False
        except Unavailable as error:
            self.troubles.append(f"{run.ref}: {error}")
            return False
        except LoopwrightError as error:
            return self._guarded(run.ref, partial(_fail, ws, run, str(error)))
        except Exception as error:  # noqa: BLE001 (as said below)
            # A run that meets a defect ends, with the defect in the log, instead of meeting it for ever.
            _log.exception("%s", run.ref)
            return self._guarded(run.ref, partial(_fail, ws, run, f"internal error: {type(error).__name__}: {error}"))

    def _transition(self, ws: Rooms, run: LoopRun) -> bool:
        match run.state:
            case LoopState.PENDING:
                training.begin(ws, run)
                return True
            case LoopState.TRAINING:
                return training.follow(ws, self._jobs, run)
            case LoopState.GATING:
                return judging.judge(ws, run)
            case LoopState.WAITING_APPROVAL:
                return judging.await_approval(ws, run)
            case LoopState.ROLLING_OUT | LoopState.GUARDING:
                return rolling.follow(ws, run)
            case LoopState.FINISHED:
                return False

    def _end_stray_jobs(self, runs: Sequence[LoopRun]) -> None:
        """A job whose run was cancelled is of no use."""
        if not self._jobs.watched():
            return
        wanted = {run.training_run for run in runs} | scoring.running_ids(self._ws)
        for job in self._jobs.watched():
            if job not in wanted and not self._is_wanted_now(job):
                self._jobs.stop(job)

    def _is_wanted_now(self, job: str) -> bool:
        if job in scoring.running_ids(self._ws):
            return True
        with self._ws.stores.db.read() as connection:
            return any(run.training_run == job for run in active_runs(connection))


def _watch(ws: Rooms) -> bool:
    return bool(ws.monitors.advance())


def _fail(ws: Rooms, run: LoopRun, reason: str) -> bool:
    with ws.stores.db.begin() as tx:
        move(ws.stores, tx, find_run(tx, ws.scope, run.id), Failed(reason))
    return True
