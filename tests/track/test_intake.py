"""Many callers share a transaction; each gets its own answer; nothing that was acknowledged is missing."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from concurrent.futures import Future, wait

import pytest

from loopwright.core import Conflict, Invalid, NotFound, Scope, Unavailable
from loopwright.store import Stores
from loopwright.track import MetricIntake, MetricPoint, RunService, columns_of
from loopwright.track import intake as module


@pytest.fixture
def runs(stores: Stores) -> RunService:
    return RunService(stores, Scope())


def held(runs: RunService) -> threading.Event:
    """Keeps the database to itself until the event is set, so that what is submitted meanwhile gathers."""
    ready, release = threading.Event(), threading.Event()

    def hold() -> None:
        with runs.stores.db.begin() as tx:
            runs.stores.db.lock(tx, "held")
            ready.set()
            release.wait(20)

    threading.Thread(target=hold, name="holder").start()
    assert ready.wait(20)
    return release


def test_each_item_of_a_group_is_judged_by_itself(runs: RunService, monkeypatch: pytest.MonkeyPatch) -> None:
    run, other, deleted = runs.start(params={"p": "1"}).id, runs.start().id, runs.start().id
    runs.delete(deleted)
    monkeypatch.setattr(module, "GATHER_S", 5.0)
    intake = MetricIntake(runs.stores)
    intake._expected = 8  # so that the first group waits for all of these
    point = MetricPoint("m", 1.0)
    answers = {
        "fine": intake.submit("default", run, [point]),
        "unknown": intake.submit("default", "0" * 32, [point]),
        "elsewhere": intake.submit("another", run, [point]),
        "deleted": intake.submit("default", deleted, [point]),
        "conflict": intake.submit("default", run, [MetricPoint("x", 1.0)], {"p": "2"}),
        "first": intake.submit("default", other, [point], {"q": "1"}, {"t": "1"}),
        "second": intake.submit("default", other, [MetricPoint("y", 1.0)], {"q": "2"}, {"t": "2"}),
        "third": intake.submit("default", other, {"m": columns_of([1], [1], [2.0])}, {}, {"t": "3"}),
        "bad": intake.submit("default", run, [MetricPoint("m", "high")]),  # type: ignore[list-item]
    }
    wait(answers.values(), 20)
    intake.close()
    kinds = {name: type(answer.exception()) for name, answer in answers.items()}
    assert kinds == {
        "fine": type(None),
        "unknown": NotFound,
        "elsewhere": NotFound,
        "deleted": Conflict,
        "conflict": Conflict,
        "first": type(None),
        "second": Conflict,
        "third": type(None),
        "bad": Invalid,
    }
    assert (runs.get(run).metrics, runs.get(run).params) == ({"m": 1.0}, {"p": "1"})
    found = runs.get(other)
    assert (found.metrics, found.params, found.tags) == ({"m": 2.0}, {"q": "1"}, {"t": "3"})


def test_eight_threads_lose_nothing(runs: RunService) -> None:
    run = runs.start().id
    intake = MetricIntake(runs.stores)
    futures: list[Future[None]] = []

    def submit(worker: int) -> None:
        for step in range(40):
            futures.append(intake.submit("default", run, [MetricPoint("shared", float(worker), step)]))
            if step % 10 == 0:
                futures[-1].result(30)

    threads = [threading.Thread(target=submit, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    intake.close()
    assert [future.exception() for future in futures] == [None] * 320
    assert len(runs.history(run, "shared").steps) == 320


def test_closing_stores_what_waits_and_refuses_what_comes_later(runs: RunService) -> None:
    run = runs.start().id
    intake = MetricIntake(runs.stores)
    futures = [intake.submit("default", run, [MetricPoint("m", float(step), step)]) for step in range(100)]
    intake.close()
    intake.close()
    assert all(future.done() and future.exception() is None for future in futures)
    assert runs.history(run, "m").steps == list(range(100))
    with pytest.raises(Unavailable, match="is closed"):
        intake.submit("default", run, [MetricPoint("m", 1.0)]).result(1)
    assert intake._thread is not None
    assert (intake._thread.name, intake._thread.is_alive()) == ("loopwright-metric-intake", False)


def test_a_full_queue_makes_callers_wait_and_then_say_so(stores_sqlite: Stores) -> None:
    runs = RunService(stores_sqlite, Scope())
    run = runs.start().id
    intake = MetricIntake(runs.stores, max_waiting_points=20, patience_s=0.2)
    release = held(runs)
    first = intake.submit("default", run, [MetricPoint("first", 0.0)])
    while intake._waiting:
        time.sleep(0.01)
    ten = [MetricPoint("m", float(step), step) for step in range(10)]
    second = intake.submit("default", run, ten)
    started = time.monotonic()
    third = intake.submit("default", run, ten)
    assert time.monotonic() - started >= 0.2
    assert isinstance(third.exception(1), Unavailable)
    assert "have waited to be stored" in str(third.exception())
    release.set()
    assert (first.result(20), second.result(20)) == (None, None)
    intake.close()
    assert len(runs.history(run, "m").steps) == 10


def test_an_item_larger_than_the_queue_is_taken_when_nothing_waits(stores_sqlite: Stores) -> None:
    runs = RunService(stores_sqlite, Scope())
    run = runs.start().id
    intake = MetricIntake(runs.stores, max_waiting_points=5)
    intake.submit("default", run, [MetricPoint("m", float(step), step) for step in range(50)]).result(20)
    intake.close()
    assert len(runs.history(run, "m").steps) == 50


def test_a_transaction_that_fails_for_all_is_tried_for_each(runs: RunService, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as when another writer sets a param between the look at it and the write."""
    run = runs.start().id
    write, sizes = module.write_batches, []

    def spoiled(database: object, tx: object, batches: list[module.Batch]) -> object:
        sizes.append(len(batches))
        if any(batch.params for batch in batches):
            raise Conflict("another was first")
        return write(database, tx, batches)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "write_batches", spoiled)
    monkeypatch.setattr(module, "GATHER_S", 5.0)
    intake = MetricIntake(runs.stores)
    intake._expected = 3
    one = intake.submit("default", run, [MetricPoint("a", 1.0)])
    two = intake.submit("default", run, [MetricPoint("b", 1.0)], {"p": "1"})
    three = intake.submit("default", run, [MetricPoint("c", 1.0)])
    wait([one, two, three], 20)
    intake.close()
    assert (one.exception(), type(two.exception()), three.exception()) == (None, Conflict, None)
    assert sizes == [3, 1, 1, 1]
    assert sorted(runs.get(run).metrics) == ["a", "c"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_after_fork_is_told_and_does_not_hang(stores_sqlite: Stores) -> None:
    runs = RunService(stores_sqlite, Scope())
    run = runs.start().id
    intake = MetricIntake(runs.stores)
    intake.submit("default", run, [MetricPoint("m", 1.0)]).result(20)

    def child() -> None:
        error = intake.submit("default", run, [MetricPoint("m", 2.0)]).exception(5)
        intake.close()
        os._exit(0 if isinstance(error, Unavailable) and "belongs to process" in str(error) else 1)

    with intake._changed:  # the worst moment: the lock is held, and nobody in the child will let it go
        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
    process.join(20)
    assert process.exitcode == 0
    intake.submit("default", run, [MetricPoint("m", 3.0, 1)]).result(20)
    intake.close()
    assert runs.history(run, "m").floats() == [1.0, 3.0]
