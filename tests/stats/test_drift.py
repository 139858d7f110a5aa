from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as exact

from loopwright.core import Invalid
from loopwright.stats import (
    BinnedColumn,
    ColumnSketch,
    adjusted_p_values,
    benjamini_hochberg,
    compare,
    jensen_shannon,
    population_stability,
)


def sketch(values: object, kind: str = "numeric") -> ColumnSketch:
    column = ColumnSketch(kind)
    column.update(values)  # type: ignore[arg-type]  # arrays and lists
    return column


def window(reference: ColumnSketch, values: object) -> BinnedColumn:
    column = BinnedColumn.like(reference)
    column.update(values)  # type: ignore[arg-type]  # as above
    return column


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.5, 2.0])
@pytest.mark.parametrize("n", [500, 40_000])
def test_the_ks_statistic_agrees_with_the_exact_one_within_a_bin(shift: float, n: int) -> None:
    random = np.random.default_rng(int(shift * 10) + n)
    before, after = random.normal(size=n), random.normal(shift, 1.0, 2_000)
    reference = sketch(before)

    found = compare(reference, window(reference, after))

    true = exact.ks_2samp(before, after).statistic
    assert true - 1 / 64 - 2 * reference.rank_error - 1e-6 <= found.statistic <= true + reference.rank_error + 1e-6


def test_the_ks_p_value_agrees_with_the_exact_one_for_a_small_sample() -> None:
    random = np.random.default_rng(0)
    before, after = random.integers(0, 20, 400).astype(float), random.integers(1, 21, 300).astype(float)

    found = compare(sketch(before), sketch(after))

    true = exact.ks_2samp(before, after)
    assert found.statistic == pytest.approx(true.statistic, abs=1e-9)
    assert found.p_value == pytest.approx(true.pvalue, rel=0.2)


def test_the_stability_index_agrees_with_the_exact_one_over_the_same_deciles() -> None:
    random = np.random.default_rng(2)
    before, after = random.normal(size=50_000), random.normal(0.6, 1.2, 50_000)
    edges = np.quantile(before, np.linspace(0.1, 0.9, 9))
    p = np.histogram(before, [-np.inf, *edges, np.inf])[0] / len(before)
    q = np.histogram(after, [-np.inf, *edges, np.inf])[0] / len(after)
    true = float(((q - p) * np.log(q / p)).sum())
    reference = sketch(before)

    assert compare(reference, window(reference, after)).effect.value == pytest.approx(true, rel=0.1)


def test_the_chi_squared_test_agrees_with_the_exact_one() -> None:
    random = np.random.default_rng(3)
    before = random.choice(list("abcd"), 4_000, p=[0.4, 0.3, 0.2, 0.1]).tolist()
    after = random.choice(list("abcd"), 900, p=[0.45, 0.25, 0.2, 0.1]).tolist()
    table = [[data.count(letter) for letter in "abcd"] for data in (before, after)]

    found = compare(sketch(before, "categorical"), sketch(after, "categorical"))

    true = exact.chi2_contingency(table, correction=False)
    assert (found.statistic, found.p_value) == pytest.approx((true.statistic, true.pvalue), rel=1e-9)


@pytest.mark.parametrize("kind", ["numeric", "discrete", "categorical", "nulls"])
def test_the_false_alarm_rate_holds_where_nothing_moved(kind: str) -> None:
    random = np.random.default_rng(4)

    def draw(rows: int) -> object:
        if kind == "categorical":
            return random.choice(list("abcdefgh"), rows).tolist()
        if kind == "discrete":
            return random.integers(0, 24, rows).astype(float)
        values = random.normal(size=rows)
        return np.where(random.random(rows) < 0.1, np.nan, values) if kind == "nulls" else values

    reference = sketch(draw(50_000), "categorical" if kind == "categorical" else "numeric")
    alarms = sum(compare(reference, window(reference, draw(800))).p_value < 0.05 for _ in range(400))

    assert exact.binomtest(alarms, 400, 0.05, alternative="greater").pvalue > 0.001


def test_a_shift_that_matters_is_seen_with_its_size() -> None:
    random = np.random.default_rng(5)
    reference = sketch(random.normal(size=50_000))

    found = compare(reference, window(reference, random.normal(1.0, 1.0, 500)))

    assert found.p_value < 1e-9
    assert found.effect.value > 0.5
    assert 0 < found.js < 1


def test_a_large_sample_makes_a_tiny_shift_significant_but_not_large() -> None:
    random = np.random.default_rng(6)
    reference = sketch(random.normal(size=400_000))

    found = compare(reference, window(reference, random.normal(0.03, 1.0, 400_000)))

    assert found.p_value < 0.001
    assert found.effect.value < 0.01


def test_values_that_go_missing_are_drift() -> None:
    random = np.random.default_rng(7)
    values = random.normal(size=1_000)
    reference = sketch(random.normal(size=20_000))

    found = compare(reference, window(reference, np.where(random.random(1_000) < 0.3, np.nan, values)))

    assert found.p_value < 1e-9
    assert found.nulls_current == pytest.approx(0.3, abs=0.05)
    assert found.effect.value > 0.2


def test_a_category_that_is_new_is_drift() -> None:
    reference = sketch(["a", "b"] * 2_000, "categorical")

    assert compare(reference, window(reference, ["a", "b", "z"] * 200)).p_value < 1e-9


@pytest.mark.parametrize("empty", ["reference", "current", "both"])
def test_nothing_to_compare_is_no_drift(empty: str) -> None:
    full = sketch([1.0, 2.0, 3.0])
    before = ColumnSketch() if empty in ("reference", "both") else full
    after = ColumnSketch() if empty in ("current", "both") else full

    found = compare(before, after)

    assert (found.p_value, found.effect.value, found.js) == (1.0, 0.0, 0.0)


def test_columns_of_different_kinds_are_not_compared() -> None:
    with pytest.raises(Invalid, match="categorical"):
        compare(sketch([1.0]), sketch(["a"], "categorical"))


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=12), st.data())
def test_divergences_are_symmetric_and_zero_for_equal_histograms(p: list[int], data: st.DataObject) -> None:
    q = data.draw(st.lists(st.integers(0, 1000), min_size=len(p), max_size=len(p)))

    for divergence in (population_stability, jensen_shannon):
        assert divergence(p, q) == pytest.approx(divergence(q, p), abs=1e-12)
        assert divergence(p, p) == pytest.approx(0.0, abs=1e-12)
        assert divergence(p, q) >= 0
    assert jensen_shannon(p, q) <= 1 + 1e-12


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_adjusted_p_values_are_those_of_scipy(p_values: list[float]) -> None:
    np.testing.assert_allclose(adjusted_p_values(p_values), exact.false_discovery_control(p_values), rtol=1e-12)


def test_no_more_than_alpha_of_the_discoveries_are_false_on_average() -> None:
    random = np.random.default_rng(8)
    shares = []
    for _ in range(300):
        p = random.random(100)
        p[:20] = exact.norm.sf(random.normal(3.0, 1.0, 20))
        found = np.array(benjamini_hochberg(p.tolist(), 0.1))
        shares.append(found[20:].sum() / max(1, found.sum()))

    assert np.mean(shares) < 0.1
