from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopwright.stats import DistinctSketch, FrequentValues


@pytest.mark.parametrize("count", [0, 1, 10, 300, 3_000, 12_000, 60_000, 1_000_000])
def test_the_number_of_different_numbers_is_within_five_standard_errors(count: int) -> None:
    sketch = DistinctSketch()
    sketch.update_numbers(np.arange(count, dtype=np.int64))
    sketch.update_numbers(np.arange(count, dtype=np.int64))

    assert sketch.estimate() == pytest.approx(count, rel=0.08, abs=0.5)


@pytest.mark.parametrize("count", [1, 50, 5_000, 100_000])
def test_the_number_of_different_texts_is_within_five_standard_errors(count: int) -> None:
    sketch = DistinctSketch()
    sketch.update_texts([f"flight {number} – Zürich" for number in range(count)])

    assert sketch.estimate() == pytest.approx(count, rel=0.08, abs=0.5)


def test_texts_longer_than_a_word_are_told_apart() -> None:
    sketch = DistinctSketch()
    sketch.update_texts(["x" * 500 + str(number) for number in range(200)])

    assert sketch.estimate() == pytest.approx(200, rel=0.03)


def test_an_integer_and_the_float_of_the_same_value_are_one() -> None:
    sketch = DistinctSketch()
    sketch.update_numbers(np.array([1, 2, 3]))
    sketch.update_numbers(np.array([1.0, 2.0, 3.0]))
    sketch.update_numbers(np.array([-0.0, 0.0]))

    assert round(sketch.estimate()) == 4


def test_neighbouring_ids_beyond_a_floats_precision_are_told_apart() -> None:
    sketch = DistinctSketch()
    sketch.update_numbers(np.arange(2**60, 2**60 + 1000))

    assert sketch.estimate() == pytest.approx(1000, rel=0.08)


@given(st.lists(st.text()), st.lists(st.text()))
def test_merging_is_as_if_fed_with_both(left: list[str], right: list[str]) -> None:
    a, b, both = DistinctSketch(), DistinctSketch(), DistinctSketch()
    a.update_texts(left)
    b.update_texts(right)
    both.update_texts(left + right)

    assert np.array_equal(a.merge(b).registers, both.registers)


counts = st.dictionaries(st.text(max_size=2), st.integers(1, 50), max_size=40)


def totals(*parts: dict[str, int]) -> dict[str, int]:
    return {value: sum(part.get(value, 0) for part in parts) for part in parts for value in part}


@given(st.lists(counts, max_size=6))
def test_counts_are_low_by_at_most_the_error_and_never_high(parts: list[dict[str, int]]) -> None:
    kept = FrequentValues(capacity=8)
    for part in parts:
        kept.update(part)

    exact = totals(*parts)
    assert len(kept.counts) <= 8
    assert kept.n == sum(exact.values())
    assert kept.error <= kept.n / 9
    for value, count in exact.items():
        assert count - kept.error <= kept.counts.get(value, 0) <= count


@given(counts, counts)
def test_merged_counts_keep_the_bound(left: dict[str, int], right: dict[str, int]) -> None:
    a, b = FrequentValues(capacity=8), FrequentValues(capacity=8)
    a.update(left)
    b.update(right)

    merged = a.merge(b)

    assert merged.n == sum(left.values()) + sum(right.values())
    assert merged.error <= merged.n / 9
    assert merged.top() == b.merge(a).top()
    for value, count in totals(left, right).items():
        assert count - merged.error <= merged.counts.get(value, 0) <= count
