from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.examples import examples

from loopwright.stats import QuantileSketch

values = st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=400)


def sketch(data: object, k: int = 32, parts: int = 1) -> QuantileSketch:
    made = QuantileSketch(k)
    for part in np.array_split(np.asarray(data, dtype=np.float32), parts):
        made.update(part)
    return made


def worst_gap(made: QuantileSketch, data: np.ndarray) -> float:
    ordered = np.sort(data.astype(np.float32))
    exact = np.searchsorted(ordered, ordered, side="right") / len(ordered)
    return float(np.abs(made.ranks(ordered) - exact).max())


@given(values)
def test_a_sketch_of_fewer_values_than_k_is_exact(data: list[float]) -> None:
    made = sketch(data, k=512)

    assert made.rank_error == 0.0
    assert worst_gap(made, np.array(data)) == 0.0
    assert made.quantiles(np.array([0.5]))[0] == np.sort(np.float32(data))[(len(data) - 1) // 2]


@given(values, st.integers(1, 7))
def test_the_kept_values_stand_for_all_that_were_seen(data: list[float], parts: int) -> None:
    made = sketch(data, parts=parts)

    assert sum(len(level) << depth for depth, level in enumerate(made.levels)) == made.n == len(data)
    assert all(len(level) < made.k for level in made.levels)


@given(values, values)
def test_merging_is_commutative_to_the_bit(left: list[float], right: list[float]) -> None:
    a, b = sketch(left), sketch(right)

    ab, ba = a.merge(b), b.merge(a)

    assert ab.compactions == ba.compactions
    assert all(np.array_equal(np.sort(x), np.sort(y)) for x, y in zip(ab.levels, ba.levels, strict=True))


@given(values, values, values)
@settings(max_examples=examples(50))
def test_merging_is_associative_within_the_error(x: list[float], y: list[float], z: list[float]) -> None:
    a, b, c = sketch(x), sketch(y), sketch(z)

    one, other = a.merge(b).merge(c), a.merge(b.merge(c))

    places = np.linspace(-1e6, 1e6, 50)
    certain = [sum(n * 2**level for level, n in enumerate(m.compactions)) / m.n for m in (one, other)]
    assert np.abs(one.ranks(places) - other.ranks(places)).max() <= sum(certain) + 1e-12


@pytest.mark.parametrize("draw", ["normal", "ties", "sorted", "heavy"])
def test_ranks_of_a_million_values_are_within_the_stated_error(draw: str) -> None:
    random = np.random.default_rng(5)
    data = {
        "normal": random.normal(size=1_000_000),
        "ties": random.integers(0, 12, 1_000_000).astype(float),
        "sorted": np.sort(random.random(1_000_000)),
        "heavy": random.pareto(1.0, 1_000_000),
    }[draw]

    made = sketch(data, k=512, parts=37)

    assert made.rank_error < 0.006
    assert worst_gap(made, data) <= made.rank_error


def test_memory_does_not_grow_with_the_data() -> None:
    random = np.random.default_rng(0)
    made = QuantileSketch()
    for _ in range(40):
        made.update(random.random(100_000))

    assert sum(len(level) for level in made.levels) < 512 * 16


def test_the_same_data_give_the_same_sketch() -> None:
    data = np.random.default_rng(3).random(50_000)

    one, other = sketch(data, k=512, parts=9), sketch(data, k=512, parts=9)

    assert all(np.array_equal(x, y) for x, y in zip(one.levels, other.levels, strict=True))


def test_sketches_of_different_k_do_not_merge() -> None:
    with pytest.raises(ValueError, match="k=32 and k=64"):
        sketch([1.0]).merge(sketch([1.0], k=64))
