"""Searches over a function: what they find, prune, keep, survive."""

from __future__ import annotations

import pytest
from tests.pipeline.conftest import Project

from loopwright.core import Conflict, Invalid, NotFound, new_id
from loopwright.train import TrainService, Trial, TrialState


def parabola(trial: Trial) -> float:
    x = trial.uniform("x", -2.0, 2.0)
    k = trial.integer("k", 0, 3)
    bonus = 0.1 if trial.choice("kind", ["a", "b"]) == "b" else 0.0
    return -((x - 0.7) ** 2) - k + bonus


@pytest.mark.slow
def test_a_search_finds_what_is_good(train: TrainService) -> None:
    found = train.search_objective(parabola, metric="score", trials=40, seed=3, experiment="e")
    assert found.best_value is not None
    assert found.best_value > -0.05
    assert abs(found.best_params["x"] - 0.7) < 0.4
    assert (found.best_params["k"], found.best_params["kind"]) == (0, "b")
    assert [trial.number for trial in found.trials] == list(range(40))
    assert train.search_result(f"search:{found.id}") == found

    smallest = train.search_objective(lambda trial: trial.uniform("x", -1, 1) ** 2, direction="minimise", trials=25)
    assert smallest.best_value is not None
    assert 0 <= smallest.best_value < 0.05


def test_a_search_is_a_run_and_so_is_each_trial(train: TrainService, project: Project) -> None:
    def objective(trial: Trial) -> float:
        trial.run.log_metric("own", 7.0)
        trial.report(0.25, 0)
        trial.report(0.5, 1)
        return parabola(trial)

    found = train.search_objective(objective, metric="score", trials=3, experiment="e")
    search = project.runs.get(found.id)
    assert (search.kind, search.status, search.experiment) == ("search", "finished", "e")
    assert search.metrics == {"score": found.best_value}
    assert search.tags["best_run"] == found.best_run
    trials = project.runs.search(f"parent = '{found.id}'")
    assert {run.id for run in trials} == {trial.run_id for trial in found.trials}
    best = project.runs.get(found.best_run)
    assert best.params == {name: str(value) for name, value in found.best_params.items()}
    assert best.metrics == {"own": 7.0, "intermediate": 0.5, "score": found.best_value}
    assert project.runs.history(best.id, "intermediate").floats() == [0.25, 0.5]
    [event] = [event for event in project.stores.events.read() if event.kind == "search.finished"]
    assert (event.subject, event.evidence["trials"], event.evidence["best_run"]) == (f"search:{found.id}", 3, best.id)
    up = project.stores.lineage.trace(f"run:{found.id}", "up")
    assert {f"run:{trial.run_id}" for trial in found.trials} <= {node.ref for node in up.nodes}


@pytest.mark.slow
def test_the_same_seed_tries_the_same_values(train: TrainService) -> None:
    tried = [
        [trial.params for trial in train.search_objective(parabola, trials=6, seed=seed).trials] for seed in (5, 5, 6)
    ]
    assert tried[0] == tried[1]
    assert tried[0] != tried[2]


@pytest.mark.slow
@pytest.mark.parametrize("stop", [ZeroDivisionError, KeyboardInterrupt])
def test_a_search_that_was_stopped_goes_on_as_if_it_had_not_been(
    train: TrainService, project: Project, stop: type[BaseException]
) -> None:
    whole = train.search_objective(parabola, trials=14, seed=5)
    calls = 0

    def stopping(trial: Trial) -> float:
        nonlocal calls
        calls += 1
        if calls == 8:
            raise stop
        return parabola(trial)

    with pytest.raises(stop):
        train.search_objective(stopping, trials=14, seed=5, experiment="stopped", max_failures=0)
    [search] = project.runs.search("kind = 'search'", experiment="stopped")
    assert search.status == ("killed" if stop is KeyboardInterrupt else "failed")
    kept = train.search_result(search.id).trials
    found = train.search_objective(stopping, trials=14, seed=5, experiment="stopped", search_id=search.id)
    assert found.id == search.id
    assert len(found.trials) == 14
    if stop is KeyboardInterrupt:
        assert [trial.params for trial in found.trials] == [trial.params for trial in whole.trials]
        assert calls == 15
    assert [trial.state for trial in kept[:7]] == [TrialState.FINISHED] * 7
    assert project.runs.search("status = 'running'") == []
    with pytest.raises(Conflict, match="has finished"):
        train.search_objective(stopping, trials=20, seed=5, search_id=search.id)


