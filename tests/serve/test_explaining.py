"""Explanations: Shapley values between a row and the usual row."""

from __future__ import annotations

import random
from itertools import permutations
from typing import Any

import numpy as np
import pytest

from loopwright.models import Bundle
from loopwright.serve.explaining import shapley, usual_row

pytestmark = pytest.mark.slow


def exact(predict: Any, row: list[Any], usual: list[Any]) -> np.ndarray[Any, Any]:
    """Over all orders of the inputs, by the definition."""
    moved = np.zeros(len(row))
    orders = list(permutations(range(len(row))))
    for order in orders:
        step, before = list(usual), predict([usual])[0]
        for at in order:
            step[at] = row[at]
            after = predict([step])[0]
            moved[at] += after - before
            before = after
    return moved / len(orders)


def tangled(rows: list[list[float]]) -> np.ndarray[Any, Any]:
    x = np.array(rows)
    return x[:, 0] * x[:, 1] + np.maximum(x[:, 2], x[:, 3]) - 2 * x[:, 0]


def test_a_sum_is_explained_exactly_by_its_terms() -> None:
    values, errors, ends = shapley(
        lambda rows: np.array(rows) @ [1.0, -2.0, 3.0], [1.0, 2.0, 5.0], [0.0, 1.0, 5.0], 2, random.Random(1)
    )
    np.testing.assert_allclose(values, [1.0, -2.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(errors, 0.0, atol=1e-12)
    assert ends == (13.0, 12.0)


def test_values_come_near_the_definition_and_add_up() -> None:
    row, usual = [2.0, 3.0, -1.0, 4.0], [1.0, 0.5, 1.0, 0.0]
    wanted = exact(tangled, row, usual)
    values, errors, (low, high) = shapley(tangled, row, usual, 400, random.Random(1))
    assert values.sum() == pytest.approx(high - low)
    assert np.all(np.abs(values - wanted) <= 4 * errors + 1e-9)
    assert errors.max() < 0.1


def test_the_standard_error_tells_how_far_off_estimates_are() -> None:
    """Over repeated draws, estimates spread as their own standard errors say."""
    row, usual = [2.0, 3.0, -1.0, 4.0], [1.0, 0.5, 1.0, 0.0]
    drawn = [shapley(tangled, row, usual, 16, random.Random(seed)) for seed in range(200)]
    spread = np.std([values for values, _, _ in drawn], axis=0)
    told = np.sqrt(np.mean([errors**2 for _, errors, _ in drawn], axis=0))
    np.testing.assert_allclose(told, spread, atol=1e-9, rtol=0.25)


def test_the_model_is_never_asked_for_more_rows_than_are_affordable() -> None:
    asked: list[int] = []

    def predict(rows: list[list[float]]) -> np.ndarray[Any, Any]:
        asked.append(len(rows))
        return np.zeros(len(rows))

    shapley(predict, [1.0] * 500, [0.0] * 500, 256, random.Random(1))
    assert sum(asked) <= 65_536
    assert max(asked) <= 4_096


def test_the_usual_row_has_medians_and_the_most_frequent_words(bundle: Bundle, trips: Any) -> None:
    usual = dict(zip(bundle.signature.names, usual_row(bundle), strict=True))
    assert usual["carrier"] == trips.rows["carrier"].mode()[0]
    assert usual["distance"] == pytest.approx(trips.rows["distance"].median(), rel=0.05)
    assert (type(usual["hour"]), type(usual["holiday"])) == (int, bool)
