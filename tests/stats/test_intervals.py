from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom
from sklearn.metrics import roc_auc_score

from loopwright.core import Invalid
from loopwright.stats import (
    Interval,
    Sufficient,
    auc_difference,
    auc_interval,
    detectable_effect,
    difference_interval,
    mean_interval,
    paired_bootstrap,
    paired_mean_difference,
    power_of,
    proportion_difference,
    sample_size,
    wilson,
)


def covers(found: Interval, truth: float) -> bool:
    return found.lower <= truth <= found.upper


@pytest.mark.parametrize("n", [20, 100, 1_000])
def test_wilsons_interval_covers_about_as_often_as_it_says(n: int) -> None:
    """Computed exactly over all outcomes, averaged over rates."""
    rates = np.linspace(0.05, 0.95, 61)
    covered = [sum(binom.pmf(k, n, rate) for k in range(n + 1) if covers(wilson(k, n, 0.05), rate)) for rate in rates]

    assert np.mean(covered) == pytest.approx(0.95, abs=0.012)
    assert min(covered) > 0.87


@given(st.integers(1, 500), st.data())
def test_wilsons_interval_stays_within_zero_and_one(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    found = wilson(k, n)

    assert 0 <= found.lower <= k / n <= found.upper <= 1
    assert found.lower < found.upper


def rate_of_cover(make: object, truth: float, times: int = 2_000) -> float:
    return sum(covers(make(), truth) for _ in range(times)) / times  # type: ignore[operator]  # a function


def test_the_interval_of_a_mean_covers_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)

    rate = rate_of_cover(lambda: mean_interval(Sufficient.of(random.normal(3, 2, 12)), 0.1), 3.0)

    assert rate == pytest.approx(0.9, abs=0.025)


def test_the_interval_of_a_difference_covers_as_often_as_it_says() -> None:
    random = np.random.default_rng(2)

    def make() -> Interval:
        return difference_interval(
            Sufficient.of(random.normal(0, 1, 15)), Sufficient.of(random.normal(1, 4, 40)), alpha=0.1
        )

    assert rate_of_cover(make, 1.0) == pytest.approx(0.9, abs=0.025)


def test_the_interval_of_a_difference_of_rates_covers_as_often_as_it_says() -> None:
    random = np.random.default_rng(3)

    def make() -> Interval:
        a, b = int(random.binomial(60, 0.1)), int(random.binomial(150, 0.2))
        return proportion_difference(Sufficient.of_events(60, a), Sufficient.of_events(150, b))

    assert rate_of_cover(make, 0.1) == pytest.approx(0.95, abs=0.02)


def scores(random: np.random.Generator, rows: int, strength: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    y = random.integers(0, 2, rows)
    return y, random.normal(size=rows) + strength * y


def test_delongs_interval_covers_as_often_as_it_says() -> None:
    random = np.random.default_rng(4)
    truth = 0.7602499389  # Phi(1 / sqrt(2)): the area between two unit normals one apart

    rate = rate_of_cover(lambda: auc_interval(*scores(random, 120)), truth, 1_000)

    assert rate == pytest.approx(0.95, abs=0.02)


def test_the_area_is_that_of_scikit_learn_with_ties() -> None:
    random = np.random.default_rng(5)
    y, score = scores(random, 500)
    score = np.round(score)

    assert auc_interval(y, score).estimate == pytest.approx(roc_auc_score(y, score), abs=1e-12)


def test_the_difference_of_two_areas_on_the_same_rows_is_sharper_than_apart() -> None:
    random = np.random.default_rng(6)
    y, score = scores(random, 800)
    other = score + random.normal(0, 0.3, 800)

    together = auc_difference(y, score, other)
    apart = [auc_interval(y, one) for one in (score, other)]

    assert together.estimate == pytest.approx(apart[1].estimate - apart[0].estimate)
    assert together.upper - together.lower < 0.5 * (apart[0].upper - apart[0].lower)


def test_perfect_separation_still_has_an_interval() -> None:
    found = auc_interval([0] * 20 + [1] * 20, np.arange(40))

    assert found.estimate == 1.0
    assert 0.8 < found.lower < 1.0


def test_one_class_alone_has_no_area() -> None:
    with pytest.raises(Invalid, match="2 rows of each class"):
        auc_interval([1, 1, 1], [0.1, 0.2, 0.3])


def test_the_bootstrap_is_repeatable_and_agrees_with_student() -> None:
    random = np.random.default_rng(7)
    y = random.integers(0, 2, 400).astype(float)
    a, b = random.random(400), np.clip(y * 0.3 + random.random(400) * 0.7, 0, 1)

    def brier(truth: np.ndarray, chance: np.ndarray) -> float:
        return float(np.mean((truth - chance) ** 2))

    one, other = (paired_bootstrap(brier, y, a, b, seed=3) for _ in range(2))
    student = paired_mean_difference((y - a) ** 2, (y - b) ** 2)

    assert one == other
    assert one.estimate == pytest.approx(student.estimate)
    assert (one.lower, one.upper) == pytest.approx((student.lower, student.upper), abs=0.01)


@pytest.mark.parametrize(
    "make",
    [
        lambda: wilson(3, 2),
        lambda: wilson(0, 0),
        lambda: mean_interval(Sufficient.of([1.0])),
        lambda: difference_interval(Sufficient.of([1.0]), Sufficient.of([1.0, 2.0])),
        lambda: paired_mean_difference([1.0], [1.0, 2.0]),
        lambda: sample_size(0.0, 1.0),
    ],
)
def test_too_little_to_go_by_is_said(make: object) -> None:
    with pytest.raises(Invalid):
        make()  # type: ignore[operator]  # a function


@given(st.floats(0.01, 0.5), st.floats(0.6, 0.95))
def test_the_sample_size_gives_the_power_that_was_asked_for(effect: float, power: float) -> None:
    n = sample_size(effect, 1.0, power=power)

    assert power <= power_of(n, n, effect, 1.0) < power + 0.05
    assert detectable_effect(n, n, 1.0, power=power) == pytest.approx(effect, rel=0.1)


def test_the_power_is_what_a_simulation_shows() -> None:
    random = np.random.default_rng(9)
    found = sum(
        difference_interval(
            Sufficient.of(random.normal(0, 1, 200)), Sufficient.of(random.normal(0.3, 1, 100))
        ).excludes(0.0)
        for _ in range(1_500)
    )

    assert found / 1_500 == pytest.approx(power_of(200, 100, 0.3, 1.0), abs=0.04)