def test_a_search_that_goes_on_must_be_the_same_search(train: TrainService, project: Project) -> None:
    def broken(trial: Trial) -> float:
        raise OSError("no disk")

    with pytest.raises(OSError, match="no disk"):
        train.search_objective(broken, trials=2, seed=1)
    [search] = project.runs.search("kind = 'search'")
    with pytest.raises(Conflict, match="was asked something else"):
        train.search_objective(broken, trials=2, seed=2, search_id=search.id)
    with pytest.raises(NotFound):
        train.search_objective(broken, trials=2, search_id=new_id())


@pytest.mark.slow
def test_hopeless_trials_are_pruned(train: TrainService, project: Project) -> None:
    steps_taken: list[int] = []

    def objective(trial: Trial) -> float:
        x = trial.uniform("x", 0, 1)
        for step in range(30):
            steps_taken.append(trial.number)
            trial.report(x * (step + 1), step)
        return x * 30

    found = train.search_objective(objective, trials=20, seed=1)
    pruned = [trial for trial in found.trials if trial.state is TrialState.PRUNED]
    assert pruned
    assert len(steps_taken) < 20 * 30
    for trial in pruned:
        assert (len(trial.reports) < 30, trial.value) == (True, trial.reports[-1][1])
        run = project.runs.get(trial.run_id)
        assert (run.status, run.tags["pruned"]) == ("finished", str(trial.reports[-1][0]))
    assert found.best_run not in {trial.run_id for trial in pruned}
    nothing = train.search_objective(objective, trials=20, seed=1, pruner="none")
    assert {trial.state for trial in nothing.trials} == {TrialState.FINISHED}


@pytest.mark.parametrize("pruner", ["halving", pytest.param("hyperband", marks=pytest.mark.slow)])
def test_every_pruner_ends_some_trials(train: TrainService, pruner: str) -> None:
    def objective(trial: Trial) -> float:
        x = trial.uniform("x", 0, 1)
        for step in range(1, 60):
            trial.report(x, step)
        return x

    states = [trial.state for trial in train.search_objective(objective, trials=16, seed=2, pruner=pruner).trials]
    assert TrialState.PRUNED in states
    assert TrialState.FINISHED in states


@pytest.mark.slow
def test_a_broad_except_does_not_swallow_pruning(train: TrainService) -> None:
    def objective(trial: Trial) -> float:
        x = trial.uniform("x", 0, 1)
        for step in range(30):
            try:
                trial.report(x, step)
            except Exception:
                return 100.0
        return x

    found = train.search_objective(objective, trials=20, seed=1)
    assert any(trial.state is TrialState.PRUNED for trial in found.trials)
    assert found.best_value is not None
    assert found.best_value <= 1


def test_some_trials_may_fail(train: TrainService, project: Project) -> None:
    def objective(trial: Trial) -> float:
        x = trial.uniform("x", 0, 1)
        if trial.number in (1, 3):
            raise ValueError(f"trial {trial.number} breaks")
        return x

    found = train.search_objective(objective, trials=6, max_failures=2)
    failed = [trial for trial in found.trials if trial.state is TrialState.FAILED]
    assert [trial.error for trial in failed] == ["ValueError: trial 1 breaks", "ValueError: trial 3 breaks"]
    assert b"trial 1 breaks" in project.runs.artifact(failed[0].run_id, "error/traceback.txt")
    with pytest.raises(ValueError, match="trial 3 breaks"):
        train.search_objective(objective, trials=6, max_failures=1)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_trial_needs_a_finite_number(train: TrainService, value: float) -> None:
    with pytest.raises(Invalid, match="came out as"):
        train.search_objective(lambda _: value, trials=1)


def test_a_search_without_a_finished_trial_has_no_best(train: TrainService) -> None:
    def objective(trial: Trial) -> float:
        raise ValueError

    found = train.search_objective(objective, trials=2, max_failures=2)
    assert (found.best_value, found.best_params, found.best_run) == (None, {}, "")


def test_a_hyperparameter_has_one_space(train: TrainService) -> None:
    def objective(trial: Trial) -> float:
        first = trial.uniform("x", 0, 1)
        assert trial.uniform("x", 0, 1) == first
        return trial.uniform("x", 0, 2)

    with pytest.raises(Invalid, match="'x' has two spaces"):
        train.search_objective(objective, trials=1)


def test_what_is_no_search_is_refused(train: TrainService) -> None:
    with pytest.raises(Invalid, match="0 trials"):
        train.search_objective(parabola, trials=0)
    with pytest.raises(ValueError, match="sideways"):
        train.search_objective(parabola, direction="sideways")
    with pytest.raises(NotFound, match="no search"):
        train.search_result("x")
