"""Parallel coordinates: where lines go, what is left out."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from loopwright.ui.parallel import parallel

RUNS = [("1", "a"), ("2", "b"), ("3", "c")]


def test_each_run_is_a_line_through_all_axes() -> None:
    drawn = parallel(RUNS, {"depth": ["2", "4", "6"], "auc": [0.5, 0.75, 1.0]}, "auc")
    assert [line.shade for line in drawn.lines] == [0.0, 0.5, 1.0]
    assert all(len(line.ys) == 2 for line in drawn.lines)
    assert drawn.lines[0].ys[0] > drawn.lines[1].ys[0] > drawn.lines[2].ys[0]
    assert drawn.lines[1].told == "b: depth 4, auc 0.75"


def test_a_run_without_a_value_or_with_nan_is_left_out_and_counted() -> None:
    drawn = parallel(RUNS, {"x": ["1", None, "3"], "y": [1.0, 2.0, float("nan")]}, "y")
    assert ([line.name for line in drawn.lines], drawn.left_out) == (["a"], 2)


def test_words_are_places_and_decades_are_told_apart() -> None:
    drawn = parallel(RUNS, {"model": ["x", "y", "x"], "lr": ["0.0001", "0.01", "1"], "s": [1.0, 2.0, 3.0]}, "s")
    assert drawn.lines[0].ys[0] == drawn.lines[2].ys[0] != drawn.lines[1].ys[0]
    gaps = [a - b for a, b in pairwise(line.ys[1] for line in drawn.lines)]
    assert abs(gaps[0] - gaps[1]) < 0.2


value = st.none() | st.floats() | st.text(max_size=5)


@given(st.lists(st.tuples(value, value), max_size=20))
def test_any_values_give_a_picture_within_its_frame(values: list[tuple[object, object]]) -> None:
    runs = [(str(at), f"run {at}") for at in range(len(values))]
    axes = {"a": [pair[0] for pair in values], "b": [pair[1] for pair in values]}
    drawn = parallel(runs, axes, "b")  # type: ignore[arg-type]
    assert len(drawn.lines) + drawn.left_out == len(runs)
    assert all(drawn.top <= y <= drawn.height for line in drawn.lines for y in line.ys)
    assert all(0 <= line.shade <= 1 for line in drawn.lines)
