"""What a spool recorded arrives once, however often and in whatever pieces it is delivered."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection
from tests.examples import examples
from tests.track.points import columns, points_of

from loopwright.core import Conflict, Invalid, Scope
from loopwright.store import Stores
from loopwright.track import Columns, Delivery, Receipt, Recorded, RunService, columns_of, deliver
from loopwright.track.deliveries import delivered, forget
from loopwright.track.values import to_bits

QUIET = settings(max_examples=examples(40), deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture
def runs(stores: Stores) -> RunService:
    return RunService(stores, Scope())


def give(runs: RunService, delivery: Delivery) -> Receipt:
    with runs.stores.db.begin() as tx:
        return deliver(runs.stores.db, tx, "default", delivery)


def deliver_and_raise(runs: RunService, tx: Connection, delivery: Delivery, error: Exception) -> None:
    deliver(runs.stores.db, tx, "default", delivery)
    raise error


def part(run: str, segment: int, start: int, end: int, *, positions: bool = True) -> Delivery:
    """Records of a segment: one point at each position, of two metrics in turn, and a tag that tells the last."""
    found: dict[str, Columns | Recorded] = {}
    for parity, key in ((0, "even"), (1, "odd")):
        at = [place for place in range(start, end) if place % 2 == parity]
        some = columns([(segment * 1000 + place, place, to_bits(place / 4)) for place in at])
        found[key] = Recorded(some, np.array(at, np.int64)) if positions else some
    return Delivery(run, segment, start, end, {run: found}, tags={run: {f"last {segment}": str(end)}})


@pytest.mark.slow
@QUIET
@given(
    cuts=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 60), st.integers(0, 60)), max_size=25),
    positions=st.booleans(),
)
def test_pieces_repeated_overlapped_and_torn_store_each_record_once(
    runs: RunService, cuts: list[tuple[int, int, int]], positions: bool
) -> None:
    run = runs.start().id
    reached = {0: 0, 1: 0}
    for segment, one, other in cuts:
        start, end = sorted((one, other))
        if start > reached[segment]:
            with pytest.raises(Conflict, match=f"deliver it from position {reached[segment]}"):
                give(runs, part(run, segment, start, end, positions=positions))
            continue
        receipt = give(runs, part(run, segment, start, end, positions=positions))
        assert receipt == Receipt(max(end, reached[segment]), end > reached[segment])
        reached[segment] = receipt.position
    for parity, key in ((0, "even"), (1, "odd")):
        expected = [
            (segment * 1000 + place, place, to_bits(place / 4))
            for segment in (0, 1)
            for place in range(reached[segment])
            if place % 2 == parity
        ]
        assert points_of(runs.history(run, key)) == expected
        assert sum(runs.curve(run, [key], 10_000)[0].counts) == len(expected)
    assert runs.get(run).tags == {f"last {segment}": str(end) for segment, end in reached.items() if end}
    with runs.stores.db.read() as connection:
        stored = delivered(connection, run)
    assert {segment: end for segment, end in stored.items() if end} == {
        segment: end for segment, end in reached.items() if end
    }


def test_a_delivery_that_is_undone_is_delivered_again(runs: RunService) -> None:
    run = runs.start().id
    tear = RuntimeError("torn")
    with pytest.raises(RuntimeError, match="torn"), runs.stores.db.begin() as tx:
        deliver_and_raise(runs, tx, part(run, 0, 0, 40), tear)
    assert runs.history(run, "even").steps == []
    assert give(runs, part(run, 0, 0, 40)) == Receipt(40, applied=True)
    assert runs.history(run, "even").steps == list(range(0, 40, 2))


def test_two_that_deliver_the_same_spool_at_once_store_it_once(runs: RunService) -> None:
    run, failures = runs.start().id, []
    barrier = threading.Barrier(4)

    def work() -> None:
        try:
            barrier.wait()
            for start in range(0, 400, 40):
                give(runs, part(run, 0, start, start + 40))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert runs.history(run, "even").steps == list(range(0, 400, 2))
    assert sum(runs.curve(run, ["odd"])[0].counts) == 200


def test_what_can_never_be_stored_is_refused_run_by_run_and_the_rest_goes_on(runs: RunService) -> None:
    fine, deleted, changed = runs.start().id, runs.start().id, runs.start(params={"p": "1"}).id
    runs.delete(deleted)
    some = {"m": columns([(0, 0, to_bits(1.0))])}
    points = {fine: some, deleted: some, changed: some, "f" * 32: some}
    delivery = Delivery("ab", 7, 0, 9, points, params={changed: {"p": "2"}, fine: {"p": "2"}})
    receipt = give(runs, delivery)
    assert (receipt.position, receipt.applied) == (9, True)
    assert sorted(receipt.refused) == sorted([deleted, changed, "f" * 32])
    assert "is deleted" in str(receipt.refused[deleted])
    assert "is '1' already" in str(receipt.refused[changed])
    assert "there is no run" in str(receipt.refused["f" * 32])
    assert (runs.get(fine).metrics, runs.get(fine).params) == ({"m": 1.0}, {"p": "2"})
    assert runs.get(changed).metrics == {}


@pytest.mark.parametrize(
    ("delivery", "problem"),
    [
        (Delivery("a b", 0, 0, 1), "no spool id"),
        (Delivery("", 0, 0, 1), "no spool id"),
        (Delivery("a", 0, 5, 4), "from position 5 to 4"),
        (Delivery("a", 0, 0, 1, {"r": {"": columns_of([], [], [])}}), "cannot name a metric"),
        (Delivery("a", 0, 0, 1, tags={"r": {"t": "\x00"}}), "no text"),
    ],
)
def test_a_malformed_delivery_moves_nothing(runs: RunService, delivery: Delivery, problem: str) -> None:
    with pytest.raises(Invalid, match=problem):
        give(runs, delivery)
    with runs.stores.db.read() as connection:
        assert delivered(connection, delivery.spool) == {}


@pytest.mark.parametrize(
    ("steps", "times", "values", "problem"),
    [
        ([1, 2], [1], [1.0, 2.0], "2 steps, 1 times and 2 values"),
        ([1.5], [1], [1.0], "no columns of numbers"),
        ([2**64], [1], [1.0], "no columns of numbers"),
        (np.array([2**63], np.uint64), [1], [1.0], "more than 64 bits"),
        ([1], [1], ["high"], "no columns of numbers"),
        ([[1]], [[1]], [[1.0]], "steps"),
    ],
)
def test_columns_that_do_not_fit_are_refused(steps: Any, times: Any, values: Any, problem: str) -> None:
    with pytest.raises(Invalid, match=problem):
        columns_of(steps, times, values, "m")


def test_positions_of_segments_that_are_done_can_be_dropped(runs: RunService) -> None:
    run = runs.start().id
    for segment in range(3):
        give(runs, part(run, segment, 0, 4))
    with runs.stores.db.begin() as tx:
        forget(tx, run, before=2)
        assert delivered(tx, run) == {2: 4}
        forget(tx, run)
        assert delivered(tx, run) == {}
