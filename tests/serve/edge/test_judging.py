"""What is said of two graphs' answers to the same rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from loopwright.core import Invalid
from loopwright.serve.edge.judging import accuracy, compare, judge, latency
from loopwright.serve.edge.model import Budget, Latency


def answers(label: list[Any], probability: list[float]) -> dict[str, Any]:
    return {"label": np.array(label), "probability": np.array(probability, dtype=np.float32)}


def test_labels_decide_and_numbers_are_told() -> None:
    found = compare(answers([0, 1, 1, 0], [0.1, 0.9, 0.6, 0.2]), answers([0, 1, 0, 0], [0.1, 0.8, 0.4, 0.2]), "x", 0.01)
    assert found.agreement == 0.75
    assert found.max_abs == pytest.approx(0.2)
    assert found.max_rel == pytest.approx(1 / 3)
    assert found.worst_row == 2


def test_numbers_without_labels_agree_within_the_tolerance() -> None:
    own, other = {"value": np.array([100.0, 1.0, 0.0])}, {"value": np.array([100.9, 1.1, 0.005])}
    assert compare(own, other, "x", 0.01).agreement == pytest.approx(2 / 3)
    assert compare(own, other, "x", 0.2).agreement == 1.0


def test_a_missing_number_agrees_with_a_missing_number_alone() -> None:
    own = {"value": np.array([np.nan, np.nan, np.inf])}
    assert compare(own, own, "x", 0.01).agreement == 1.0
    found = compare(own, {"value": np.array([np.nan, 1.0, np.inf])}, "x", 0.01)
    assert found.agreement == pytest.approx(2 / 3)
    assert np.isfinite(found.max_abs)  # JSON knows no infinity
    assert found.worst_row == 1


def test_accuracy_is_of_labels_whatever_type_the_truth_has() -> None:
    own, other = answers([0, 1, 1, 0], [0.1, 0.9, 0.6, 0.2]), answers([0, 1, 0, 0], [0.1, 0.8, 0.4, 0.2])
    for truth in (np.array([0, 1, 1, 1]), np.array([False, True, True, True]), np.array([0.0, 1.0, 1.0, 1.0])):
        found = accuracy(own, other, truth, "late")
        assert (found.own, found.exported) == (0.75, 0.5)
    words = {"label": np.array(["a", "b"], dtype=object)}
    assert accuracy(words, words, np.array(["a", "a"], dtype=object), "t").own == 0.5


def test_the_error_is_of_numbers_and_a_truth_in_words_is_refused() -> None:
    own, other = {"value": np.array([1.0, 2.0])}, {"value": np.array([1.0, 4.0])}
    found = accuracy(own, other, np.array([1.0, 3.0]), "t")
    assert (found.measure, found.own, found.exported) == ("mean absolute error", 0.5, 0.5)
    for truth in (np.array(["a", "b"], dtype=object), np.array([1.0, np.nan])):
        with pytest.raises(Invalid, match="'t' cannot be compared"):
            accuracy(own, other, truth, "t")


def test_each_limit_is_a_line_and_decides_by_itself() -> None:
    same = compare(answers([0], [0.1]), answers([0], [0.1]), "x", 0.01)
    timed = Latency(10, 1.0, 2.0)
    assert [verdict.kept for verdict in judge(Budget(), 5_000_000, timed, same)] == [True]
    found = judge(Budget(max_mb=4.9, max_ms=1.9), 5_000_000, timed, same)
    assert [(verdict.found, verdict.kept) for verdict in found] == [(1.0, True), (5.0, False), (2.0, False)]
    assert all(verdict.kept for verdict in judge(Budget(max_mb=5.0, max_ms=2.0), 5_000_000, timed, same))


def test_the_time_is_that_of_calls_with_one_row_in_turn() -> None:
    asked: list[Any] = []
    found = latency(asked.append, [{"x": 1}, {"x": 2}])
    assert found.calls == 1_000
    assert asked[-2:] in ([[{"x": 1}], [{"x": 2}]], [[{"x": 2}], [{"x": 1}]])
    assert 0 <= found.p50_ms <= found.p99_ms
