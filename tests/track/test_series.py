"""However points arrive (one by one, in batches, delivered, again), a history reads back the set of them, in order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select
from tests.examples import examples
from tests.track.points import Point, columns, points_of
from tests.track.test_plans import statements

from loopwright.core import Conflict, Invalid, NotFound, Scope
from loopwright.store import Stores
from loopwright.track import Delivery, MetricPoint, RunService, deliver, tables
from loopwright.track.keys import intern_keys
from loopwright.track.values import from_bits, from_micros, to_bits

AT = datetime(2026, 1, 1, tzinfo=UTC)

KEYS = ("loss", "auc", "lr")
START = datetime(2026, 1, 1, tzinfo=UTC)
QUIET = settings(max_examples=examples(40), deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture
def runs(stores: Stores) -> RunService:
    return RunService(stores, Scope())


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks, frames and tails of a few points, so that a short test packs and merges as a long run does."""
    small: dict[str, int] = {
        "metrics.BLOCK_FROM": 5,
        "metrics.FRAME_FROM": 6,
        "metrics.TAIL_LIMIT": 7,
        "frames.MAX_FRAMES": 3,
        "frames.MAX_FRAME_POINTS": 60,
        "blocks.BLOCK_POINTS": 16,
        "blocks.PART_POINTS": 4,
        "compaction.BLOCK_POINTS": 16,
        "compaction._SMALL": 8,
        "compaction._MAX_TAIL_TAKEN": 20,
        "curves._EXACT_POINTS": 8,
        "curves.PART_POINTS": 1,
    }
    for name, size in small.items():
        monkeypatch.setattr(f"loopwright.track.{name}", size)


steps = st.one_of(st.integers(-40, 40), st.sampled_from([2**53 + 1, 2**53 + 2, 2**63 - 1, -(2**63)]))
some_points = st.lists(
    st.tuples(steps, st.integers(0, 2), st.floats().map(to_bits)),
    max_size=24,
)
calls = st.lists(
    st.tuples(st.sampled_from(["batch", "single", "deliver"]), st.dictionaries(st.sampled_from(KEYS), some_points)),
    max_size=8,
)


def write(runs: RunService, run: str, segment: int, how: str, given: dict[str, list[Point]]) -> None:
    """Store points in one of the ways in which they come."""
    if how == "deliver":
        columns_by_key = {key: columns(some) for key, some in given.items()}
        with runs.stores.db.begin() as tx:
            deliver(runs.stores.db, tx, "default", Delivery(run, segment, 0, 1, {run: columns_by_key}))
        return
    points = [
        MetricPoint(key, from_bits(bits), step, from_micros(at))
        for key, some in given.items()
        for step, at, bits in some
    ]
    for some in [points] if how == "batch" else [[point] for point in points[:5]]:
        runs.log_points(run, some)


def taken(how: str, given: dict[str, list[Point]]) -> dict[str, list[Point]]:
    if how != "single":
        return given
    left, first = 5, {}
    for key, some in given.items():
        first[key] = some[:left]
        left -= len(first[key])
    return first


@pytest.mark.slow
@QUIET
@given(calls=calls, repeats=st.lists(st.integers(0, 7), max_size=3), limit=st.integers(1, 9), bound=steps)
def test_any_order_of_writes_reads_back_as_a_set(
    runs: RunService, calls: list[Any], repeats: list[int], limit: int, bound: int
) -> None:
    run = runs.start().id
    model: dict[str, set[Point]] = {key: set() for key in KEYS}
    order = [*calls, *(calls[number] for number in repeats if number < len(calls))]
    for segment, (how, some_by_key) in enumerate(order):
        write(runs, run, segment, how, some_by_key)
        for key, some in taken(how, some_by_key).items():
            model[key] |= set(some)
    for key in KEYS:
        expected = sorted(model[key])
        assert points_of(runs.history(run, key)) == expected
        assert pages(runs, run, key, limit) == expected
        assert points_of(runs.history(run, key, last_step=bound)) == [point for point in expected if point[0] <= bound]
        assert points_of(runs.history(run, key, first_step=bound)) == [point for point in expected if point[0] >= bound]
    found = runs.get(run)
    lasts = {key: max(some)[2] for key, some in model.items() if some}
    assert {key: to_bits(value) for key, value in found.metrics.items()} | {
        key: to_bits(float(value)) for key, value in found.not_finite.items()
    } == lasts


