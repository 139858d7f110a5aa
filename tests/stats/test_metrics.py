from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as known

from loopwright.core import Corrupt, Invalid
from loopwright.stats import (
    LatencyCounts,
    ScoreCounts,
    as_labels,
    auc_interval,
    classification_metrics,
    losses,
    multiclass_metrics,
    regression_metrics,
)

RANDOM = np.random.default_rng(0)
P = RANDOM.beta(1, 3, 2_000)
Y = (RANDOM.random(2_000) < P).astype(int)


def test_the_metrics_of_a_classifier_are_those_of_scikit_learn() -> None:
    found = classification_metrics(Y, P)
    guess = P >= 0.5

    assert found == pytest.approx(
        {
            "auc": known.roc_auc_score(Y, P),
            "log_loss": known.log_loss(Y, P),
            "brier": known.brier_score_loss(Y, P),
            "accuracy": known.accuracy_score(Y, guess),
            "precision": known.precision_score(Y, guess),
            "recall": known.recall_score(Y, guess),
            "f1": known.f1_score(Y, guess),
            "ece": found["ece"],
            "positive_rate": Y.mean(),
            "rows": 2_000.0,
        }
    )
    assert 0 <= found["ece"] < 0.05


def test_a_miscalibrated_classifier_has_its_error_named() -> None:
    assert classification_metrics([1, 0] * 500, [0.9] * 1_000)["ece"] == pytest.approx(0.4)


def test_one_class_alone_has_no_area_under_the_curve() -> None:
    found = classification_metrics([0, 0], [0.1, 0.2])

    assert "auc" not in found
    assert (found["precision"], found["recall"], found["f1"]) == (0.0, 0.0, 0.0)


def test_the_metrics_of_a_regression_are_those_of_scikit_learn() -> None:
    y, guess = RANDOM.normal(size=500), RANDOM.normal(size=500)
    found = regression_metrics(y, guess)

    assert found["mae"] == pytest.approx(known.mean_absolute_error(y, guess))
    assert found["rmse"] == pytest.approx(known.root_mean_squared_error(y, guess))
    assert found["r2"] == pytest.approx(known.r2_score(y, guess))
    assert found["median_ae"] == pytest.approx(known.median_absolute_error(y, guess))


def test_the_metrics_of_several_classes_are_those_of_scikit_learn() -> None:
    chance = RANDOM.dirichlet([1, 1, 1], 400)
    y = RANDOM.integers(0, 3, 400)
    found = multiclass_metrics(y, chance)

    assert found["accuracy"] == pytest.approx(known.accuracy_score(y, chance.argmax(axis=1)))
    assert found["log_loss"] == pytest.approx(known.log_loss(y, chance))
    assert found["f1"] == pytest.approx(known.f1_score(y, chance.argmax(axis=1), average="macro"))


@given(st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1)), min_size=1, max_size=50))
def test_losses_of_a_classifier_lie_within_zero_and_one_and_average_to_brier(rows: list[tuple[int, float]]) -> None:
    y, p = zip(*rows, strict=True)
    found = losses("binary", y, p)

    assert ((found >= 0) & (found <= 1)).all()
    assert found.mean() == pytest.approx(classification_metrics(y, p)["brier"])


def test_losses_of_the_other_tasks_are_bounded() -> None:
    assert losses("multiclass", [0, 1], [[1, 0], [1, 0]]).tolist() == [0.0, 1.0]
    assert losses("regression", [0.0, 0.0], [2.0, 50.0], scale=10.0).tolist() == [0.2, 1.0]
    assert losses("other", ["a", "b"], ["a", "c"]).tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("task", "y", "output", "said"),
    [
        ("binary", [0, 2], [0.1, 0.2], "beside 0 and 1"),
        ("binary", [0, 1], [0.1, 1.2], "probabilities run"),
        ("binary", [0, 1], [0.1], "shape"),
        ("binary", [0.0, float("nan")], [0.1, 0.2], "finite"),
        ("multiclass", [3], [[0.5, 0.5]], "class"),
        ("ranking", [1], [1], "no task"),
    ],
)
def test_what_does_not_fit_a_task_is_refused(task: str, y: list[float], output: list[object], said: str) -> None:
    with pytest.raises(Invalid, match=said):
        losses(task, y, output)


