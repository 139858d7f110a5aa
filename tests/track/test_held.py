"""Arrays of runs in memory: when they are read, when they are let go of, and that they never stand for anything else
than the snapshot that asks."""

from __future__ import annotations

import gc
import shutil
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from loopwright.core import Location, Scope, Settings
from loopwright.store import Doomed, Stores, open_stores
from loopwright.track import ExperimentService, RunService, View
from loopwright.track.collecting import forget_runs
from loopwright.track.reading import the_run
from loopwright.track.search import held as module
from loopwright.track.search.held import HeldRuns
from loopwright.track.search.query import Question, search_found
from loopwright.track.search.scanning import search_held
from loopwright.track.search.words import Entity
from loopwright.track.tables import runs as run_rows
from loopwright.track.writing import write_texts

ACC, STEP = (Entity.METRIC, "acc"), (Entity.TAG, "step")
BEST = Question("default", "metrics.acc > 0.3", view=View.ALL, order_by=("metrics.acc DESC",))
AT_ONE = Question("default", "tags.step = '1'")


@pytest.fixture
def runs(stores: Stores) -> Iterator[RunService]:
    service = RunService(stores, Scope())
    for number in range(9):
        service.log_metrics(service.start(tags={"step": str(number % 2)}).id, {"acc": number / 10})
    yield service
    service.stores.db.close()
    assert not any(thread.name == "loopwright-held-runs" for thread in threading.enumerate())


def agrees(held: HeldRuns, runs: RunService, asked: Question) -> bool:
    """Whether the arrays answer, as the database does in the same snapshot."""
    database = runs.stores.db
    with database.read() as connection:
        found = search_held(held, database, connection, asked)
        assert found is None or found == search_found(database, connection, asked)
    return found is not None


