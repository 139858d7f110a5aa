from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from loopwright.core import Invalid
from loopwright.stats import (
    Decision,
    EventDifference,
    MeanDifference,
    Sufficient,
    error_rate_difference,
    event_rate_sequence,
    mean_difference,
)

Draw = Callable[[np.random.Generator, int], np.ndarray]

SKEWED: dict[str, Draw] = {
    "brier": lambda random, n: random.beta(0.6, 3.0, n),
    "rare": lambda random, n: (random.random(n) < 0.01).astype(float),
    "coin": lambda random, n: (random.random(n) < 0.3).astype(float),
    "extreme": lambda random, n: random.beta(0.05, 1.0, n),
    "constant": lambda random, n: np.full(n, 0.4),
}


def sums(loss: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.cumsum(chosen), np.cumsum(loss * chosen), np.cumsum(loss * loss * chosen)


def ever_decides(test: MeanDifference, loss: np.ndarray, arm: np.ndarray, step: int) -> bool:
    a, b = sums(loss, ~arm), sums(loss, arm)
    for place in range(step - 1, len(loss), step):
        one, other = (Sufficient(int(s[0][place]), float(s[1][place]), float(s[2][place])) for s in (a, b))
        if test.judge(one, other).decided in (Decision.BETTER, Decision.WORSE):
            return True
    return False


QUICK_CASES = {("brier", 0.5), ("rare", 0.05), ("coin", 0.05), ("extreme", 0.05)}
CASES = [
    pytest.param(name, share, marks=[] if (name, share) in QUICK_CASES else [pytest.mark.slow])
    for name in SKEWED
    for share in (0.05, 0.5)
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "share"), CASES)
def test_the_false_alarm_rate_holds_however_often_one_looks(name: str, share: float) -> None:
    """Arms without a difference, looked at after each 5 rows from the first on, with a focus that suits the size."""
    random = np.random.default_rng(21)
    test = MeanDifference(alpha=0.1, focus=0.05, min_rows=1)
    alarms = sum(ever_decides(test, SKEWED[name](random, 1_500), random.random(1_500) < share, 5) for _ in range(100))

    assert binomtest(alarms, 100, 0.1, alternative="greater").pvalue > 0.01


def test_looking_all_the_time_with_an_ordinary_interval_would_not_hold_it() -> None:
    """What the test above would see if the boundary were that of a single look."""
    random = np.random.default_rng(22)
    alarms = 0
    for _ in range(100):
        loss, arm = random.random(1_500), random.random(1_500) < 0.5
        a, b = sums(loss, ~arm), sums(loss, arm)
        n, m = a[0][50::5], b[0][50::5]
        gap = b[1][50::5] / m - a[1][50::5] / n
        alarms += bool((np.abs(gap) > 1.645 * np.sqrt((1 / n + 1 / m) / 12)).any())

    assert alarms > 25


def test_a_difference_is_found_and_named() -> None:
    random = np.random.default_rng(23)
    good, bad = random.beta(2, 10, 4_000), random.beta(3, 10, 4_000)

    assert mean_difference(Sufficient.of(good), Sufficient.of(bad)).decided is Decision.WORSE
    assert mean_difference(Sufficient.of(bad), Sufficient.of(good)).decided is Decision.BETTER


def test_a_small_sample_decides_nothing() -> None:
    found = mean_difference(Sufficient.of([0.0] * 15), Sufficient.of([1.0] * 15))

    assert found.decided is Decision.UNDECIDED
    assert (found.lower, found.upper) == (-1.0, 1.0)


def test_arms_that_are_alike_are_called_equivalent_once_the_interval_is_within_the_margin() -> None:
    random = np.random.default_rng(24)
    a, b = (Sufficient.of(random.beta(2, 10, 20_000)) for _ in range(2))

    found = mean_difference(a, b, margin=0.02)

    assert found.decided is Decision.EQUIVALENT
    assert found.not_worse_by(0.02)
    assert not found.worse_by(0.0)
    assert mean_difference(a, b).decided is Decision.UNDECIDED


arm = st.builds(lambda values: Sufficient.of(values), st.lists(st.floats(0, 1), min_size=20, max_size=60))


@pytest.mark.slow
@given(arm, arm)
def test_the_verdict_is_symmetric(a: Sufficient, b: Sufficient) -> None:
    one, other = mean_difference(a, b), mean_difference(b, a)

    assert (one.lower, one.upper) == pytest.approx((-other.upper, -other.lower))
    assert one.lower <= one.estimate <= one.upper


