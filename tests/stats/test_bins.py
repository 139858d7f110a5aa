from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopwright.core import Corrupt, Invalid
from loopwright.stats import BinnedColumn, BinnedTable, ColumnSketch, TableSketch

RANDOM = np.random.default_rng(11)
PROFILE = TableSketch()
PROFILE.fold(
    {
        "x": RANDOM.normal(size=5_000),
        "hour": RANDOM.integers(0, 24, 5_000).astype(float),
        "c": RANDOM.choice(["a", "b", "c"], 5_000).tolist(),
    }
)
number = st.one_of(st.none(), st.floats(allow_infinity=False))
rows = st.lists(st.tuples(number, st.integers(-3, 30), st.sampled_from(["a", "b", "z", None])), max_size=50)


def window(data: list[tuple[object, object, object]]) -> BinnedTable:
    made = BinnedTable.like(PROFILE)
    made.fold({name: [row[place] for row in data] for place, name in enumerate(("x", "hour", "c"))})
    return made


@pytest.mark.slow
@given(rows, rows)
def test_two_windows_add_up_to_one_exactly(a: list[tuple[object, ...]], b: list[tuple[object, ...]]) -> None:
    merged, whole = window(a).merge(window(b)), window(a + b)  # type: ignore[arg-type]  # rows of three

    assert merged.rows == whole.rows
    for name, column in whole.columns.items():
        np.testing.assert_array_equal(merged.columns[name].counts, column.counts)
        assert merged.columns[name].nulls == column.nulls


@given(rows)
def test_each_row_is_counted_in_one_bin_or_as_null(data: list[tuple[object, ...]]) -> None:
    made = window(data)  # type: ignore[arg-type]  # rows of three

    for column in made.columns.values():
        assert column.count + column.nulls == len(data)


@given(rows)
def test_bytes_bring_back_the_same_window(data: list[tuple[object, ...]]) -> None:
    made = window(data)  # type: ignore[arg-type]  # rows of three

    assert BinnedTable.from_bytes(made.to_bytes()).to_bytes() == made.to_bytes()


def test_ranks_at_the_edges_are_exact() -> None:
    column = BinnedColumn.like(PROFILE.columns["x"])
    data = np.random.default_rng(1).normal(0.4, 2.0, 3_000)
    column.update(data)

    single = data.astype(np.float32)
    exact = [(single <= edge).mean() for edge in column.edges]
    np.testing.assert_allclose(column.ranks(), exact, rtol=0, atol=1e-12)


def test_a_value_served_in_single_precision_falls_where_it_was_trained() -> None:
    tenths = np.arange(1, 40) / 10
    reference = ColumnSketch()
    reference.update(np.repeat(tenths, 50))
    double, single = BinnedColumn.like(reference), BinnedColumn.like(reference)
    double.update(tenths)
    single.update(tenths.astype(np.float32))

    np.testing.assert_array_equal(double.counts, single.counts)


def test_a_category_that_training_did_not_see_is_counted_with_the_others() -> None:
    column = BinnedColumn.like(PROFILE.columns["c"])
    column.update(["a", "new", "newer"])

    assert column.counts[column.values.index("a")] == 1
    assert column.counts[-1] == 2


def test_windows_of_different_profiles_do_not_merge() -> None:
    other = TableSketch()
    other.fold({"x": RANDOM.normal(5, 1, 500), "hour": [1.0], "c": ["a"]})

    with pytest.raises(Invalid, match="different bins"):
        BinnedTable.like(PROFILE).merge(BinnedTable.like(other))


def test_a_window_costs_well_under_a_microsecond_a_value() -> None:
    import time

    profile = TableSketch()
    profile.fold({str(place): RANDOM.normal(size=2_000) for place in range(20)})
    made = BinnedTable.like(profile)
    data = {str(place): RANDOM.normal(size=1_000) for place in range(20)}
    made.fold(data)

    best = min(_seconds(lambda: made.fold(data), time.perf_counter) for _ in range(5))

    assert best / 20_000 < 0.5e-6


def _seconds(work: object, clock: object) -> float:
    started = clock()  # type: ignore[operator]  # a clock is a function
    work()  # type: ignore[operator]  # and so is the work
    return float(clock() - started)  # type: ignore[operator]  # as above


@given(st.binary(max_size=60))
def test_bytes_that_are_no_window_are_called_corrupt(data: bytes) -> None:
    for start in (b"", b"LWBN1"):
        with pytest.raises(Corrupt):
            BinnedTable.from_bytes(start + data)