def test_they_are_read_on_a_thread_once_they_were_asked_for_twice(
    runs: RunService, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = HeldRuns(runs.stores.db, 1_000_000)
    assert not any(agrees(held, runs, BEST) for _ in range(5)), "among few runs, the database is asked"
    monkeypatch.setattr(module, "_LEAST_RUNS", 9)
    held = HeldRuns(runs.stores.db, 1_000_000)
    assert not agrees(held, runs, BEST)
    assert held._loading is None
    deadline = time.monotonic() + 20
    while not agrees(held, runs, BEST) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert agrees(held, runs, BEST)
    assert not agrees(held, runs, AT_ONE), "a tag that was not asked for yet"
    assert held.named.keys() == {ACC}


def test_a_database_that_is_closed_is_not_kept_and_reads_nothing_more(
    sqlite_template: Path, migrations: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LEAST_RUNS", 1)
    shutil.copy(sqlite_template, tmp_path / "loopwright.db")
    stores = open_stores(Location(tmp_path, tmp_path, Settings()), migrations)
    service = RunService(stores, Scope())
    service.start()
    for _ in range(3):
        service.search("metrics.acc > 0.3")
    held = module.held_runs_of(stores.db, 1)
    assert held._loading is not None
    stores.db.close()
    assert held._loading is None
    assert held.moment is None, "it was closed before the thread began"
    seen = weakref.ref(stores.db)
    del stores, service
    gc.collect()
    assert seen() is None


def test_they_stay_within_their_bound(runs: RunService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LEAST_RUNS", 1)
    tight = HeldRuns(runs.stores.db, 100)
    assert not any(agrees(tight, runs, BEST) for _ in range(4))
    assert tight._loading is None
    assert tight.size_bytes == 0
    whole = HeldRuns(runs.stores.db, 1_000_000)
    whole.load([ACC, STEP])
    room_for_one = HeldRuns(runs.stores.db, whole.size_bytes - 1)
    room_for_one.load([ACC])
    room_for_one.load([STEP])
    assert room_for_one.named.keys() == {STEP}
    monkeypatch.setattr(module, "_MOST_WORDS", 5)
    assert agrees(room_for_one, runs, AT_ONE)
    for number in range(9):
        runs.start(tags={"step": f"own {number}"})
    assert not agrees(room_for_one, runs, AT_ONE)
    assert not room_for_one.named


def test_runs_that_are_gone_for_good_are_found_no_more(runs: RunService) -> None:
    held = HeldRuns(runs.stores.db, 1_000_000)
    held.load([ACC])
    assert agrees(held, runs, BEST)
    with runs.stores.db.begin() as tx:
        row = tx.execute(select(run_rows).order_by(run_rows.c.seq.desc()).limit(1)).one()
        forget_runs(runs.stores, tx, [Doomed(row.id, "default", row.seq)])
    assert not agrees(held, runs, BEST)
    runs.log_metrics(runs.start().id, {"acc": 0.35})  # on SQLite under the number of the one that is gone
    held.load([ACC])
    assert agrees(held, runs, BEST)


def test_an_experiment_is_shown_by_its_present_name(runs: RunService) -> None:
    held, experiments = HeldRuns(runs.stores.db, 1_000_000), ExperimentService(runs.stores, Scope())
    held.load([ACC])
    for name in ("first", "second"):
        assert agrees(held, runs, BEST)
        experiments.rename(runs.search()[0].experiment_id, name)
        assert agrees(held, runs, BEST)
        assert held._titles.popitem()[1] == name


def test_a_name_that_nobody_asks_for_is_let_go_of_after_many_changes(
    runs: RunService, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = HeldRuns(runs.stores.db, 1_000_000)
    held.load([ACC, STEP])
    for found in runs.search()[:6]:
        runs.log_metrics(found.id, {"acc": 0.75}, step=7)
    assert agrees(held, runs, BEST)
    monkeypatch.setattr(module, "_MOST_CHANGES", 8)
    assert agrees(held, runs, AT_ONE), "six changes are caught up with"
    for found in runs.search():
        runs.set_tags(found.id, {"step": "1"})
        assert agrees(held, runs, AT_ONE)
    assert held.named.keys() == {STEP}


@pytest.mark.postgres
def test_a_transaction_that_began_before_another_and_ends_after_it_is_seen(stores_postgres: Stores) -> None:
    runs = RunService(stores_postgres, Scope())
    early, late = (runs.start(tags={"step": "0"}).id for _ in range(2))
    held = HeldRuns(stores_postgres.db, 1_000_000)
    held.load([STEP])
    with stores_postgres.db.begin() as tx:
        write_texts(stores_postgres.db, tx, the_run(tx, "default", early), {}, {"step": "1"})
        other = threading.Thread(target=runs.set_tags, args=(late, {"step": "1"}))
        other.start()
        other.join()
        assert agrees(held, runs, AT_ONE)
        assert [run.id for run in runs.search("tags.step = '1'")] == [late]
    assert agrees(held, runs, AT_ONE)
    assert {run.id for run in runs.search("tags.step = '1'")} == {early, late}


@pytest.mark.postgres
def test_a_glance_shows_what_a_snapshot_does(stores_postgres: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LEAST_RUNS", 1)
    database, read, reads = stores_postgres.db, stores_postgres.db.read, []
    service, experiments = RunService(stores_postgres, Scope()), ExperimentService(stores_postgres, Scope())
    ids = [service.start("e", tags={"step": str(number)}).id for number in range(4)]
    for number, id in enumerate(ids):
        service.log_metrics(id, {"acc": number / 10})

    def counted() -> Any:
        reads.append(1)
        return read()

    def page() -> list[bytes]:
        reads.clear()
        return service.search_rendered("r", lambda whole: repr(whole.run).encode(), order_by=("metrics.acc DESC",))[0]

    monkeypatch.setattr(database, "read", counted)
    held = service._held
    deadline = time.monotonic() + 60  # other tests write to the same server
    page()
    while reads and time.monotonic() < deadline:
        page()
    assert not reads
    for change in (
        lambda: service.log_metrics(ids[0], {"acc": 0.9}),
        lambda: service.set_tags(ids[1], {"step": "new"}),
        lambda: service.start("e"),
        lambda: service.delete(ids[2]),
        lambda: experiments.rename(service.get(ids[0]).experiment_id, "f"),
        lambda: service.finish(ids[0]),
    ):
        page()
        change()
        held.is_quiet = True
        found = page()
        assert found == [repr(run).encode() for run in service.search(order_by=("metrics.acc DESC",))], change
    assert len(found) == 4
