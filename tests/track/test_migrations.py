"""What was stored before experiments had a life is there afterwards, with what is new filled in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from alembic.operations import Operations
from sqlalchemy import Connection, text

from loopwright.core import Location, Scope, Settings, SystemClock
from loopwright.store import Stores
from loopwright.store.db import Database, open_database
from loopwright.store.db.engines import create_sqlite_file, parse_url
from loopwright.store.db.upgrade import migration_context, script_directory
from loopwright.store.db.versions import known_versions
from loopwright.track import ExperimentService, RunService


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str | Path:
    if request.param == "postgresql":
        found: str = request.getfixturevalue("postgres_empty_url")
        return found
    create_sqlite_file(tmp_path / "old.db")
    return tmp_path / "old.db"


def upgrade_to(tx: Connection, revision: str, migrations: tuple[str, ...]) -> None:
    scripts = script_directory(known_versions(migrations))
    context = migration_context(tx)

    def steps(current: Any, _context: Any) -> Any:
        return scripts._upgrade_revs(revision, current)

    context.opts["fn"] = steps
    context._migrations_fn = steps
    with Operations.context(context):
        context.run_migrations()


def test_experiments_and_inputs_of_before_are_found(
    url: str | Path, migrations: tuple[str, ...], tmp_path: Path
) -> None:
    old = Database(parse_url(url))
    run, experiment = "1" * 32, "2" * 32
    with old.begin() as tx:
        upgrade_to(tx, "track_0002", migrations)
        tx.execute(
            text(
                "INSERT INTO experiments (id, project, name, created_at)"
                f" VALUES ('{experiment}', 'default', 'old', 5000000)"
            )
        )
        tx.execute(
            text(
                "INSERT INTO runs (seq, id, project, experiment_id, name, kind, status, actor, parent, error,"
                f" started_at) VALUES (1, '{run}', 'default', '{experiment}', 'r', 'run', 'finished', 'a', '', '',"
                " 5000000)"
            )
        )
        for ref, name in (("dataset:flights@12", "train"), ("dataset:bare", "test"), ("model:m@1", "base")):
            tx.execute(text(f"INSERT INTO run_inputs (run_seq, ref, name, digest) VALUES (1, '{ref}', '{name}', 'd')"))
    old.close()

    database = open_database(url, migrations)
    stores = Stores(Location(tmp_path, tmp_path / ".loopwright", Settings()), database, SystemClock())
    [found] = ExperimentService(stores, Scope()).search().experiments
    assert (found.name, found.updated_at, found.lifecycle) == ("old", found.created_at, "active")
    runs = RunService(stores, Scope())
    inputs = {item.ref: (item.dataset, item.context) for item in runs.get(run).inputs}
    assert inputs == {
        "dataset:flights@12": ("flights", "train"),
        "dataset:bare": ("bare", "test"),
        "model:m@1": ("", "base"),
    }
    assert [item.id for item in runs.search("dataset.name = 'bare' and dataset.context = 'train'")] == [run]
    database.close()
