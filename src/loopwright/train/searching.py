"""The course of a search: trial after trial, each on record before the next begins; it can go on after a kill."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

from loopwright.core import Conflict, Invalid, NotFound, Scope, progress
from loopwright.pipeline import TrialPruned
from loopwright.store import Stores
from loopwright.track import Run, RunService, RunStatus
from loopwright.train.model import Direction, SearchResult, SearchSpec, TrialRun, TrialState
from loopwright.train.records import Records
from loopwright.train.studies import Proposal, Study


class Evaluate(Protocol):
    """Makes one trial's run and returns the value; raises TrialPruned when the proposal said to give up."""

    def __call__(self, number: int, proposal: Proposal, started: Callable[[str], None]) -> float: ...


class Search:
    """One search, new or going on."""

    def __init__(self, stores: Stores, scope: Scope, runs: RunService, run: Run, spec: SearchSpec) -> None:
        self._stores, self._scope, self._runs, self.run, self.spec = stores, scope, runs, run, spec
        self._records = Records(stores, scope.project)

    def conduct(self, trials: int, max_failures: int, evaluate: Evaluate) -> SearchResult:
        """Make trials until there are `trials` of them.

        Raises:
            Exception: what a trial raised, when more than `max_failures` have failed; the search can go on later.
        """
        try:
            self._begin()
            self._trials(trials, max_failures, evaluate)
        except (KeyboardInterrupt, SystemExit) as stop:
            self._runs.finish(self.run.id, RunStatus.KILLED, f"stopped by {type(stop).__name__}")
            raise
        except BaseException as error:
            self._runs.finish(self.run.id, RunStatus.FAILED, f"{type(error).__name__}: {error}"[:2000])
            raise
        return self._finish()

    def _begin(self) -> None:
        self._records.begin(self.run.id, self.spec)
        for trial in self._records.forget_unfinished(self.run.id):
            self._end_run(trial.run_id, RunStatus.KILLED, "its process ended")
        ref, project = f"search:{self.run.id}", self._scope.project
        with self._stores.db.begin() as tx:
            attrs = {"subject": self.spec.subject, "metric": self.spec.metric, "direction": self.spec.direction}
            self._stores.lineage.node(tx, ref, attrs=attrs, project=project)
            self._stores.lineage.edge(tx, ref, f"run:{self.run.parent or self.run.id}", "search", project)

    def _trials(self, trials: int, max_failures: int, evaluate: Evaluate) -> None:
        done = self._records.trials(self.run.id)
        study = Study(self.spec, done)
        failures = sum(trial.state is TrialState.FAILED for trial in done)
        with progress(f"search {self.spec.subject}", trials) as bar:
            bar.advance(min(len(done), trials))
            for number in range(len(done), trials):
                trial = self._trial(number, study, evaluate, failures < max_failures)
                failures += trial.state is TrialState.FAILED
                bar.advance(note=_note(self.spec.metric, trial))

    def _trial(self, number: int, study: Study, evaluate: Evaluate, may_fail: bool) -> TrialRun:
        proposal = study.ask(number)
        run_ids: list[str] = []

        def started(run_id: str) -> None:
            run_ids.append(run_id)
            self._records.save(self.run.id, TrialRun(number, run_id, TrialState.RUNNING))

        try:
            value = evaluate(number, proposal, started)
            if not math.isfinite(value):
                raise Invalid(f"trial {number} came out as {value}", next_step="return a finite number, or prune")
        except TrialPruned:
            proposal.prune()
            return self._save(number, run_ids, proposal, TrialState.PRUNED)
        except Exception as error:
            proposal.fail()
            trial = self._save(number, run_ids, proposal, TrialState.FAILED, error=f"{type(error).__name__}: {error}")
            if not may_fail:
                raise
            return trial
        proposal.finish(value)
        return self._save(number, run_ids, proposal, TrialState.FINISHED, value)

    def _save(
        self,
        number: int,
        run_ids: list[str],
        proposal: Proposal,
        state: TrialState,
        value: float | None = None,
        error: str = "",
    ) -> TrialRun:
        reports = tuple(proposal.reports)
        if state is TrialState.PRUNED and reports:
            value = reports[-1][1]
        run_id = run_ids[-1] if run_ids else ""
        trial = TrialRun(number, run_id, state, proposal.params, proposal.space, value, reports, error[:2000])
        self._records.save(self.run.id, trial)
        return trial

    def _finish(self) -> SearchResult:
        result = result_of(self.run.id, self.spec, self._records.trials(self.run.id))
        if result.best_value is not None:
            self._runs.log_metrics(self.run.id, {self.spec.metric: result.best_value})
            self._runs.set_tags(self.run.id, {"best_run": result.best_run})
        self._runs.finish(self.run.id)
        with self._stores.db.begin() as tx:
            evidence = {
                "trials": len(result.trials),
                "pruned": sum(trial.state is TrialState.PRUNED for trial in result.trials),
                "metric": self.spec.metric,
                "best_value": result.best_value,
                "best_run": result.best_run,
                "best_params": result.best_params,
            }
            ref = f"search:{self.run.id}"
            self._stores.events.append(tx, "search.finished", ref, self._scope, evidence)
            for trial in result.trials:
                if trial.run_id:
                    self._stores.lineage.edge(tx, f"run:{trial.run_id}", ref, "trial", self._scope.project)
        return result

    def _end_run(self, run_id: str, status: RunStatus, error: str) -> None:
        try:
            self._runs.finish(run_id, status, error)
        except (Conflict, NotFound):
            return


def result_of(search_id: str, spec: SearchSpec, trials: list[TrialRun]) -> SearchResult:
    """A search as its trials on record say."""
    finished = [trial for trial in trials if trial.state is TrialState.FINISHED and trial.value is not None]
    sign = -1.0 if spec.direction is Direction.MAXIMISE else 1.0
    best = min(finished, key=lambda trial: sign * (trial.value or 0.0), default=None)
    return SearchResult(
        id=search_id,
        metric=spec.metric,
        direction=spec.direction,
        best_value=best.value if best else None,
        best_params=best.params if best else {},
        best_run=best.run_id if best else "",
        trials=tuple(trials),
    )


def _note(metric: str, trial: TrialRun) -> str:
    value = "–" if trial.value is None else f"{trial.value:.4g}"
    return f"trial {trial.number} {trial.state.value}, {metric} {value}"
