"""Search spaces: made, refused, read from JSON."""

from __future__ import annotations

from typing import Any

import pytest

from loopwright.core import Invalid
from loopwright.train import Choice, Integer, Uniform, choice, integer, parse_space, uniform


def test_spaces_are_read_from_json() -> None:
    text = (
        '{"lr": {"uniform": [0.01, 1], "log": true}, "n": {"integer": [2, 9], "step": 2}, "k": {"choice": ["a", null]}}'
    )
    assert parse_space(text) == {"lr": Uniform(0.01, 1.0, True), "n": Integer(2, 9, False, 2), "k": Choice(("a", None))}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"a": 1}',
        '{"a": {"uniform": [1]}}',
        '{"a": {"uniform": ["x", 2]}}',
        '{"a": {"uniform": [1, 2], "lgo": true}}',
        '{"a": {"uniform": [2, 1]}}',
        '{"a": {"integer": [1.5, 2]}}',
        '{"a": {"integer": [1, 5], "step": "x"}}',
        '{"a": {"choice": []}}',
        '{"a": {"choice": [[1]]}}',
        '{"a": {"normal": [0, 1]}}',
    ],
)
def test_what_is_no_space_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        parse_space(text)


@pytest.mark.parametrize(
    "make",
    [
        lambda: uniform(1, 1),
        lambda: uniform(2, 1),
        lambda: uniform(0, 1, log=True),
        lambda: uniform(float("nan"), 1),
        lambda: integer(2, 1),
        lambda: integer(0, 4, log=True),
        lambda: integer(1, 4, step=0),
        lambda: integer(1, 4, log=True, step=2),
        lambda: choice([]),
        lambda: choice([object()]),  # type: ignore[list-item]  # the mistake
    ],
)
def test_spaces_without_a_value_are_refused(make: Any) -> None:
    with pytest.raises(Invalid):
        make()


def test_a_single_whole_number_is_a_space() -> None:
    assert integer(3, 3) == Integer(3, 3)
