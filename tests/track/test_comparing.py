"""Runs beside each other: what differs, against whom, and how sure one may be."""

from __future__ import annotations

import math

import pytest
from scipy import stats as scipy_stats

from loopwright.core import Invalid, NotFound, Scope, new_id
from loopwright.store import Stores
from loopwright.track import MetricDifference, MetricPoint, RunService
from loopwright.track.repeats import Repeats, difference, named_repeats

FIRST = {"0": 0.80, "1": 0.84, "2": 0.79, "3": 0.83, "4": 0.81}
SECOND = {"0": 0.83, "1": 0.86, "2": 0.80, "3": 0.86, "4": 0.85}


@pytest.fixture
def runs(stores_sqlite: Stores) -> RunService:
    return RunService(stores_sqlite, Scope())


def metric(runs: RunService, key: str, *ids: str) -> MetricDifference:
    return next(item for item in runs.compare(list(ids)).metrics if item.key == key)


@pytest.mark.parametrize(
    ("keys", "folds"),
    [
        (["fold_0/auc", "fold_1/auc"], True),
        (["auc/fold0", "auc/fold1"], True),
        (["auc_cv-1", "auc_cv-2"], True),
        (["split0_test_auc", "split1_test_auc"], True),
        (["Repeat_1.auc", "Repeat_2.auc"], False),
    ],
)
def test_names_of_metrics_tell_folds(keys: list[str], folds: bool) -> None:
    [(name, found)] = named_repeats({key: float(at) for at, key in enumerate(keys)}).items()
    assert (name, sorted(found.values.values()), found.folds) == ("auc", [0.0, 1.0], folds)


@pytest.mark.parametrize("key", ["fold_1/auc", "folded/auc", "auc", "unfold_3", "fold_/auc", "cv/auc"])
def test_one_fold_or_another_word_is_no_repeat(key: str) -> None:
    assert named_repeats({key: 1.0}) == {}


def test_an_interval_of_repeats_is_students() -> None:
    found = Repeats(FIRST, folds=False).interval
    assert found is not None
    values = list(FIRST.values())
    expected = scipy_stats.t.interval(0.95, 4, loc=sum(values) / 5, scale=scipy_stats.sem(values))
    assert (found.lower, found.upper) == pytest.approx(expected)


def test_an_interval_of_folds_is_wider_by_what_they_share() -> None:
    """Nadeau and Bengio: the variance is (1/k + 1/(k-1)) s²."""
    found = difference(Repeats(FIRST, folds=True), Repeats(SECOND, folds=True))
    assert found is not None
    gaps = [SECOND[key] - FIRST[key] for key in FIRST]
    mean = sum(gaps) / 5
    variance = sum((gap - mean) ** 2 for gap in gaps) / 4
    radius = scipy_stats.t.ppf(0.975, 4) * math.sqrt((1 / 5 + 1 / 4) * variance)
    assert (found.estimate, found.lower, found.upper) == pytest.approx((mean, mean - radius, mean + radius))
    assert "corrected for folds" in found.method


def test_other_folds_are_compared_as_independent_samples() -> None:
    other = {f"other {key}": value for key, value in SECOND.items()}
    found = difference(Repeats(FIRST, folds=False), Repeats(other, folds=False))
    assert found is not None
    assert found.method == "welch"


def test_one_value_gives_no_interval() -> None:
    assert Repeats({"0": 1.0}, folds=True).interval is None
    assert difference(Repeats({"0": 1.0}, folds=True), Repeats(FIRST, folds=True)) is None
    assert difference(None, Repeats(FIRST, folds=True)) is None


def test_folds_in_names_steps_and_parts_give_the_same_interval(runs: RunService) -> None:
    def named(values: dict[str, float]) -> str:
        run = runs.start("a").id
        runs.log_metrics(run, {f"fold_{key}/auc": value for key, value in values.items()})
        return run

    def stepped(values: dict[str, float]) -> str:
        run = runs.start("a", tags={"repeats": "auc"}).id
        runs.log_points(run, [MetricPoint("auc", value, int(key)) for key, value in values.items()])
        return run

    def of_parts(values: dict[str, float]) -> str:
        run = runs.start("a").id
        for key, value in values.items():
            runs.log_metrics(runs.start("a", parent=run, kind="fold", tags={"fold": key}).id, {"auc": value})
        return run

    found = [metric(runs, "auc", make(FIRST), make(SECOND)).delta_intervals for make in (named, stepped, of_parts)]
    assert found[0][0] is None
    assert found[0][1] is not None
    assert found[0] == found[1] == found[2]


def test_steps_are_time_unless_a_tag_says_otherwise(runs: RunService) -> None:
    first, second = runs.start().id, runs.start().id
    for run in (first, second):
        runs.log_points(run, [MetricPoint("loss", 1 / (step + 1), step) for step in range(9)])
    runs.log_metrics(second, {"loss": 0.01}, step=10)
    assert metric(runs, "loss", first, second).intervals == [None, None]


def test_changes_are_against_the_baseline_where_it_takes_part(runs: RunService) -> None:
    ids = []
    for value in (0.7, 0.8, 0.9):
        run = runs.start("a").id
        runs.log_metrics(run, {"auc": value})
        runs.finish(run)
        ids.append(run)
    assert metric(runs, "auc", *ids).delta == pytest.approx([0.0, 0.1, 0.2])
    runs.pin_baseline("a", ids[1])
    found = runs.compare(ids)
    assert found.baseline == ids[1]
    assert found.metrics[0].delta == pytest.approx([-0.1, 0.0, 0.1])
    assert runs.compare([ids[0], ids[2]]).baseline == ""
    deltas = runs.against_baseline(ids)
    assert [delta.baseline for delta in deltas] == [ids[1]] * 3
    assert [delta.metrics for delta in deltas] == [{"auc": pytest.approx(-0.1)}, {}, {"auc": pytest.approx(0.1)}]


def test_a_run_of_an_experiment_without_baseline_has_no_change(runs: RunService) -> None:
    run = runs.start("a").id
    assert [(delta.baseline, delta.metrics) for delta in runs.against_baseline([run])] == [("", {})]
    with pytest.raises(NotFound):
        runs.against_baseline([new_id()])


def test_only_what_differs_is_shown_unless_all_is_asked_for(runs: RunService) -> None:
    first = runs.start("a", params={"lr": "1", "same": "x"}, tags={"t": "1"}).id
    second = runs.start("a", params={"lr": "2", "same": "x"}).id
    found, whole = runs.compare([first, second]), runs.compare([first, second], everything=True)
    assert [(item.key, item.values) for item in found.params] == [("lr", ["1", "2"])]
    assert [(item.key, item.values) for item in found.tags] == [("t", ["1", None])]
    assert [item.key for item in whole.params] == ["lr", "same"]


def test_a_comparison_takes_two_to_a_hundred_runs(runs: RunService) -> None:
    run = runs.start().id
    for count in (0, 1, 101):
        with pytest.raises(Invalid, match="cannot be compared"):
            runs.compare([run] * count)
