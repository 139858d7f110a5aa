"""Two values are identical, within tolerance, or different, and the message says where."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopwright.pipeline import StepOptions, Verdict
from loopwright.pipeline.comparing import compare_values, worst


@pytest.mark.parametrize(
    ("before", "now", "verdict", "detail"),
    [
        (1, 1.0, Verdict.IDENTICAL, ""),
        (1.0, 1.0 + 1e-9, Verdict.WITHIN_TOLERANCE, ""),
        (1e9, 1e9 + 100, Verdict.WITHIN_TOLERANCE, ""),
        (0.0, 1e-7, Verdict.WITHIN_TOLERANCE, ""),
        (1.0, 1.1, Verdict.DIFFERENT, "x: 1.0 before, 1.1 now"),
        (math.nan, math.nan, Verdict.IDENTICAL, ""),
        (math.nan, 1.0, Verdict.DIFFERENT, "x: nan before"),
        (math.inf, math.inf, Verdict.IDENTICAL, ""),
        (math.inf, 1.0, Verdict.DIFFERENT, "x: inf before"),
        (True, 1, Verdict.DIFFERENT, "x: True before"),
        ("a", "b", Verdict.DIFFERENT, "x: 'a' before"),
        ({"a": [1.0, 2.0]}, {"a": [1.0, 2.0000001]}, Verdict.WITHIN_TOLERANCE, ""),
        ({"a": [1.0, 2.0]}, {"a": [1.0, 3.0]}, Verdict.DIFFERENT, r"x.a[1]: 2.0 before"),
        ({"a": 1}, {"b": 1}, Verdict.DIFFERENT, "keys ['a'] before, ['b'] now"),
        ([1], [1, 2], Verdict.DIFFERENT, "1 elements before, 2 now"),
        (np.array([1.0, 2.0]), np.array([1.0, 2.0 + 1e-9]), Verdict.WITHIN_TOLERANCE, ""),
        (pl.DataFrame({"a": [1.0]}), pl.DataFrame({"a": [1.5]}), Verdict.DIFFERENT, "x.a[0]: 1.0 before"),
        (pl.DataFrame({"a": [1.0]}), pl.DataFrame({"b": [1.0]}), Verdict.DIFFERENT, "keys"),
        (StepOptions(retries=1), StepOptions(retries=2), Verdict.DIFFERENT, "x.retries: 1 before"),
        (None, 1.0, Verdict.DIFFERENT, "x: None before"),
    ],
)
def test_verdicts_and_their_reasons(before: Any, now: Any, verdict: Verdict, detail: str) -> None:
    found = compare_values("x", before, now, 1e-6)
    assert found.verdict is verdict
    assert detail in found.detail
    assert bool(found.detail) == (verdict is Verdict.DIFFERENT)


def test_the_largest_difference_is_told_even_after_the_first_that_is_too_large() -> None:
    found = compare_values("x", [1.0, 2.0, 3.0], [1.5, 2.0, 9.0], 1e-6)
    assert (found.max_absolute, found.detail) == (6.0, "x[0]: 1.0 before, 1.5 now")


@given(st.lists(st.floats(allow_nan=True)))
def test_a_value_is_identical_to_itself(value: list[float]) -> None:
    assert compare_values("x", value, list(value), 0.0).verdict is Verdict.IDENTICAL


@given(st.lists(st.sampled_from(list(Verdict))))
def test_the_worst_decides(verdicts: list[Verdict]) -> None:
    found = worst(verdicts)
    if Verdict.DIFFERENT in verdicts:
        assert found is Verdict.DIFFERENT
    elif Verdict.WITHIN_TOLERANCE in verdicts:
        assert found is Verdict.WITHIN_TOLERANCE
    else:
        assert found is Verdict.IDENTICAL
