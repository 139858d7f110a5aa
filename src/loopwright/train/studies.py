"""Optuna behind a search: which values to try next, and whether a trial is worth going on with.

A study is rebuilt from the trials that are on record, and the sampler is seeded anew for each trial from the search's
seed and the trial's number. So a search that is stopped and goes on proposes what it would have proposed anyway.
"""

from __future__ import annotations

from typing import Any

from loopwright.core import Invalid, digest_bytes
from loopwright.train.model import Direction, Pruner, SearchSpec, TrialRun, TrialState
from loopwright.train.spaces import Integer, Space, Uniform

_STARTUP_TRIALS = 5


class Study:
    """The finished trials of a search, and the next one."""

    def __init__(self, spec: SearchSpec, trials: list[TrialRun]) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._spec = spec
        directions = optuna.study.StudyDirection
        direction = directions.MAXIMIZE if spec.direction is Direction.MAXIMISE else directions.MINIMIZE
        # The name decides how Hyperband assigns trials to its brackets.
        self._study = optuna.create_study(direction=direction, pruner=_pruner(spec.pruner), study_name="search")
        for trial in trials:
            self._study.add_trial(_frozen(trial))

    def ask(self, number: int) -> Proposal:
        """The next trial."""
        import optuna

        seed = int(digest_bytes(f"{self._spec.seed}/{number}".encode())[:8], 16)
        self._study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=_STARTUP_TRIALS)
        return Proposal(self._study, self._study.ask())


class Proposal:
    """One trial as Optuna sees it."""

    def __init__(self, study: Any, trial: Any) -> None:
        self._study, self._trial = study, trial
        self.space: dict[str, Space] = {}
        self.params: dict[str, Any] = {}
        self.reports: list[tuple[int, float]] = []

    def suggest(self, name: str, space: Space) -> Any:
        """A value for a hyperparameter; asked again, the same one.

        Raises:
            Invalid: the name was asked for with another space.
        """
        if self.space.setdefault(name, space) != space:
            raise Invalid(f"the hyperparameter {name!r} has two spaces", next_step="give each a name of its own")
        if name not in self.params:
            self.params[name] = self._suggest(name, space)
        return self.params[name]

    def _suggest(self, name: str, space: Space) -> Any:
        if isinstance(space, Uniform):
            return self._trial.suggest_float(name, space.low, space.high, log=space.log)
        if isinstance(space, Integer):
            return self._trial.suggest_int(name, space.low, space.high, log=space.log, step=space.step)
        return self._trial.suggest_categorical(name, list(space.values))

    def report(self, value: float, step: int) -> bool:
        """Note how well it goes; whether to give up. A step that was reported before is ignored."""
        if value != value or any(seen == step for seen, _ in self.reports):
            return False
        self.reports.append((step, value))
        self._trial.report(value, step)
        return bool(self._trial.should_prune())

    def finish(self, value: float) -> None:
        """Tell the study what came out."""
        self._study.tell(self._trial, value)

    def prune(self) -> None:
        """Tell the study that it was given up."""
        import optuna

        self._study.tell(self._trial, state=optuna.trial.TrialState.PRUNED)

    def fail(self) -> None:
        """Tell the study that nothing came out."""
        import optuna

        self._study.tell(self._trial, state=optuna.trial.TrialState.FAIL)


def _frozen(trial: TrialRun) -> Any:
    import optuna

    states = {
        TrialState.FINISHED: optuna.trial.TrialState.COMPLETE,
        TrialState.PRUNED: optuna.trial.TrialState.PRUNED,
        TrialState.FAILED: optuna.trial.TrialState.FAIL,
    }
    return optuna.trial.create_trial(
        state=states[trial.state],
        value=trial.value if trial.state is not TrialState.FAILED else None,
        params=trial.params,
        distributions={name: _distribution(space) for name, space in trial.space.items()},
        intermediate_values=dict(trial.reports),
    )


def _distribution(space: Space) -> Any:
    import optuna

    if isinstance(space, Uniform):
        return optuna.distributions.FloatDistribution(space.low, space.high, log=space.log)
    if isinstance(space, Integer):
        return optuna.distributions.IntDistribution(space.low, space.high, log=space.log, step=space.step)
    return optuna.distributions.CategoricalDistribution(list(space.values))


def _pruner(pruner: Pruner) -> Any:
    import optuna

    match pruner:
        case Pruner.MEDIAN:
            return optuna.pruners.MedianPruner(n_startup_trials=_STARTUP_TRIALS, n_warmup_steps=1)
        case Pruner.HALVING:
            return optuna.pruners.SuccessiveHalvingPruner()
        case Pruner.HYPERBAND:
            return optuna.pruners.HyperbandPruner()
        case Pruner.NONE:
            return optuna.pruners.NopPruner()
