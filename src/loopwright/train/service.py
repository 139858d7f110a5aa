"""What one can ask of training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from loopwright.core import Conflict, Invalid, NotFound, Scope, new_id, operation
from loopwright.pipeline import (
    Pipeline,
    PipelineRun,
    PipelineService,
    RunRequest,
    Session,
    TrialPruned,
    context,
)
from loopwright.store import Stores
from loopwright.track import MetricPoint, Run, RunService, RunStatus
from loopwright.train.comparing import Evaluation, compare_metric, shared_rows
from loopwright.train.evaluations import make_evaluation, read_evaluation, write_evaluation
from loopwright.train.model import (
    BaselineComparison,
    Direction,
    Pruner,
    SearchResult,
    SearchSpec,
)
from loopwright.train.records import Records
from loopwright.train.searching import Search, result_of
from loopwright.train.spaces import Space
from loopwright.train.studies import Proposal
from loopwright.train.trial import Trial

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Objective = Callable[[Trial], float]
_INTERMEDIATE = "intermediate"


class TrainService:
    """Searches over hyperparameters, and comparisons with a baseline, in one project."""

    def __init__(self, stores: Stores, scope: Scope, *, runs: RunService, pipelines: PipelineService) -> None:
        self.stores, self.scope, self.runs, self.pipelines = stores, scope, runs, pipelines
        self._records = Records(stores, scope.project)

    def search(
        self,
        pipeline: Pipeline[..., Any] | str,
        space: Mapping[str, Space],
        *,
        metric: str,
        direction: Direction | str = Direction.MAXIMISE,
        trials: int = 20,
        pruner: Pruner | str = Pruner.MEDIAN,
        seed: int = 0,
        params: Mapping[str, Any] | None = None,
        experiment: str = "",
        search_id: str = "",
        workers: int | None = None,
        max_failures: int = 0,
        session: Session | None = None,
    ) -> SearchResult:
        """Search hyperparameters over a pipeline; each trial is a run of it, below the search's own run.

        A step that calls `context().report(value, step)` lets hopeless trials be ended early.

        Args:
            space: the pipeline's parameters to search, such as `{"lr": uniform(0.01, 0.3, log=True)}`.
            metric: what to optimise: a number that the pipeline hands out, or a metric that its run has.
            trials: how many there are to be in all.
            params: the pipeline's other parameters.
            search_id: the id of a search that was stopped, to go on with it.
            max_failures: how many trials may fail before the search does.
            session: run the trials in processes that are there already (see `pipelines.session`).

        Raises:
            StepFailed: more trials failed than may; the search can go on with its id.
            Invalid: no space, no trials, or a metric that a finished trial does not have.
            Conflict: `search_id` names a search that was asked something else.
        """
        ref = pipeline if isinstance(pipeline, str) else pipeline.ref
        if not space:
            raise Invalid("the space names no hyperparameter", next_step='give for example {"lr": uniform(0.01, 0.3)}')
        spec = SearchSpec(ref, metric, Direction(direction), Pruner(pruner), seed, dict(space), dict(params or {}))
        search = self._open(spec, experiment or ref.rpartition(":")[2], search_id, "", trials)
        with nullcontext(session) if session else self.pipelines.session(workers=workers) as processes:

            def evaluate(number: int, proposal: Proposal, started: Callable[[str], None]) -> float:
                return self._pipeline_trial(search, processes, number, proposal, started)

            return search.conduct(trials, max_failures, evaluate)

    def search_objective(
        self,
        objective: Objective,
        *,
        metric: str = "objective",
        direction: Direction | str = Direction.MAXIMISE,
        trials: int = 20,
        pruner: Pruner | str = Pruner.MEDIAN,
        seed: int | None = None,
        experiment: str = "",
        search_id: str = "",
        max_failures: int = 0,
    ) -> SearchResult:
        """Search hyperparameters of a function that runs here, such as inside a step.

        Inside a step the search belongs to the step's run, takes its seed, and goes on by itself when a run that was
        killed is run again.

        Args:
            objective: takes a Trial, asks it for values, reports to it, returns the number to optimise.
            metric: a name for that number.
            trials: how many there are to be in all.
            search_id: the id of a search that was stopped, to go on with it.
            max_failures: how many trials may fail before the search does.

        Raises:
            Exception: what the objective raised, when more trials failed than may; the search can go on with its id.
            Conflict: `search_id` names a search that was asked something else.
        """
        parent, subject, own_seed = _surroundings(objective)
        chosen = own_seed if seed is None else seed
        spec = SearchSpec(subject, metric, Direction(direction), Pruner(pruner), chosen)
        home = experiment or (self.runs.get(parent).experiment if parent else "default")
        search = self._open(spec, home, search_id or self._unfinished(parent, subject), parent, trials)

        def evaluate(number: int, proposal: Proposal, started: Callable[[str], None]) -> float:
            return self._objective_trial(search, objective, number, proposal, started)

        return search.conduct(trials, max_failures, evaluate)

    @operation("train.search_result", permission="runs:read")
    def search_result(self, search: str) -> SearchResult:
        """A search as it stands.

        Raises:
            NotFound: there is no such search.
        """
        identifier = search.removeprefix("search:")
        return result_of(identifier, self._records.spec(identifier), self._records.trials(identifier))

    def log_evaluation(
        self, run: str, y: ArrayLike, output: ArrayLike, *, task: str = "binary", keys: ArrayLike | None = None
    ) -> dict[str, float]:
        """Keep a model's outputs on held-out rows with its run, and log the metrics that follow from them.

        Args:
            y: the truth: 0 or 1, class numbers, or numbers.
            output: the probability of 1, an array of class probabilities, or the predicted numbers.
            task: `binary`, `multiclass` or `regression`.
            keys: what names each row, so that runs can be compared on the rows that they share; by default the place.

        Raises:
            NotFound: there is no such run.
            Invalid: the columns do not fit each other or the task.
        """
        evaluation = make_evaluation(task, y, output, keys)
        metrics = evaluation.metrics()
        write_evaluation(self.runs, run, evaluation)
        self.runs.log_metrics(run, dict(metrics))
        return metrics

    @operation("train.compare_to_baseline", permission="runs:read")
    def compare_to_baseline(self, experiment: str, run: str, alpha: float = 0.05) -> BaselineComparison:
        """A run against the pinned baseline of an experiment, metric by metric, with intervals.

        Intervals come from the rows that both runs were evaluated on (`log_evaluation`), else from metrics that both
        logged for the same folds or repeats (as steps). A metric with neither is undecided.

        Raises:
            NotFound: there is no such experiment or run, or no baseline is pinned.
            Invalid: `alpha` is not between 0 and 1.
        """
        if not 0 < alpha < 1:
            raise Invalid(f"alpha {alpha} is not between 0 and 1")
        baseline = self.runs.baseline(experiment)
        if baseline is None:
            raise NotFound(
                f"experiment {experiment!r} has no baseline", next_step=f"loopwright runs pin-baseline {experiment} RUN"
            )
        candidate = self.runs.get(run)
        rows = self._shared_rows(candidate, baseline)
        metrics = [
            compare_metric(
                name,
                candidate.metrics[name],
                baseline.metrics[name],
                rows=rows,
                repeats=(self._by_step(candidate, name), self._by_step(baseline, name)),
                alpha=alpha,
            )
            for name in sorted(candidate.metrics.keys() & baseline.metrics.keys())
        ]
        return BaselineComparison(experiment, candidate.id, baseline.id, metrics)

    def _open(self, spec: SearchSpec, experiment: str, search_id: str, parent: str, trials: int) -> Search:
        if trials < 1:
            raise Invalid(f"a search of {trials} trials finds nothing", next_step="give at least 1")
        if search_id and self.runs.get(search_id).status is RunStatus.FINISHED:
            raise Conflict(f"search {search_id} has finished", next_step="start a new search")
        tags = {"search.subject": spec.subject, "search.metric": spec.metric}
        run = self.runs.start(experiment, tags=tags, parent=parent, run_id=search_id, kind="search")
        return Search(self.stores, self.scope, self.runs, run, spec)

    def _unfinished(self, parent: str, subject: str) -> str:
        """The search that the same step of the same run began before its process was killed, if there is one."""
        if not parent:
            return ""
        found = self.runs.search(
            f"attributes.parent = '{parent}' and attributes.kind = 'search' and attributes.status != 'finished'"
        )
        return next((run.id for run in found if run.tags.get("search.subject") == subject), "")

    def _pipeline_trial(
        self,
        search: Search,
        session: Session,
        number: int,
        proposal: Proposal,
        started: Callable[[str], None],
    ) -> float:
        spec = search.spec
        values = {name: proposal.suggest(name, space) for name, space in spec.space.items()}
        run_id = new_id()
        started(run_id)
        request = RunRequest(
            pipeline=spec.subject,
            params={**spec.params, **values},
            experiment=search.run.experiment,
            run_id=run_id,
            seed=spec.seed,
            name=f"trial-{number}",
            parent=search.run.id,
            kind="trial",
            tags={"search": search.run.id, "trial": str(number)},
        )
        done = self.pipelines.run_in(session, request, lambda value, step: proposal.report(value, step))
        if done.status == "pruned":
            raise TrialPruned(proposal.reports[-1][0] if proposal.reports else 0)
        return self._value_of(done, spec.metric)

    def _objective_trial(
        self, search: Search, objective: Objective, number: int, proposal: Proposal, started: Callable[[str], None]
    ) -> float:
        tags = {"search": search.run.id, "trial": str(number)}
        run_id = new_id()
        started(run_id)
        with self.runs.active(
            search.run.experiment, f"trial-{number}", tags=tags, parent=search.run.id, run_id=run_id, kind="trial"
        ) as run:
            trial = Trial(number, proposal, run)
            try:
                value = float(objective(trial))
            except TrialPruned as pruned:
                self._log_trial(trial, proposal, None)
                run.set_tag("pruned", pruned.step)
                stopped = pruned
            else:
                self._log_trial(trial, proposal, (search.spec.metric, value))
                return value
        raise stopped

    def _log_trial(self, trial: Trial, proposal: Proposal, outcome: tuple[str, float] | None) -> None:
        """Everything at once: an objective may report thousands of times."""
        trial.run.log_params(proposal.params)
        points = [MetricPoint(_INTERMEDIATE, value, step) for step, value in proposal.reports]
        if outcome is not None:
            points.append(MetricPoint(*outcome))
        trial.run.log_points(points)

    def _value_of(self, done: PipelineRun, metric: str) -> float:
        value = done.outputs.get(metric)
        if value is None:
            value = self.runs.get(done.run_id).metrics.get(metric)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Invalid(
                f"run {done.run_id} has no number {metric!r}",
                next_step="hand it out as an output of the pipeline, or log it with context().log_metric",
            )
        return float(value)

    def _shared_rows(self, run: Run, baseline: Run) -> tuple[Evaluation, Evaluation] | None:
        first, second = read_evaluation(self.runs, run.id), read_evaluation(self.runs, baseline.id)
        return shared_rows(first, second) if first is not None and second is not None else None

    def _by_step(self, run: Run, metric: str) -> dict[int, float]:
        history = self.runs.history(run.id, metric)
        return dict(zip(history.steps, history.floats(), strict=True))


def _surroundings(objective: Objective) -> tuple[str, str, int]:
    """The run, the subject and the seed that a search takes from the step that it is in, if it is in one."""
    name = f"{objective.__module__}:{getattr(objective, '__qualname__', type(objective).__qualname__)}"
    try:
        here = context()
    except Invalid:
        return "", name, 0
    return here.run_id, f"{name} in {here.step}", here.seed
