from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopwright.core import Corrupt, Invalid
from loopwright.stats import ColumnKind, ColumnSketch, TableSketch

number = st.one_of(st.none(), st.floats(allow_infinity=False, width=32))
columns = st.fixed_dictionaries(
    {"x": st.lists(number, max_size=60), "c": st.lists(st.one_of(st.none(), st.text(max_size=5)), max_size=60)}
)


def table(data: dict[str, list[object]]) -> TableSketch:
    made = TableSketch()
    made.update("x", data["x"], kind="numeric")
    made.update("c", data["c"], kind="categorical")
    return made


@given(columns)
def test_counts_and_nulls_add_up(data: dict[str, list[object]]) -> None:
    made = table(data)

    missing = sum(value is None or value != value for value in data["x"])
    assert made.columns["x"].nulls == missing
    assert made.columns["x"].count == len(data["x"]) - missing
    assert made.columns["c"].count + made.columns["c"].nulls == len(data["c"])
    assert made.rows == max(len(data["x"]), len(data["c"]))


@given(columns, columns)
def test_merging_two_tables_is_as_sketching_them_together(
    a: dict[str, list[object]], b: dict[str, list[object]]
) -> None:
    merged = table(a).merge(table(b))
    whole = table({name: a[name] + b[name] for name in a})

    for name in ("x", "c"):
        one, other = merged.columns[name], whole.columns[name]
        assert (one.count, one.nulls, one.distinct, one.top()) == (
            other.count,
            other.nulls,
            other.distinct,
            other.top(),
        )
        np.testing.assert_allclose(
            [one.mean, one.min, one.max], [other.mean, other.min, other.max], rtol=1e-9, atol=1e-9
        )
    np.testing.assert_array_equal(merged.columns["x"].quantiles([0.1, 0.5]), whole.columns["x"].quantiles([0.1, 0.5]))


@given(columns)
def test_bytes_bring_back_the_same_sketch(data: dict[str, list[object]]) -> None:
    made = table(data)

    assert TableSketch.from_bytes(made.to_bytes()).to_bytes() == made.to_bytes()


def test_a_sketch_that_was_read_back_goes_on_as_the_original_would() -> None:
    random = np.random.default_rng(0)
    first, second = random.normal(size=20_000), random.normal(size=20_000)
    straight, broken = TableSketch(), TableSketch()
    straight.fold({"x": first})
    broken.fold({"x": first})

    broken = TableSketch.from_bytes(broken.to_bytes())
    straight.fold({"x": second})
    broken.fold({"x": second})

    assert straight.to_bytes() == broken.to_bytes()


def test_the_moments_are_those_of_numpy() -> None:
    data = np.random.default_rng(0).gamma(2.0, 3.0, 250_000) + 1e6
    column = ColumnSketch()
    column.update(data)

    assert column.mean == pytest.approx(data.mean(), rel=1e-12)
    assert column.std == pytest.approx(data.std(ddof=1), rel=1e-9)
    assert list(column.quantiles([0, 1])) == [data.min(), data.max()]


def test_a_histogram_holds_every_value_between_its_edges() -> None:
    data = np.random.default_rng(0).integers(0, 10, 10_000).astype(float)
    column = ColumnSketch()
    column.update(data)

    edges = [0, 3, 6, 9]
    expected = [(data <= 3).sum(), ((data > 3) & (data <= 6)).sum(), (data > 6).sum()]
    np.testing.assert_allclose(column.histogram(edges), expected, atol=len(data) * column.rank_error * 2)
    assert column.histogram(edges).sum() == pytest.approx(10_000)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2, None], ColumnKind.NUMERIC),
        (["a", None], ColumnKind.CATEGORICAL),
        ([None, True], ColumnKind.CATEGORICAL),
        (np.array([True, False]), ColumnKind.CATEGORICAL),
        (np.array(["2026-01-01"], dtype="datetime64[D]"), ColumnKind.NUMERIC),
        (np.array(["x"], dtype=object), ColumnKind.CATEGORICAL),
    ],
)
def test_the_kind_of_a_column_is_found_from_its_values(values: object, kind: ColumnKind) -> None:
    made = TableSketch()
    made.update("x", values)  # type: ignore[arg-type]  # a mixture of sequences on purpose

    assert made.columns["x"].kind is kind


def test_truth_values_are_counted_as_true_and_false() -> None:
    column = ColumnSketch("categorical")
    column.update([True, False, True, None])

    assert column.top() == [("true", 2), ("false", 1)]
    assert column.nulls == 1


def test_infinite_values_have_ranks_but_no_part_in_the_mean() -> None:
    column = ColumnSketch()
    column.update(np.array([1.0, 3.0, np.inf, -np.inf]))

    assert (column.mean, column.min, column.max, column.count) == (2.0, 1.0, 3.0, 4)
    assert list(column.ranks([2.0])) == [0.5]


def test_text_in_a_numeric_column_is_refused_with_its_name() -> None:
    made = TableSketch()
    made.update("age", [1.0])

    with pytest.raises(Invalid, match="column 'age'"):
        made.update("age", ["old"])


def test_columns_of_different_kinds_do_not_merge() -> None:
    with pytest.raises(Invalid, match="categorical"):
        ColumnSketch("categorical").merge(ColumnSketch("numeric"))


def test_long_texts_are_cut_but_stay_different() -> None:
    column = ColumnSketch("categorical")
    column.update(["y" * 10_000 + "1", "y" * 10_000 + "2"])

    assert len(column.top()) == 2
    assert all(len(value) < 300 for value, _ in column.top())


@given(st.binary(max_size=80))
def test_bytes_that_are_no_sketch_are_called_corrupt(data: bytes) -> None:
    for start in (b"", b"LWSK1"):
        with pytest.raises(Corrupt):
            TableSketch.from_bytes(start + data)


def test_a_flipped_byte_of_a_sketch_is_noticed() -> None:
    made = TableSketch()
    made.fold({"x": np.arange(100.0), "c": ["a", "b"] * 50})
    data, unnoticed = made.to_bytes(), []
    assert not _is_refused(data)
    for place in range(len(data)):
        changed = bytes(data[:place]) + bytes([data[place] ^ 0x55]) + bytes(data[place + 1 :])
        if not _is_refused(changed):
            unnoticed.append(place)
    assert unnoticed == []


def _is_refused(data: bytes) -> bool:
    try:
        TableSketch.from_bytes(data)
    except Corrupt:
        return True
    return False
