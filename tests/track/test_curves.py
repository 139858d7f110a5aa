"""A curve says of each bucket what a look at all its points would say, and misses no spike."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.examples import examples
from tests.track.points import Point, columns, points_of

from loopwright.core import Invalid, NotFound, Scope
from loopwright.store import Stores
from loopwright.track import Curve, Delivery, RunService, columns_of, deliver
from loopwright.track.values import from_bits, to_bits

QUIET = settings(max_examples=examples(40), deadline=None, suppress_health_check=list(HealthCheck))
far = st.sampled_from([2**53 + 1, 2**53 + 2, 2**63 - 1, -(2**63), -1, 0])
any_points = st.lists(st.tuples(st.integers(-60, 60) | far, st.integers(0, 2), st.floats().map(to_bits)), max_size=60)


@pytest.fixture
def runs(stores: Stores) -> RunService:
    return RunService(stores, Scope())


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks and parts of a few points, so that summaries are used where there are hardly any."""
    for name, size in {
        "metrics.BLOCK_FROM": 3,
        "blocks.BLOCK_POINTS": 16,
        "blocks.PART_POINTS": 4,
        "compaction.BLOCK_POINTS": 16,
        "compaction._SMALL": 8,
        "curves._EXACT_POINTS": 8,
        "curves.PART_POINTS": 1,
    }.items():
        monkeypatch.setattr(f"loopwright.track.{name}", size)


def put(runs: RunService, run: str, points: list[Point], segment: int = 0) -> None:
    with runs.stores.db.begin() as tx:
        deliver(runs.stores.db, tx, "default", Delivery(run, segment, 0, 1, {run: {"m": columns(points)}}))


def buckets_of(curve: Curve) -> list[dict[str, Any]]:
    names = ("first_steps", "steps", "times_us", "values", "lows", "low_steps", "highs", "high_steps", "counts", "nans")
    rows = zip(*(getattr(curve, name) for name in names), strict=True)
    return [dict(zip(names, row, strict=True)) for row in rows]


def check_exact(points: list[Point], curve: Curve) -> None:
    """Each bucket against a look at all points of its steps, which no other bucket shares."""
    left = list(points)
    for bucket in buckets_of(curve):
        inside = [point for point in points if bucket["first_steps"] <= point[0] <= bucket["steps"]]
        left = [point for point in left if point not in inside]
        check_bucket(inside, bucket)
        assert (bucket["first_steps"], bucket["steps"]) == (inside[0][0], inside[-1][0])
    assert left == []


def check_bucket(inside: list[Point], bucket: dict[str, Any]) -> None:
    values = [(from_bits(bits), step) for step, _, bits in inside]
    numbers = [(value, step) for value, step in values if not math.isnan(value)]
    assert bucket["counts"] == len(inside)
    assert bucket["nans"] == len(inside) - len(numbers)
    assert (bucket["steps"], bucket["times_us"], to_bits(float(bucket["values"]))) == inside[-1]
    if not numbers:
        assert (bucket["lows"], bucket["highs"]) == ("NaN", "NaN")
        return
    low, high = min(value for value, _ in numbers), max(value for value, _ in numbers)
    assert (float(bucket["lows"]), float(bucket["highs"])) == (low, high)
    assert bucket["low_steps"] == min(step for value, step in numbers if value == low)
    assert bucket["high_steps"] == min(step for value, step in numbers if value == high)


def check_none_missing(points: list[Point], curve: Curve) -> None:
    """What holds even where blocks overlap: every point is within a bucket, and what a bucket names is a point."""
    buckets = buckets_of(curve)
    known = {(step, from_bits(bits)) for step, _, bits in points}
    for bucket in buckets:
        if bucket["nans"] < bucket["counts"]:
            assert (bucket["low_steps"], float(bucket["lows"])) in known
            assert (bucket["high_steps"], float(bucket["highs"])) in known
    for step, _, bits in points:
        value = from_bits(bits)
        at = [bucket for bucket in buckets if bucket["first_steps"] <= step <= bucket["steps"]]
        if math.isnan(value):
            assert any(bucket["nans"] for bucket in at)
        else:
            assert any(float(bucket["lows"]) <= value <= float(bucket["highs"]) for bucket in at)
    if points:
        last = max(points)
        assert last in [(b["steps"], b["times_us"], to_bits(float(b["values"]))) for b in buckets]


@pytest.mark.slow
@QUIET
@given(points=any_points, buckets=st.integers(1, 20), first=st.integers(-70, 70) | far, last=st.integers(-70, 70) | far)
def test_few_points_are_grouped_exactly(
    runs: RunService, points: list[Point], buckets: int, first: int, last: int
) -> None:
    run = runs.start().id
    put(runs, run, points)
    for low, high in ((None, None), (first, last)):
        [curve] = runs.curve(run, ["m"], buckets, low, high)
        inside = sorted({p for p in points if (low is None or low <= p[0]) and (high is None or p[0] <= high)})
        if len(inside) > buckets:
            assert len(curve.steps) <= buckets
            check_exact(inside, curve)
        else:
            assert list(zip(curve.steps, curve.times_us, map(to_bits, map(float, curve.values)), strict=True)) == inside
            assert curve.lows == curve.values == curve.highs