def pages(runs: RunService, run: str, key: str, limit: int) -> list[Point]:
    """A history read page by page."""
    found: list[Point] = []
    token = ""
    while True:
        page = runs.history(run, key, limit=limit, after=token)
        found += points_of(page)
        if not page.next:
            return found
        assert len(page.steps) == limit
        token = page.next


def test_a_history_of_one_step_is_packed_and_paged(runs: RunService) -> None:
    run = runs.start().id
    expected = [(0, at, to_bits(float(at % 7))) for at in range(300)]
    for begin in range(0, 300, 30):
        write(runs, run, 0, "batch", {"m": expected[begin : begin + 30]})
    assert points_of(runs.history(run, "m")) == expected
    assert pages(runs, run, "m", 37) == expected


@pytest.mark.slow
def test_blocks_that_share_one_step_are_paged_in_the_order_of_time(runs: RunService) -> None:
    run = runs.start().id
    expected = [(0, at, to_bits(float(at))) for at in range(160)]
    for number in range(10):
        write(runs, run, 0, "batch", {"m": expected[number::10]})
    for limit in (3, 16, 37):
        assert pages(runs, run, "m", limit) == expected


def test_two_large_frames_are_unpacked_like_many_small_ones(runs: RunService) -> None:
    run = runs.start().id
    for step in range(2):
        runs.log_points(run, [MetricPoint(f"k{number}", float(step), step) for number in range(40)])
    with runs.stores.db.read() as connection:
        assert connection.execute(select(func.count()).select_from(tables.run_frames)).scalar_one() == 0
    assert runs.history(run, "k39").floats() == [0.0, 1.0]


def test_points_one_by_one_become_blocks_and_few_rows_stay(runs: RunService) -> None:
    run = runs.start().id
    for step in range(60):
        runs.log_metrics(run, {"m": float(step)}, step, START + timedelta(seconds=step))
    assert runs.history(run, "m").steps == list(range(60))
    with runs.stores.db.read() as connection:
        rows = connection.execute(select(func.count()).select_from(tables.run_points)).scalar_one()
        blocks = connection.execute(select(tables.run_blocks.c.count)).scalars().all()
    assert rows < 7
    assert rows + sum(blocks) == 60
    assert len(blocks) <= 60 // 8 + 3, f"blocks of {blocks} points were not merged"


def test_calls_with_many_metrics_are_one_row_each_until_they_are_packed(runs: RunService) -> None:
    run = runs.start().id
    for step in range(8):
        runs.log_points(run, [MetricPoint(f"k{number}", number + step / 10, step) for number in range(10)])
        with runs.stores.db.read() as connection:
            frames = connection.execute(select(func.count()).select_from(tables.run_frames)).scalar_one()
        assert frames == (step + 1) % 3
    for number in range(10):
        history = runs.history(run, f"k{number}")
        assert (history.steps, history.floats()) == (list(range(8)), [number + step / 10 for step in range(8)])
    assert runs.get(run).metrics == {f"k{number}": number + 0.7 for number in range(10)}
    assert len(runs.curve(run, ["k3"])[0].steps) == 8


def test_rows_of_the_revision_before_are_read_and_go_on(runs: RunService) -> None:
    """That server writes rows and a last value, counts no tail, and may still run beside this one."""
    run = runs.start().id
    with runs.stores.db.begin() as tx:
        seq = tx.execute(select(tables.runs.c.seq).where(tables.runs.c.id == run)).scalar_one()
        key = intern_keys(runs.stores.db, tx, ["old"])["old"]
        last = {"last_step": 49, "last_at": 49, "last_bits": to_bits(49.0), "last_value": 49.0}
        made = tables.run_series.insert().values(run_seq=seq, key_id=key, **last).returning(tables.run_series.c.id)
        series = tx.execute(made).scalar_one()
        rows = [{"series_id": series, "step": step, "at": step, "bits": to_bits(float(step))} for step in range(50)]
        tx.execute(tables.run_points.insert(), rows)
    assert runs.history(run, "old").floats() == [float(step) for step in range(50)]
    for step in range(45, 70):
        runs.log_metrics(run, {"old": float(step)}, step, from_micros(step))
    assert points_of(runs.history(run, "old")) == [(step, step, to_bits(float(step))) for step in range(70)]
    assert pages(runs, run, "old", 8) == points_of(runs.history(run, "old"))
    assert runs.get(run).metrics == {"old": 69.0}


