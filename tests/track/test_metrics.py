"""Metric series: every float comes back, the last value is the right one, a delivery repeated changes nothing."""

from __future__ import annotations

import math
import struct
import threading
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loopwright.core import Invalid, Scope
from loopwright.store import Stores
from loopwright.track import MetricPoint, RunService
from loopwright.track.values import from_bits, from_micros, to_bits, to_micros

START = datetime(2026, 1, 1, tzinfo=UTC)
any_float = st.floats(allow_nan=True, allow_infinity=True)


@pytest.fixture
def runs(stores: Stores) -> RunService:
    return RunService(stores, Scope())


@given(any_float)
def test_every_float_comes_back_bit_by_bit(value: float) -> None:
    back = from_bits(to_bits(value))
    assert math.isnan(back) if math.isnan(value) else struct.pack("<d", back) == struct.pack("<d", value)
    assert -(2**63) <= to_bits(value) < 2**63


@pytest.mark.slow
@given(any_float, any_float)
def test_bits_keep_the_order_and_nan_is_above_all(a: float, b: float) -> None:
    if math.isnan(a) or math.isnan(b):
        assert (to_bits(a) < to_bits(b)) == (not math.isnan(a) and math.isnan(b))
    elif a != b:
        assert (to_bits(a) < to_bits(b)) == (a < b)


@given(st.datetimes(timezones=st.just(UTC)))
def test_times_keep_their_microsecond(at: datetime) -> None:
    assert from_micros(to_micros(at)) == at


def points(key: str = "m") -> st.SearchStrategy[MetricPoint]:
    return st.builds(
        MetricPoint,
        key=st.just(key),
        value=any_float,
        step=st.one_of(st.integers(-3, 3), st.sampled_from([2**53 + 1, 2**63 - 1, -(2**63)])),
        at=st.integers(0, 3).map(lambda seconds: START + timedelta(seconds=seconds)),
    )


def order_of(point: MetricPoint) -> tuple[int, int, int]:
    assert point.at is not None
    return point.step, to_micros(point.at), to_bits(float(point.value))


@pytest.mark.slow
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(batches=st.lists(st.lists(points(), max_size=6), max_size=4), repeated=st.booleans())
def test_history_and_last_value_are_those_of_a_plain_model(
    runs: RunService, batches: list[list[MetricPoint]], repeated: bool
) -> None:
    run = runs.start().id
    for batch in batches * (2 if repeated else 1):
        runs.log_points(run, batch)
    expected = sorted({order_of(point) for batch in batches for point in batch})
    history = runs.history(run, "m")
    got = list(zip(history.steps, history.times_us, map(to_bits, history.floats()), strict=True))
    assert got == expected
    found = runs.get(run)
    if not expected:
        assert (found.metrics, found.not_finite) == ({}, {})
        return
    last = from_bits(expected[-1][2])
    if math.isfinite(last):
        assert found.metrics == {"m": last}
    else:
        assert (found.metrics, float(found.not_finite["m"])) == ({}, pytest.approx(last, nan_ok=True))


def test_nan_is_unequal_to_all_and_infinity_is_compared(runs: RunService) -> None:
    nan, inf = runs.start("nan").id, runs.start("inf").id
    runs.log_metrics(nan, {"m": "NaN"})
    runs.log_metrics(inf, {"m": "Infinity"})
    assert nan in [run.id for run in runs.search("metrics.m != 0")]
    for operator in ("<", "<=", ">", ">=", "="):
        assert nan not in [run.id for run in runs.search(f"metrics.m {operator} 0")]
    assert [run.id for run in runs.search("metrics.m > 1e300")] == [inf]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("point", "problem"),
    [
        (MetricPoint("", 1.0), "cannot name a metric"),
        (MetricPoint("m", 1.0, step=2**63), "not a 64-bit whole number"),
        (MetricPoint("m", 1.0, at=datetime(2026, 1, 1)), "has no zone"),  # noqa: DTZ001 - the point of the test
        (MetricPoint("m", "high"), "no number"),  # type: ignore[arg-type]  # what a careless caller gives
    ],
)
def test_a_batch_with_a_bad_point_stores_nothing(runs: RunService, point: MetricPoint, problem: str) -> None:
    run = runs.start().id
    with pytest.raises(Invalid, match=problem):
        runs.log_points(run, [MetricPoint("fine", 1.0), point])
    assert runs.get(run).metrics == {}


def test_a_thousand_keys_in_one_batch(runs: RunService) -> None:
    run = runs.start().id
    runs.log_points(run, [MetricPoint(f"key {number}", float(number)) for number in range(1200)])
    runs.log_points(run, [MetricPoint(f"key {number}", number + 0.5, step=1) for number in range(1200)])
    assert runs.get(run).metrics == {f"key {number}": number + 0.5 for number in range(1200)}


def test_a_key_that_no_run_has_gives_an_empty_history(runs: RunService) -> None:
    run, other = runs.start().id, runs.start().id
    runs.log_metrics(other, {"m": 1.0})
    assert runs.history(run, "m").values == []
    assert runs.history(run, "never").values == []


def test_keys_of_a_transaction_that_was_undone_are_not_remembered(runs: RunService) -> None:
    run, other = runs.start(params={"p": "1"}).id, runs.start().id
    with pytest.raises(Exception, match="already"):
        runs.log_params(run, {"fresh": "1", "p": "2"})
    runs.log_params(other, {"another": "x"})
    runs.log_params(run, {"fresh": "2"})
    assert (runs.get(run).params["fresh"], runs.get(other).params) == ("2", {"another": "x"})


def test_eight_threads_log_to_one_run_and_lose_nothing(runs: RunService) -> None:
    run, failures = runs.start().id, []

    def log(worker: int) -> None:
        try:
            for step in range(12):
                runs.log_metrics(run, {"shared": float(worker), f"own {worker}": 1.0}, step=step, at=START)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=log, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    history = runs.history(run, "shared")
    assert sorted(zip(history.steps, history.floats(), strict=True)) == [
        (step, float(worker)) for step in range(12) for worker in range(8)
    ]
    assert runs.get(run).metrics["shared"] == 7.0