@pytest.mark.slow
@given(arm, arm)
def test_a_smaller_alpha_never_gives_a_narrower_interval(a: Sufficient, b: Sufficient) -> None:
    loose, strict = (mean_difference(a, b, alpha=alpha) for alpha in (0.1, 0.01))

    assert strict.lower <= loose.lower + 1e-9
    assert strict.upper >= loose.upper - 1e-9


def test_a_changing_share_under_a_drifting_loss_looks_like_an_effect_unless_it_is_stratified() -> None:
    """Simpson's paradox: the candidate gets most of its rows on the late days, on which everybody errs more."""
    random = np.random.default_rng(25)
    days = []
    for share, level in zip((0.05, 0.05, 0.5, 0.5), (1.0, 1.0, 3.0, 3.0), strict=True):
        loss, arm_b = random.beta(level, 10, 4_000), random.random(4_000) < share
        days.append((Sufficient.of(loss[~arm_b]), Sufficient.of(loss[arm_b])))
    test = MeanDifference()

    pooled = test.judge(sum((a for a, _ in days), Sufficient()), sum((b for _, b in days), Sufficient()))

    assert pooled.decided is Decision.WORSE
    assert test.judge_strata(days).decided is Decision.UNDECIDED


def test_the_false_alarm_rate_holds_over_strata_whose_shares_and_levels_move() -> None:
    random = np.random.default_rng(26)
    test, alarms = MeanDifference(alpha=0.1, focus=0.05), 0
    for _ in range(150):
        days: list[tuple[Sufficient, Sufficient]] = []
        for day in range(30):
            loss, arm_b = random.beta(0.5 + day / 10, 6, 60), random.random(60) < (0.1, 0.3, 0.6)[day // 10]
            days.append((Sufficient.of(loss[~arm_b]), Sufficient.of(loss[arm_b])))
            if test.judge_strata(days).decided is not Decision.UNDECIDED:
                alarms += 1
                break

    assert binomtest(alarms, 150, 0.1, alternative="greater").pvalue > 0.01


def test_a_stratum_without_one_of_the_arms_says_nothing() -> None:
    random = np.random.default_rng(27)
    pair = (Sufficient.of(random.random(500)), Sufficient.of(random.random(500)))
    alone = (Sufficient.of(random.random(5_000) / 10), Sufficient())

    one, other = MeanDifference().judge_strata([pair]), MeanDifference().judge_strata([pair, alone])

    assert (other.estimate, other.lower, other.upper) == (one.estimate, one.lower, one.upper)
    assert other.n_a == 5_500


def test_one_stratum_is_the_plain_comparison() -> None:
    random = np.random.default_rng(28)
    a, b = Sufficient.of(random.random(300)), Sufficient.of(random.random(90))

    found = MeanDifference().judge_strata([(a, b)])

    assert found == MeanDifference().judge(a, b)
    assert found.estimate == pytest.approx(b.mean - a.mean)


@pytest.mark.parametrize("rate", [0.002, 0.05, pytest.param(0.5, marks=pytest.mark.slow)])
def test_a_rates_interval_holds_at_every_moment_at_once(rate: float) -> None:
    random = np.random.default_rng(29)
    missed = 0
    for _ in range(120):
        events = np.cumsum(random.random(1_000) < rate)
        looks = (event_rate_sequence(n, float(events[n - 1]), 0.1) for n in range(1, 1_001, 7))
        missed += any(not low <= rate <= high for low, high in looks)

    assert binomtest(missed, 120, 0.1, alternative="greater").pvalue > 0.01


@given(st.integers(0, 400), st.integers(0, 400))
def test_a_rates_interval_holds_what_was_seen(happened: int, others: int) -> None:
    n = happened + others
    if n:
        low, high = event_rate_sequence(n, float(happened), 0.05)

        assert 0 <= low <= happened / n <= high <= 1


def test_a_rise_of_errors_is_seen_and_a_single_error_is_not() -> None:
    quiet = Sufficient.of_events(4_000, 8)

    assert error_rate_difference(quiet, Sufficient.of_events(400, 40)).decided is Decision.WORSE
    assert error_rate_difference(quiet, Sufficient.of_events(50, 1)).decided is Decision.UNDECIDED
    assert error_rate_difference(Sufficient(), quiet).decided is Decision.UNDECIDED


@pytest.mark.parametrize(
    "make",
    [
        lambda: MeanDifference(alpha=0.0),
        lambda: MeanDifference(focus=0.0),
        lambda: MeanDifference(low=1.0, high=1.0),
        lambda: MeanDifference(margin=-0.1),
        lambda: EventDifference(alpha=1.0),
        lambda: EventDifference(expected=1.0),
    ],
)
def test_a_test_that_makes_no_sense_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(Invalid):
        make()
