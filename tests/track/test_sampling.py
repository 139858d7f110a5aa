"""A sample has the points that SQL's NTILE picks from a whole history, and its last one, however they are stored."""

from __future__ import annotations

import sqlite3

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.examples import examples
from tests.track.points import Point, columns, points_of

from loopwright.core import NotFound, Scope
from loopwright.store import Stores
from loopwright.track import Delivery, RunService, columns_of, deliver
from loopwright.track.sampling import places
from loopwright.track.values import to_bits

steps = st.integers(-60, 60) | st.sampled_from([2**63 - 1, -(2**63)])
some_points = st.lists(st.tuples(steps, st.integers(0, 2), st.floats().map(to_bits)), max_size=40)
in_order = st.integers(0, 120).map(lambda many: [(step, 0, 0) for step in range(many)])


@pytest.fixture
def runs(stores: Stores) -> RunService:
    return RunService(stores, Scope())


def put(runs: RunService, run: str, points: list[Point], segment: int = 0) -> None:
    with runs.stores.db.begin() as tx:
        deliver(runs.stores.db, tx, "default", Delivery(run, segment, 0, 1, {run: {"m": columns(points)}}))


def picked_by_sql(total: int, most: int) -> list[int]:
    """The first row of each tile, and the last row in place of the last of them, as MLflow's server asks for them."""
    with sqlite3.connect(":memory:") as database:
        database.execute("CREATE TABLE t (n)")
        database.executemany("INSERT INTO t VALUES (?)", [(number,) for number in range(total)])
        tiles = database.execute(
            "SELECT min(n) FROM (SELECT n, ntile(?) OVER (ORDER BY n) AS tile FROM t) GROUP BY tile", (most,)
        )
        found = sorted(number for (number,) in tiles)
    return [*found[: most - 1], total - 1] if len(found) == most else found


@pytest.mark.parametrize("most", [1, 2, 7, 10, 1000])
def test_the_places_of_a_sample_are_those_of_ntile(most: int) -> None:
    for total in (0, 1, 2, 9, 10, 11, 15, 20, 1003):
        assert places(total, most).tolist() == picked_by_sql(total, most), total


@pytest.mark.slow
@settings(max_examples=examples(60), deadline=None, suppress_health_check=list(HealthCheck))
@given(
    batches=st.lists(some_points | in_order, max_size=4),
    single=some_points.map(lambda found: found[:3]),
    most=st.integers(1, 30),
    span=st.tuples(steps, steps),
)
def test_a_sample_is_taken_from_all_points(
    runs: RunService,
    monkeypatch: pytest.MonkeyPatch,
    batches: list[list[Point]],
    single: list[Point],
    most: int,
    span: tuple[int, int],
) -> None:
    sizes = {"metrics.BLOCK_FROM": 3, "blocks.BLOCK_POINTS": 16, "compaction.BLOCK_POINTS": 16, "compaction._SMALL": 8}
    for name, size in {**sizes, "sampling._BLOCKS_AT_ONCE": 2, "together._RUNS_AT_ONCE": 1}.items():
        monkeypatch.setattr(f"loopwright.track.{name}", size)
    run, bare = runs.start().id, runs.start().id
    for number, batch in enumerate([*batches, single]):
        put(runs, run, batch, number)
    for first, last in ((None, None), sorted(span)):
        history = points_of(runs.history(run, "m", first, last))
        other, sample = runs.samples([bare, run], "m", most, first, last)
        assert points_of(sample) == [history[place] for place in places(len(history), most).tolist()]
        assert points_of(other) == []


def test_samples_of_a_long_metric_and_of_a_run_that_has_none(runs: RunService) -> None:
    long, bare, many = runs.start().id, runs.start().id, 100_000
    with runs.stores.db.begin() as tx:
        given_columns = columns_of(range(many), range(many), [step / 2 for step in range(many)])
        deliver(runs.stores.db, tx, "default", Delivery("s", 0, 0, many, {long: {"m": given_columns}}))
    runs.log_metrics(long, {"m": -1.0}, step=many)
    sample, none = runs.samples([long, bare], "m", 300)
    assert sample.steps == places(many + 1, 300).tolist()
    assert sample.values == [step / 2 for step in sample.steps[:-1]] + [-1.0]
    assert (none.run, none.steps) == (bare, [])
    with pytest.raises(NotFound, match="there is no run"):
        runs.samples([long, "0" * 32], "m", 300)
