"""On PostgreSQL, logging touches no index of last values, and searches find each last value all the same."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from sqlalchemy import text
from tests.track.test_migrations import upgrade_to

from loopwright.core import Location, Scope, Settings, SystemClock
from loopwright.store import Stores
from loopwright.store.db import Database, open_database
from loopwright.store.db.engines import parse_url
from loopwright.track import MetricIntake, MetricPoint, RunService, TimedPoint
from loopwright.track.batches import write_batches
from loopwright.track.frames import FRAME_FROM

AT = 5_000_000
FOUND = {
    "metrics.m > 4": {"risen", "infinite", "both"},
    "metrics.m < 2": {"fallen", "zero"},
    "metrics.m = 0": {"zero"},
    "metrics.m != 5": {"fallen", "zero", "infinite", "nan"},
    "metrics.m IS NULL": {"none"},
}
VALUES = {"risen": 5.0, "fallen": 1.0, "zero": -0.0, "infinite": math.inf, "nan": math.nan}


def names(runs: RunService, query: str) -> set[str]:
    return {run.name for run in runs.search(query)}


def check(runs: RunService) -> None:
    assert {query: names(runs, query) for query in FOUND} == FOUND
    order = [run.name for run in runs.search(order_by=("metrics.m DESC", "attributes.run_name"))]
    assert order == ["infinite", "both", "risen", "fallen", "zero", "nan", "none"]
    assert runs.keys().metrics == ["m"]


@pytest.mark.postgres
def test_last_values_are_found_before_and_after_the_index_follows(stores_postgres: Stores) -> None:
    runs = RunService(stores_postgres, Scope())
    made = {name: runs.start(name=name).id for name in (*VALUES, "both", "none")}
    for name, value in VALUES.items():
        runs.log_points(made[name], [MetricPoint("m", 3.0, 0), MetricPoint("m", 3.0, 1)])
        runs.log_points(made[name], [MetricPoint("m", value, 2)])
    runs.log_points(made["both"], [MetricPoint("m", 5.0, 0)])
    check(runs)
    assert _fresh(stores_postgres) == len(VALUES)
    for id in made.values():
        runs.finish(id)
    assert _fresh(stores_postgres) == 0
    check(runs)


@pytest.mark.postgres
def test_a_call_with_many_metrics_enters_nothing_into_an_index(stores_postgres: Stores) -> None:
    runs, intake = RunService(stores_postgres, Scope()), MetricIntake(stores_postgres)
    run = runs.start().id
    for step in range(3):  # the first makes the rows, the second takes them out of the index
        points = [TimedPoint(f"m{number}", step + number / 7, step, 0) for number in range(FRAME_FROM)]
        intake.submit("default", run, points).result(20)
    intake.close()
    batch = intake.batch("default", run, [TimedPoint(point.key, 9.5, 9, 0) for point in points], {}, {})
    query = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_xact_user_tables WHERE relname = 'run_series'"
    with stores_postgres.db.begin() as tx:
        before = tx.execute(text(query)).one()
        assert write_batches(stores_postgres.db, tx, [batch]) == [None]
        moved, within_their_page = (now - then for now, then in zip(tx.execute(text(query)).one(), before, strict=True))
    assert moved == FRAME_FROM
    assert within_their_page > 0.9 * FRAME_FROM
    assert len(names(runs, "metrics.m7 = 9.5")) == 1


@pytest.mark.postgres
def test_last_values_of_before_are_found(postgres_empty_url: str, migrations: tuple[str, ...], tmp_path: Path) -> None:
    old = Database(parse_url(postgres_empty_url))
    with old.begin() as tx:
        upgrade_to(tx, "track_0011", migrations)
        tx.execute(text("INSERT INTO run_keys (id, key) VALUES (1, 'm')"))
        experiments = "INSERT INTO experiments (id, project, name, created_at) VALUES ('e', 'default', 'old', 0)"
        tx.execute(text(experiments))
        columns = "seq, id, project, experiment_id, name, kind, status, actor, parent, error, started_at"
        runs_of = f"SELECT s, lpad(s::text, 32, '0'), 'default', 'e', 'r' || s, 'run', 'finished', 'a', '', '', {AT}"
        tx.execute(text(f"INSERT INTO runs ({columns}) {runs_of} FROM generate_series(1, 3) AS s"))
        columns = "run_seq, key_id, last_step, last_at, last_bits, last_value"
        values = "(1, 1, 0, 0, 0, 0.5), (2, 1, 0, 0, 0, 7), (3, 1, 0, 0, 0, NULL)"
        tx.execute(text(f"INSERT INTO run_series ({columns}) VALUES {values}"))
    old.close()
    database = open_database(postgres_empty_url, migrations)
    runs = RunService(
        Stores(Location(tmp_path, tmp_path / ".loopwright", Settings()), database, SystemClock()), Scope()
    )
    assert [names(runs, query) for query in ("metrics.m > 1", "metrics.m < 1", "metrics.m != 7")] == [
        {"r2"}, {"r1"}, {"r1", "r3"},
    ]  # fmt: skip
    with database.begin() as tx:  # as a server of the version before would
        tx.execute(text("UPDATE run_series SET last_value = 9 WHERE run_seq = 1"))
    assert names(runs, "metrics.m > 1") == {"r1", "r2"}
    database.close()


def _fresh(stores: Stores) -> int:
    with stores.db.read() as connection:
        return int(connection.execute(text("SELECT count(*) FROM run_series WHERE fresh")).scalar_one())