@pytest.mark.slow
@QUIET
@given(
    values=st.lists(st.floats(), min_size=17, max_size=200),
    gaps=st.lists(st.integers(0, 3), min_size=200, max_size=200),
    begin=st.sampled_from([-(2**63), -50, 2**53]),
    buckets=st.integers(1, 12),
    part=st.tuples(st.integers(0, 200), st.integers(0, 200)),
)
@pytest.mark.usefixtures("small")
def test_summaries_of_points_in_order_are_exact_per_bucket(
    runs: RunService, values: list[float], gaps: list[int], begin: int, buckets: int, part: tuple[int, int]
) -> None:
    run = runs.start().id
    steps = [begin + sum(gaps[: number + 1]) for number in range(len(values))]
    points = [(step, number, to_bits(value)) for number, (step, value) in enumerate(zip(steps, values, strict=True))]
    put(runs, run, points)
    [whole] = runs.curve(run, ["m"], buckets)
    assert len(whole.steps) <= buckets
    check_exact(points, whole)
    first, last = sorted(steps[number % len(steps)] for number in part)
    [closer] = runs.curve(run, ["m"], buckets, first, last)
    inside = [point for point in points if first <= point[0] <= last]
    if len(inside) > buckets:
        check_exact(inside, closer)
    check_none_missing(inside, closer)


@pytest.mark.slow
@QUIET
@example(batches=[[(step, 0, 0) for step in (-1, 0, 1, 2**53 + 1, 2**63 - 1)] * 2, [(-2, 0, 0)]], buckets=1)
@given(
    batches=st.lists(st.lists(any_points.map(lambda some: some[:20]), max_size=1).map(lambda a: a[0] if a else [])),
    buckets=st.integers(1, 12),
)
@pytest.mark.usefixtures("small")
def test_no_spike_is_missed_where_steps_come_in_any_order(
    runs: RunService, batches: list[list[Point]], buckets: int
) -> None:
    run = runs.start().id
    for number, batch in enumerate(batches):
        put(runs, run, batch, number)
    points = sorted({point for batch in batches for point in batch})
    [curve] = runs.curve(run, ["m"], buckets)
    check_none_missing(points, curve)
    assert sum(curve.counts) >= len(points)


def test_one_spike_in_many_points_is_drawn_where_it_is(runs: RunService) -> None:
    run, many = runs.start().id, 600_000
    values = np.sin(np.arange(many) / 1000)
    values[123_457], values[400_001], values[400_002] = 1e9, -1e9, np.nan
    with runs.stores.db.begin() as tx:
        given_columns = columns_of(np.arange(many), np.arange(many), values)
        deliver(runs.stores.db, tx, "default", Delivery("s", 0, 0, many, {run: {"m": given_columns}}))
    [curve] = runs.curve(run, ["m"])
    assert 900 <= len(curve.steps) <= 1000
    assert (curve.high_steps[curve.highs.index(1e9)], curve.low_steps[curve.lows.index(-1e9)]) == (123_457, 400_001)
    assert (sum(curve.nans), sum(curve.counts)) == (1, many)
    check_sampled(values, curve)
    [closer] = runs.curve(run, ["m"], 1000, 123_400, 123_500)
    assert (len(closer.steps), closer.steps[57], closer.values[57]) == (101, 123_457, 1e9)


def check_sampled(values: np.ndarray[Any, np.dtype[np.float64]], curve: Curve) -> None:
    for number in range(0, len(curve.steps), 37):
        inside = values[curve.first_steps[number] : curve.steps[number] + 1]
        assert curve.lows[number] == np.nanmin(inside)
        assert curve.highs[number] == np.nanmax(inside)
        assert curve.values[number] == inside[-1]


def test_metrics_that_a_run_has_not_give_empty_curves_in_their_place(runs: RunService) -> None:
    run = runs.start().id
    runs.log_metrics(run, {"b": 1.0, "a": 2.0})
    found = runs.curve(run, ["a", "never", "b"])
    assert [(curve.key, curve.values) for curve in found] == [("a", [2.0]), ("never", []), ("b", [1.0])]
    with pytest.raises(NotFound, match="there is no run"):
        runs.curve("0" * 32, ["a"])


@pytest.mark.parametrize("buckets", [0, -1, 10_001])
def test_a_number_of_buckets_that_makes_no_sense_is_refused(runs: RunService, buckets: int) -> None:
    with pytest.raises(Invalid, match="buckets cannot be given"):
        runs.curve(runs.start().id, ["a"], buckets)


def test_a_point_that_came_twice_in_pieces_is_read_once(runs: RunService) -> None:
    run = runs.start().id
    points = [(step, 0, to_bits(float(step))) for step in range(400)]
    for number in range(3):
        put(runs, run, points, number)
    assert points_of(runs.history(run, "m")) == points
    assert runs.curve(run, ["m"])[0].counts == [1] * 400
