"""Values are checked one by one, and a refusal names the input and the row."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopwright.core import DType, Invalid
from loopwright.models import Input, Signature
from loopwright.serve.intake import Intake, Projection

MIXED = Signature(
    (
        Input("f", DType.FLOAT64),
        Input("gap", DType.FLOAT32, nullable=True),
        Input("n", DType.INT64),
        Input("b", DType.BOOL),
        Input("s", DType.STRING),
    ),
    (),
)
values = {
    "f": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**6), 10**6),
    "gap": st.none() | st.floats(-1e6, 1e6),
    "n": st.integers(-(2**63), 2**63 - 1),
    "b": st.booleans(),
    "s": st.text(),
}
rows = st.lists(st.fixed_dictionaries(values), min_size=1, max_size=8)


@given(rows, st.permutations(list(values)))
def test_rows_come_out_as_they_went_in_whatever_the_order_of_inputs(
    given_: list[dict[str, Any]], order: list[str]
) -> None:
    intake = Intake([MIXED])
    found = intake.rows([(name, [row[name] for row in given_]) for name in order])
    assert found == [[row[name] for name in intake.names] for row in given_]


WRONG = [
    ("f", "1.5", "takes a number, not '1.5'"),
    ("f", True, "takes a number, not True"),
    ("f", None, "is missing"),
    ("n", 1.5, "takes a whole number, not 1.5"),
    ("n", 2**63, "9223372036854775808 does not fit 64 bits"),
    pytest.param("n", 10**5000, "a whole number of about 5001 digits does not fit 64 bits", id="n-5001-digits"),
    ("n", float("inf"), "takes a whole number"),
    ("n", True, "takes a whole number, not True"),
    ("b", 2, "takes true or false, not 2"),
    ("b", "true", "takes true or false"),
    ("s", 5, "takes a string, not 5"),
    ("s", ["a"], "takes a string"),
    ("gap", {}, "takes a number"),
]


@pytest.mark.parametrize(("name", "value", "message"), WRONG)
@pytest.mark.parametrize("count", [1, 3])
def test_a_wrong_value_is_refused_with_its_input_and_row(name: str, value: Any, message: str, count: int) -> None:
    good = {"f": 1.0, "gap": None, "n": 1, "b": True, "s": "x"}
    columns = [(key, [good[key]] * (count - 1) + [value if key == name else good[key]]) for key in good]
    with pytest.raises(Invalid, match=message) as caught:
        Intake([MIXED]).rows(columns)
    assert f"input {name!r}, row {count - 1}" in str(caught.value)


def test_whole_floats_and_zero_or_one_pass_for_their_types() -> None:
    intake = Intake([MIXED])
    [row] = intake.rows([("f", [1]), ("gap", [2]), ("n", [3.0]), ("b", [1]), ("s", [""])])
    assert row == [1, 2, 3, True, ""]
    assert type(row[2]) is int
    assert row[3] is True


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ([("f", [1.0])], "lacks the input\\(s\\) gap, n, b, s"),
        ([("f", [1.0]), ("colour", ["red"])], "no input 'colour'"),
        ([("f", [1.0]), ("f", [2.0])], "in the request twice"),
        ([("f", [1.0, 2.0]), ("gap", [1.0])], "has 1 values, where 'f' has 2"),
    ],
)
def test_columns_that_do_not_fit_are_refused(columns: list[tuple[str, list[Any]]], message: str) -> None:
    with pytest.raises(Invalid, match=message):
        Intake([MIXED]).rows(columns)


def test_a_matrix_is_cut_into_rows_and_refused_by_row() -> None:
    intake = Intake([Signature((Input("a", DType.FLOAT64), Input("b", DType.INT64)), ())])
    assert intake.rows_of_matrix("x", [1.5, 2, 3.5, 4.0], 2) == [[1.5, 2], [3.5, 4]]
    with pytest.raises(Invalid, match="input 'b', row 1"):
        intake.rows_of_matrix("x", [1.5, 2, 3.5, 4.5], 2)
    with pytest.raises(Invalid, match="has 3 values a row; the model takes 2"):
        intake.rows_of_matrix("x", [1.0, 2, 3], 3)
    with pytest.raises(Invalid, match="cannot hold all inputs"):
        Intake([MIXED]).rows_of_matrix("x", [1.0] * 5, 5)


def test_variants_with_other_inputs_each_pick_their_own() -> None:
    old = Signature((Input("a", DType.INT64), Input("gone", DType.FLOAT64)), ())
    new = Signature((Input("fresh", DType.STRING), Input("a", DType.FLOAT64, nullable=True)), ())
    intake = Intake([old, new])
    assert intake.names == ("a", "gone", "fresh")
    everything = intake.rows([("a", [3]), ("fresh", ["x"]), ("gone", [0.5])])
    assert Projection(intake, old).project(everything) == [[3, 0.5]]
    assert Projection(intake, new).project(everything) == [["x", 3]]
    without = intake.rows([("a", [3]), ("gone", [0.5])])
    assert Projection(intake, old).project(without) == [[3, 0.5]]
    with pytest.raises(Invalid, match="'fresh', row 0: is not in the request"):
        Projection(intake, new).project(without)
    halves = intake.rows([("a", [1.5]), ("gone", [0.5]), ("fresh", ["x"])])
    with pytest.raises(Invalid, match="'a', row 0: takes a whole number"):
        Projection(intake, old).project(halves)
