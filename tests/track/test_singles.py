"""A few points that are stored on SQLite in one go are stored as the thorough way would have, or not at all."""

from __future__ import annotations

import math
import random
import sqlite3

import pytest
from sqlalchemy import text
from tests.track.test_quick import rows

from loopwright.core import Scope
from loopwright.store import Doomed, Stores
from loopwright.track import Batch, MetricIntake, RunService, TimedPoint
from loopwright.track.collecting import forget_runs
from loopwright.track.compaction import TAIL_LIMIT
from loopwright.track.singles import MOST_POINTS, store_singles


def revision(stores: Stores, run: str) -> int:
    query = "SELECT c.revision FROM run_changes AS c JOIN runs AS r ON r.seq = c.run_seq WHERE r.id = :run"
    with stores.db.read() as connection:
        return int(connection.execute(text(query), {"run": run}).scalar_one())


def test_single_points_are_stored_as_the_other_way_stores_them(stores_sqlite: Stores) -> None:
    runs, rolls, intake = RunService(stores_sqlite, Scope()), random.Random(7), MetricIntake(stores_sqlite)
    pairs = [(runs.start().id, runs.start().id) for _ in range(3)]
    for _ in range(2):  # the keys are known to this process from the second time on
        for run in (run for pair in pairs for run in pair):
            intake.submit("default", run, [TimedPoint(f"k{number}", 0.0, 0, 0) for number in range(4)]).result(20)
    values = (math.nan, math.inf, -math.inf, -0.0, 0.0, 1.5, -1e300)
    for _ in range(60):
        group = [
            (rolls.choice(pairs), [
                TimedPoint(f"k{rolls.randrange(4)}", rolls.choice(values), rolls.randrange(-3, 4), rolls.randrange(3))
                for _ in range(rolls.randrange(1, 6))
            ])
            for _ in range(rolls.randrange(1, 5))
        ]  # fmt: skip
        before = {run: revision(stores_sqlite, run) for pair in pairs for run in pair}
        batches = [intake.batch("default", f"run:{one}", points, {}, {}) for (one, _), points in group]
        assert store_singles(stores_sqlite.db, batches)
        touched = {one for (one, _), _ in group}
        after = {run: revision(stores_sqlite, run) for run in before}
        assert {run for run in before if after[run] != before[run]} == touched
        assert min(after[run] for run in touched) > max(before.values())
        for (_, other), points in group:
            intake.submit("default", other, points).result(20)
    for one, other in pairs:
        found = rows(stores_sqlite, one)
        assert found == rows(stores_sqlite, other)
        assert len(found) > 20
    intake.close()


def test_single_points_are_stored_all_or_not_at_all(stores_sqlite: Stores) -> None:
    runs, intake = RunService(stores_sqlite, Scope()), MetricIntake(stores_sqlite, sync_every_s=60)
    run, deleted = runs.start().id, runs.start().id

    def given(project: str, of: str, key: str, step: int = 9) -> Batch:
        return intake.batch(project, of, [TimedPoint(key, 0.5, step, 0)], {}, {})

    for of in (run, run, deleted):
        intake.submit("default", of, [TimedPoint("m", 0.5, 0, 0)]).result(20)
    runs.delete(deleted)
    bad = [("default", deleted, "m"), ("default", "0" * 32, "m"), ("other", run, "m"), ("default", run, "unheard of")]
    for project, of, key in bad:
        assert not store_singles(stores_sqlite.db, [given("default", run, "m"), given(project, of, key)])
    many = [TimedPoint("m", 0.5, step, 0) for step in range(MOST_POINTS + 1)]
    for more in ((many, {}, {}), ((), {"p": "1"}, {}), ((), {}, {"t": ""})):
        assert not store_singles(stores_sqlite.db, [intake.batch("default", run, *more)])
    assert runs.history(run, "m").steps == [0]
    quick = 0
    for step in range(TAIL_LIMIT + 5):  # until the tail has to be packed, which is left to the other way
        batch = given("default", run, "m", 100 + step)
        if store_singles(stores_sqlite.db, [batch]):
            quick += 1
        else:
            assert intake.store_at_once([batch]) == [None]
    assert quick == TAIL_LIMIT + 4
    assert runs.history(run, "m").steps == [0, *range(100, 105 + TAIL_LIMIT)]
    assert len(rows(stores_sqlite, run)) < 20
    intake.close()


def test_an_error_within_takes_everything_back_and_the_next_group_is_stored(stores_sqlite: Stores) -> None:
    def spoilt(cursor: sqlite3.Cursor) -> bool:
        cursor.execute("CREATE TABLE half (x)")
        raise sqlite3.OperationalError("disk I/O error")

    with pytest.raises(sqlite3.OperationalError):
        stores_sqlite.db.run_at_once(spoilt)
    assert not stores_sqlite.db.run_at_once(lambda cursor: bool(cursor.execute("CREATE TABLE half (x)")) and False)
    with stores_sqlite.db.begin(), pytest.raises(RuntimeError):
        stores_sqlite.db.run_at_once(lambda _: True)
    assert stores_sqlite.db.run_at_once(lambda cursor: bool(cursor.execute("CREATE TABLE half (x)")))


def test_no_revision_comes_twice_though_runs_are_removed(stores_sqlite: Stores) -> None:
    runs = RunService(stores_sqlite, Scope())
    kept, gone = runs.start().id, runs.start().id
    highest = revision(stores_sqlite, gone)
    runs.delete(gone)
    with stores_sqlite.db.begin() as tx:
        seq = tx.execute(text("SELECT seq FROM runs WHERE id = :id"), {"id": gone}).scalar_one()
        forget_runs(stores_sqlite, tx, [Doomed(gone, "default", seq)])
    runs.set_tags(kept, {"t": "1"})
    assert revision(stores_sqlite, kept) > highest + 1
