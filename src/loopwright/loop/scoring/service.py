"""What one can ask of scoring jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from sqlalchemy import Connection, select

from loopwright.core import Scope, new_request, operation, parse_ref
from loopwright.loop.running import wake_controller
from loopwright.loop.scoring.declare import check_job
from loopwright.loop.scoring.model import ScoringJob, ScoringJobInfo, ScoringRun, watched_name
from loopwright.loop.scoring.rows import UNDER_WAY, find_job, find_run, info_of, run_of
from loopwright.loop.scoring.starting import wait_for
from loopwright.loop.tables import scoring_jobs, scoring_runs
from loopwright.models import ModelService
from loopwright.monitor import Monitor, MonitorService

if TYPE_CHECKING:
    from loopwright.store import Stores

ScoringJobInfos = list[ScoringJobInfo]
ScoringRuns = list[ScoringRun]
_MAX_PAGE = 1000


class ScoringJobService:
    """Declares jobs of batch scoring, triggers them by hand, and shows their runs. Thread-safe."""

    def __init__(self, stores: Stores, scope: Scope) -> None:
        self.stores, self.scope = stores, scope

    @operation("scoring_jobs.apply", permission="loops:write", effect="write")
    def apply(self, job: ScoringJob) -> ScoringJobInfo:
        """Declare a scoring job, or change one; with it the monitor of its name. A run under way is not changed.

        Raises:
            Invalid: a field of the job makes no sense; the message names it.
            Conflict: another project has a monitor of that name.
        """
        check_job(job)
        watched = watched_name(self.scope.project, job.name)
        if job.drift is not None:
            about = f"Inputs and answers of the scoring job {job.name}, run by run."
            monitor = Monitor(
                name=watched,
                endpoint=watched,
                label_delay_s=0.0,
                drift=job.drift,
                performance=None,
                owner=job.owner,
                description=about,
            )
            MonitorService(self.stores, self.scope, models=ModelService(self.stores, self.scope)).apply(monitor)
        with self.stores.db.begin() as tx:
            same = (scoring_jobs.c.project == self.scope.project) & (scoring_jobs.c.name == job.name)
            row = tx.execute(select(scoring_jobs).where(same).with_for_update()).one_or_none()
            before = info_of(row) if row is not None else None
            if before is not None and before.job == job:
                return before
            self._write(tx, job, before)
            return find_job(tx, self.scope, job.name)

    @operation("scoring_jobs.list", permission="loops:read")
    def list(self) -> ScoringJobInfos:
        """All scoring jobs of the project, by name."""
        query = select(scoring_jobs).where(scoring_jobs.c.project == self.scope.project).order_by(scoring_jobs.c.name)
        with self.stores.db.read() as connection:
            return [info_of(row) for row in connection.execute(query)]

    @operation("scoring_jobs.get", permission="loops:read")
    def get(self, name: str) -> ScoringJobInfo:
        """One scoring job as it is declared.

        Raises:
            NotFound: there is none of that name.
        """
        with self.stores.db.read() as connection:
            return find_job(connection, self.scope, name)

    @operation("scoring_jobs.runs", permission="loops:read")
    def runs(self, job: str = "", active: bool = False, limit: int = 100, after: str = "") -> ScoringRuns:
        """Runs of scoring jobs, newest first; `after` is the id of the last one of the page before this one."""
        query = select(scoring_runs).where(scoring_runs.c.project == self.scope.project)
        if job:
            query = query.where(scoring_runs.c.job == parse_ref(job, "scoring").name)
        if active:
            query = query.where(scoring_runs.c.state.in_(UNDER_WAY))
        if after:
            query = query.where(scoring_runs.c.id < after)
        query = query.order_by(scoring_runs.c.id.desc()).limit(min(limit, _MAX_PAGE))
        with self.stores.db.read() as connection:
            return [run_of(row) for row in connection.execute(query)]

    @operation("scoring_jobs.run", permission="loops:read")
    def run(self, id: str) -> ScoringRun:
        """One run of a scoring job, by its id or ref.

        Raises:
            NotFound: there is none.
        """
        with self.stores.db.read() as connection:
            return find_run(connection, self.scope, id)

    @operation("scoring_jobs.trigger", permission="loops:write", effect="write")
    def trigger(self, name: str, reason: str = "") -> ScoringRun:
        """Ask a job to run. It does as soon as no other run of it is under way; asked again before that, it runs once.

        Raises:
            NotFound: there is no such job.
        """
        with self.stores.db.begin() as tx:
            self.stores.db.lock(tx, f"scoring {self.scope.project}")
            found = find_job(tx, self.scope, name)
            told = {"by": self.scope.actor, "reason": reason}
            run = wait_for(self.stores, tx, found, "manual", self.scope.cause or new_request(), told)
        wake_controller(self.stores)
        return run

    def _write(self, tx: Connection, job: ScoringJob, before: ScoringJobInfo | None) -> None:
        plain = msgspec.to_builtins(job)
        event = self.stores.events.append(tx, "scoring.declared", f"scoring:{job.name}", self.scope, {"job": plain})
        row = {
            "project": self.scope.project,
            "name": job.name,
            "spec": plain,
            "revision": before.revision + 1 if before is not None else 1,
            "declared_at": event.at,
            "declared_by": self.scope.actor,
            "last_triggered_at": before.last_triggered_at if before is not None else None,
            "scored_to": before.scored_to if before is not None and before.job.input == job.input else "",
        }
        changed = ["spec", "revision", "declared_at", "declared_by", "scored_to"]
        tx.execute(self.stores.db.upsert(scoring_jobs, row, ["project", "name"], changed))