def counted(task: str, y: object, output: object, parts: int = 1) -> ScoreCounts:
    made = ScoreCounts(task)
    for some_y, some_output in zip(np.array_split(y, parts), np.array_split(output, parts), strict=True):  # type: ignore[call-overload]  # arrays
        made.update(some_y, some_output)
    return made


def test_counted_scores_estimate_what_the_rows_would() -> None:
    found = counted("binary", Y, P, parts=7).estimates()
    whole = classification_metrics(Y, P)

    for name in ("brier", "log_loss", "accuracy", "precision", "recall"):
        assert found[name].estimate == pytest.approx(whole[name])
        assert found[name].lower < whole[name] < found[name].upper
    rows = auc_interval(Y, P)
    assert found["auc"].estimate == pytest.approx(rows.estimate, abs=0.003)
    assert (found["auc"].lower, found["auc"].upper) == pytest.approx((rows.lower, rows.upper), abs=0.003)


def test_counted_regression_errors_estimate_what_the_rows_would() -> None:
    y, guess = RANDOM.normal(size=500), RANDOM.normal(size=500)
    found, whole = counted("regression", y, guess).estimates(), regression_metrics(y, guess)

    for name in ("mae", "rmse", "bias"):
        assert found[name].estimate == pytest.approx(whole[name])
        assert found[name].lower < whole[name] < found[name].upper


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_scores_merge_and_come_back_from_bytes(task: str) -> None:
    whole, parts = counted(task, Y, P), [counted(task, Y[::2], P[::2]), counted(task, Y[1::2], P[1::2])]

    merged = ScoreCounts.from_bytes(parts[0].to_bytes()).merge(parts[1])

    for name, found in whole.estimates().items():
        assert merged.estimates()[name].estimate == pytest.approx(found.estimate)
        assert merged.estimates()[name].lower == pytest.approx(found.lower)


def test_a_label_that_is_corrected_leaves_no_trace_of_the_first() -> None:
    corrected, right = counted("binary", 1 - Y, P), counted("binary", Y, P)
    corrected.update(1 - Y, P, times=-1)
    corrected.update(Y, P)

    np.testing.assert_array_equal(corrected.counts, right.counts)
    assert corrected.sums["brier"].total == pytest.approx(right.sums["brier"].total)


def test_scores_of_different_tasks_do_not_merge() -> None:
    with pytest.raises(Invalid, match="merged"):
        ScoreCounts("binary").merge(ScoreCounts("regression"))
    with pytest.raises(Corrupt):
        ScoreCounts.from_bytes(b"nothing of the kind")


@pytest.mark.parametrize(
    ("values", "classes", "places"),
    [
        ([0, 1, 1.0, True, False, "1"], (0, 1), [0, 1, 1, 1, 0, 1]),
        (["no", "yes", True, False, "maybe"], ("no", "yes"), [0, 1, 1, 0, -1]),
        (["b", 3, "3"], ("a", "b", 3), [1, 2, 2]),
        ([None], (0, 1), [-1]),
    ],
)
def test_labels_are_found_among_the_classes(
    values: list[object], classes: tuple[object, ...], places: list[int]
) -> None:
    assert as_labels(values, classes).tolist() == places


@given(st.lists(st.floats(0.02, 50_000), min_size=1, max_size=200), st.floats(0.05, 0.95))
def test_a_quantile_of_latencies_is_within_eight_percent(values: list[float], share: float) -> None:
    counts = LatencyCounts()
    counts.update(np.array(values))

    exact = np.sort(values)[int(np.ceil(share * len(values))) - 1]
    assert counts.quantile(share) == pytest.approx(exact, rel=0.08)
    assert counts.merge(counts).quantile(share) == counts.quantile(share)
