"""How a pace becomes a refusal: bursts are taken, overload is not, and what costs little is answered."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as some

from loopwright.serve.admission import Limits, Pace

MS = 1_000_000
LIMITS = Limits(turn_requests=10, turn_s=0.005, patience_s=0.5, burst_s=0.02, overload_s=0.002, calm_s=0.1)


def of(row_ms: float, rows_each: int = 1) -> Pace:
    pace = Pace()
    for _ in range(50):
        pace.answered(10 * rows_each, 10, took_s := 10 * rows_each * row_ms / 1000, took_s)
    return pace


def test_a_burst_is_taken_and_a_queue_that_stays_long_is_refused_until_it_was_short_for_a_while() -> None:
    pace = of(row_ms=1.0)
    assert pace.wait_s(20) == pytest.approx(0.02)
    assert not pace.is_full(LIMITS, 20, 20, 1 * MS)
    assert not pace.is_full(LIMITS, 3, 3, 15 * MS), "the burst is over"
    assert not pace.is_full(LIMITS, 20, 20, 16 * MS)
    assert not pace.is_full(LIMITS, 20, 20, 35 * MS)
    assert pace.is_full(LIMITS, 20, 20, 37 * MS), "it has been long for 20 ms"
    pace.refused(37 * MS)
    tight = 2 * 10  # two of the fastest runs, which took ten rows
    assert not pace.is_full(LIMITS, tight - 1, 5, 38 * MS)
    assert pace.is_full(LIMITS, tight + 1, 5, 38 * MS), "few requests, too, while others are refused"
    assert pace.is_full(LIMITS, 1, 1, 38 * MS, read_ns=2 * MS), "the turn is long, and more waits than can be seen"
    assert not pace.is_full(LIMITS, 0, 0, 38 * MS, read_ns=2 * MS), "somebody is always taken"
    assert not pace.is_full(LIMITS, tight + 1, 5, 138 * MS, read_ns=2 * MS), "nobody was refused for a while"


def test_few_requests_may_wait_for_long_runs_and_many_rows_of_few_may_not() -> None:
    slow = of(row_ms=100.0)  # a run of ten rows takes a second
    limits = Limits(burst_s=0.0)
    assert not slow.is_full(limits, 300, 30, 0)
    assert slow.is_full(limits, 330, 33, 0), "32 of the fastest runs"
    quick = of(row_ms=0.01, rows_each=32)
    assert not quick.is_full(limits, 49_900, 20, 0)
    assert quick.is_full(limits, 50_100, 20, 0), "half a second"


def test_requests_that_cost_hardly_more_than_a_refusal_are_answered() -> None:
    cheap = of(row_ms=0.019)
    assert not cheap.is_full(Limits(burst_s=0.0), 1_000_000, 1_000_000, 0)
    assert of(row_ms=0.021).is_full(Limits(burst_s=0.0), 1_000, 1_000, 0)


@given(some.floats(1e-3, 1e3), some.integers(1, 64), some.integers(1, 10_000))
def test_bounds_say_as_rows_what_is_told_of_one_request(row_ms: float, each: int, rows: int) -> None:
    limits = Limits(turn_requests=1, burst_s=0.0)
    pace = of(row_ms, each)
    bounds = pace.bounds(limits)
    assume(all(abs(rows - bound) > 1 for bound in (bounds.many, bounds.few, bounds.overload)))  # what rounding decides
    assert pace.is_full(limits, rows, 1, 0) == (rows > min(bounds.many, bounds.few))
    pace.refused(0)
    assert pace.is_full(limits, rows, 0, 1) == (rows > min(bounds.overload, bounds.few))
    assert pace.is_full(limits, rows, 0, 1, read_ns=2 * MS) == (rows > bounds.late)


def test_of_a_pace_that_nobody_knows_nobody_is_refused() -> None:
    assert not Pace().is_full(Limits(burst_s=0.0), 1_000_000, 1_000_000, 0)


def test_slices_grow_where_a_run_takes_as_long_for_one_row_as_for_many() -> None:
    pace = Pace()
    for _ in range(50):
        pace.answered(1, 1, 0.005, 0.005)
    found = []
    for _ in range(60):
        found.append(rows := pace.slice_rows(LIMITS))
        pace.answered(rows, rows, 0.005, 0.005)
    assert found[0] == 2
    assert found[-1] > 30, "else one row a run would be answered for as long as too much arrives"


def test_a_turn_goes_on_until_its_time_is_up_and_only_while_requests_are_refused() -> None:
    pace, limits = of(row_ms=1.0), Limits(slice_s=0.01)
    assert not pace.has_time(limits, 0, 1 * MS)
    pace.refused(0)
    assert pace.has_time(limits, 0, 4 * MS)
    assert not pace.has_time(limits, 0, 6 * MS)