def test_histories_of_many_runs_come_in_their_order(runs: RunService) -> None:
    ids = [runs.start().id for _ in range(3)]
    for number, run in enumerate(ids[:2]):
        runs.log_batch(run, [MetricPoint("m", float(number), step) for step in range(10)])
    found = runs.histories([ids[1], ids[2], ids[0]], "m", first_step=8)
    assert [item.run for item in found] == [ids[1], ids[2], ids[0]]
    assert [item.floats() for item in found] == [[1.0, 1.0], [], [0.0, 0.0]]
    with pytest.raises(NotFound, match="there is no run"):
        runs.histories([ids[0], "0" * 32], "m")


def test_histories_are_those_of_each_run_by_as_many_questions_for_few_runs_as_for_more(runs: RunService) -> None:
    ids = [runs.start().id for _ in range(9)]
    for number, run in enumerate(ids):
        runs.log_batch(run, [MetricPoint("m", number + step / 7, step, AT) for step in range(number * 200)])  # packed
        runs.log_batch(run, [MetricPoint(f"k{key}", 1.0, 150, AT) for key in range(200)])
        runs.log_batch(run, [MetricPoint(f"k{key}", 2.0, 151, AT) for key in range(200)] + [MetricPoint("m", 9, 5, AT)])
        runs.log_metrics(run, {"m": float(number)}, 160, AT)  # a row of the tail
    for span in ((None, None), (100, 170), (5, 5)):
        assert runs.histories([*ids, f"run:{ids[0]}"], "m", *span) == [
            runs.history(run, "m", *span) for run in [*ids, ids[0]]
        ]
    few, more = (statements(runs.stores, lambda some=some: runs.histories(some, "m")) for some in (ids[:2], ids))
    assert len(few) == len(more)


def test_a_batch_stores_all_that_it_holds_or_nothing(runs: RunService) -> None:
    run = runs.start(params={"p": "1"}).id
    runs.log_batch(run, [MetricPoint("m", 1.0)], {"q": "2"}, {"t": "3"})
    found = runs.get(run)
    assert (found.metrics, found.params, found.tags) == ({"m": 1.0}, {"p": "1", "q": "2"}, {"t": "3"})
    with pytest.raises(Conflict, match="param 'p' is '1' already"):
        runs.log_batch(run, [MetricPoint("m", 2.0, 1)], {"p": "2", "r": "1"}, {"t": "4"})
    assert runs.get(run) == found
    with pytest.raises(Invalid, match="cannot name a metric"):
        runs.log_batch(run, [MetricPoint("", 2.0, 1)], {"r": "1"})
    assert runs.get(run) == found


@pytest.mark.parametrize("token", ["x", "1.2", "1.2.3.4", "9223372036854775808.0.0", "1.2.3'", "٣.1.1"])
def test_a_page_token_that_is_not_ours_is_refused(runs: RunService, token: str) -> None:
    run = runs.start().id
    with pytest.raises(Invalid, match="no place in a history"):
        runs.history(run, "m", limit=3, after=token)


def test_bounds_beyond_64_bits_are_no_error(runs: RunService) -> None:
    run = runs.start().id
    runs.log_batch(run, [MetricPoint("m", 1.0, step) for step in (-(2**63), 0, 2**63 - 1)])
    first = runs.history(run, "m", limit=1)
    assert runs.history(run, "m", after=first.next).steps == [0, 2**63 - 1]
    assert runs.history(run, "m", limit=2**80).steps == [-(2**63), 0, 2**63 - 1]
    assert len(runs.history(run, "m", first_step=-(2**80), last_step=2**80).steps) == 3
    assert runs.history(run, "m", first_step=2**80).steps == []
    assert runs.curve(run, ["m"], first_step=5, last_step=-5)[0].steps == []


def test_values_come_back_bit_by_bit_from_blocks(runs: RunService) -> None:
    run = runs.start().id
    values = [0.0, -0.0, 5e-324, -5e-324, 1.7976931348623157e308, float("inf"), float("-inf"), float("nan"), 0.1]
    runs.log_batch(run, [MetricPoint("m", value, step) for step, value in enumerate(values)])
    back = np.array(runs.history(run, "m").floats())
    assert back.tobytes() == np.array(values).tobytes()
