"""Comparison with the baseline: right about what is known, silent about what is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.pipeline.conftest import Project

from loopwright import stats
from loopwright.core import Invalid, NotFound
from loopwright.train import Answer, MetricComparison, TrainService
from loopwright.train.comparing import compare_metric
from loopwright.train.evaluations import make_evaluation


def make(
    train: TrainService,
    project: Project,
    truth: Any,
    output: Any,
    *,
    task: str = "binary",
    keys: Any = None,
) -> str:
    run = project.runs.start("e").id
    train.log_evaluation(run, truth, output, task=task, keys=keys)
    project.runs.finish(run)
    return run


def compare(train: TrainService, run: str) -> dict[str, MetricComparison]:
    return {item.metric: item for item in train.compare_to_baseline("e", run).metrics}


def scores(seed: int, strength: float, n: int = 600) -> tuple[Any, Any]:
    """Labels of one seed, and chances that know them with some strength."""
    truth = np.random.default_rng(0).integers(0, 2, n)
    noise = np.random.default_rng(seed).normal(size=n)
    return truth, 1 / (1 + np.exp(-(strength * (truth * 2 - 1) + noise)))


@pytest.mark.slow
def test_a_better_and_a_worse_run_are_told_apart(train: TrainService, project: Project) -> None:
    project.runs.pin_baseline("e", make(train, project, *scores(1, 0.8)))
    better, worse = (
        compare(train, make(train, project, *scores(2, 1.3))),
        compare(train, make(train, project, *scores(3, 0.3))),
    )
    for metric in ("auc", "brier", "log_loss", "accuracy"):
        assert better[metric].answer is Answer.BETTER, metric
        assert worse[metric].answer is Answer.WORSE, metric
        assert (better[metric].n, better[metric].unit, better[metric].level) == (600, "rows", 0.95)
    assert better["auc"].difference > 0 > better["brier"].difference
    assert better["auc"].method == "delong_paired"


@pytest.mark.slow
def test_a_difference_is_run_minus_baseline_within_its_interval(train: TrainService, project: Project) -> None:
    project.runs.pin_baseline("e", make(train, project, *scores(1, 0.8)))
    for item in compare(train, make(train, project, *scores(2, 1.3))).values():
        assert item.difference == pytest.approx(item.run - item.baseline, abs=1e-9), item.metric
        if item.lower is not None and item.upper is not None:
            assert item.lower <= item.difference <= item.upper, item.metric


@pytest.mark.slow
def test_runs_that_are_alike_are_undecided(train: TrainService, project: Project) -> None:
    project.runs.pin_baseline("e", make(train, project, *scores(1, 0.8, 300)))
    found = compare(train, make(train, project, *scores(2, 0.8, 300)))
    assert found["auc"].answer is Answer.UNDECIDED
    assert found["auc"].lower < 0 < found["auc"].upper  # type: ignore[operator]  # it has an interval


@pytest.mark.slow
def test_rows_are_matched_by_key(train: TrainService, project: Project) -> None:
    truth, chance = scores(1, 0.8)
    keys = np.array([f"row {number}" for number in range(len(truth))])
    project.runs.pin_baseline("e", make(train, project, truth, chance, keys=keys))
    order = np.random.default_rng(9).permutation(len(truth))[:450]
    found = compare(train, make(train, project, truth[order], chance[order], keys=keys[order]))
    assert (found["brier"].difference, found["brier"].n, found["brier"].answer) == (0.0, 450, Answer.UNDECIDED)


@pytest.mark.parametrize("change", ["other rows", "other truth", "other task"])
def test_without_shared_rows_nothing_is_said(train: TrainService, project: Project, change: str) -> None:
    truth, chance = scores(1, 0.8)
    project.runs.pin_baseline("e", make(train, project, truth, chance, keys=np.arange(600)))
    _, better = scores(2, 1.5)
    keys = np.arange(600) + (5000 if change == "other rows" else 0)
    other = 1 - truth if change == "other truth" else truth
    task = "regression" if change == "other task" else "binary"
    found = compare(train, make(train, project, other, better, keys=keys, task=task))
    assert found
    assert {item.answer for item in found.values()} == {Answer.UNDECIDED}
    assert {item.lower for item in found.values()} == {None}


def test_regressions_are_compared_on_their_rows(train: TrainService, project: Project) -> None:
    truth = np.linspace(0, 10, 400)
    noise = np.random.default_rng(1).normal(size=400)
    project.runs.pin_baseline("e", make(train, project, truth, truth + noise, task="regression"))
    found = compare(train, make(train, project, truth, truth + noise / 2, task="regression"))
    assert (found["mae"].answer, found["rmse"].answer, found["r2"].answer) == (
        Answer.BETTER,
        Answer.BETTER,
        Answer.BETTER,
    )
    assert found["mae"].method == "paired_student"


def test_folds_are_paired_by_step(train: TrainService, project: Project) -> None:
    baseline, run = project.runs.start("e").id, project.runs.start("e").id
    for fold, value in enumerate([0.70, 0.74, 0.72, 0.76, 0.71]):
        project.runs.log_metrics(baseline, {"fold_auc": value}, step=fold)
        project.runs.log_metrics(run, {"fold_auc": value + 0.02 + 0.001 * fold}, step=fold)
    project.runs.finish(baseline)
    project.runs.pin_baseline("e", baseline)
    item = compare(train, run)["fold_auc"]
    expected = stats.paired_mean_difference([0.0] * 5, [0.02 + 0.001 * fold for fold in range(5)], 0.05)
    assert (item.n, item.unit, item.answer) == (5, "repeats", Answer.BETTER)
    assert (item.lower, item.upper) == (pytest.approx(expected.lower), pytest.approx(expected.upper))


def test_one_number_each_is_no_evidence(train: TrainService, project: Project) -> None:
    baseline, run = project.runs.start("e").id, project.runs.start("e").id
    project.runs.log_metrics(baseline, {"auc": 0.5, "only here": 1.0})
    project.runs.log_metrics(run, {"auc": 0.9})
    project.runs.finish(baseline)
    project.runs.pin_baseline("e", baseline)
    found = compare(train, run)
    assert found.keys() == {"auc"}
    assert (found["auc"].answer, found["auc"].difference, found["auc"].n) == (Answer.UNDECIDED, pytest.approx(0.4), 0)


@pytest.mark.parametrize("metric", ["auc", "brier", "fold"])
def test_false_alarms_are_as_rare_as_the_level_says(metric: str) -> None:
    """Twins: an interval of level 0.9 calls about one pair in ten better or worse, and not one in three."""
    calls = 0
    for seed in range(200):
        random = np.random.default_rng(seed)
        truth = random.integers(0, 2, 300)
        chances = [1 / (1 + np.exp(-(truth - 0.5 + random.normal(size=300)))) for _ in range(2)]
        run, baseline = (make_evaluation("binary", truth, chance, None) for chance in chances)
        folds = [dict(enumerate(0.7 + random.normal(size=8) / 50)) for _ in range(2)]
        rows = None if metric == "fold" else (run, baseline)
        found = compare_metric(metric, 0.0, 0.0, rows=rows, repeats=(folds[0], folds[1]), alpha=0.1)
        calls += found.answer is not Answer.UNDECIDED
    assert 6 <= calls <= 36


def test_what_is_missing_is_named(train: TrainService, project: Project) -> None:
    run = make(train, project, *scores(1, 0.8))
    with pytest.raises(NotFound, match="has no baseline"):
        train.compare_to_baseline("e", run)
    with pytest.raises(NotFound, match="no experiment"):
        train.compare_to_baseline("x", run)
    with pytest.raises(Invalid, match="alpha"):
        train.compare_to_baseline("e", run, alpha=1.5)
    for y, output, task, keys, problem in (
        ([0, 1], [0.5], "binary", None, "2 truths, 1 outputs"),
        ([0, 1], [0.5, 0.6], "ranking", None, "no task 'ranking'"),
        ([0, 1], [0.5, 0.6], "binary", ["a", "a"], "occurs twice"),
        ([0, 1], [0.5, 7.0], "binary", None, "probabilities run from 0.5 to 7"),
    ):
        with pytest.raises(Invalid, match=problem):
            train.log_evaluation(run, y, output, task=task, keys=keys)
