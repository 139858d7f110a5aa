"""Opening a workspace: made when missing, upgraded when old, refused when newer, safe when many open it at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect, make_url, text

from loopwright.core import Conflict, Invalid, Location, Scope, Settings
from loopwright.store import Stores, open_stores
from loopwright.store.db import opening

SCOPE = Scope()
FIRST = """
import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "pets_0001", None, ("pets",), None


def upgrade() -> None:
    op.create_table("pets", sa.Column("name", sa.String(20), primary_key=True))
"""
SECOND = """
import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "pets_0002", "pets_0001", None, None


def upgrade() -> None:
    op.add_column("pets", sa.Column("legs", sa.Integer, nullable=False, server_default="4"))
"""
BROKEN = """
from alembic import op

revision, down_revision, branch_labels, depends_on = "pets_0002", "pets_0001", None, None


def upgrade() -> None:
    op.execute("CREATE TABLE half (a INTEGER)")
    op.execute("INSERT INTO no_such_table VALUES (1)")
"""


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """A place for a workspace that does not exist yet."""
    url = request.getfixturevalue("postgres_empty_url") if request.param == "postgresql" else ""
    return Location(tmp_path / "project", tmp_path / "project" / ".loopwright", Settings(db=url))


@pytest.fixture
def pets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A room with one schema revision; its package is `pets_migrations`."""
    folder = tmp_path / "packages" / "pets_migrations"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "0001_pets.py").write_text(FIRST)
    monkeypatch.syspath_prepend(folder.parent)
    return folder


def run_sql(location: Location, statement: str) -> None:
    with opening_engine(location).begin() as connection:
        connection.execute(text(statement))


def opening_engine(location: Location):  # type: ignore[no-untyped-def]  # an Engine; only for these helpers
    url = location.settings.db or f"sqlite:///{location.data / 'loopwright.db'}"
    parsed = make_url(url)
    return create_engine(parsed.set(drivername="postgresql+psycopg") if location.settings.db else parsed)


def columns(location: Location, table: str) -> list[str]:
    found = inspect(opening_engine(location))
    return [column["name"] for column in found.get_columns(table)] if found.has_table(table) else []


def open_and_close(location: Location, *packages: str) -> None:
    open_stores(location, packages).close()


def test_a_missing_workspace_is_made_and_kept_out_of_git(empty: Location) -> None:
    open_and_close(empty)
    assert (empty.data / ".gitignore").read_text() == "*\n"
    assert columns(empty, "events")


def test_what_was_written_is_there_after_opening_again(empty: Location) -> None:
    stores = open_stores(empty, ())
    with stores.db.begin() as tx:
        written = stores.events.append(tx, "run.started", "run:1", SCOPE)
    stores.close()
    again = open_stores(empty, ())
    assert again.events.get(written.id).subject == "run:1"
    again.close()


OPEN = """
import sys
from pathlib import Path
from loopwright.core import Location, Scope, Settings
from loopwright.store import open_stores
root, url, number, *packages = sys.argv[1:]
sys.stdin.readline()
stores = open_stores(Location(Path(root), Path(root) / ".loopwright", Settings(db=url)), packages)
with stores.db.begin() as tx:
    stores.events.append(tx, "run.started", f"run:{number}", Scope())
stores.close()
"""


@pytest.mark.slow
def test_eight_processes_may_open_a_new_workspace_at_once(empty: Location, migrations: tuple[str, ...]) -> None:
    arguments = [str(empty.root), empty.settings.db]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN, *arguments, str(number), *migrations],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(8)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    stores = open_stores(empty, migrations)
    assert {event.subject for event in stores.events.read()} == {f"run:{number}" for number in range(8)}
    stores.close()


def test_an_older_workspace_is_upgraded_and_keeps_its_rows(empty: Location, pets: Path) -> None:
    open_and_close(empty, "pets_migrations")
    run_sql(empty, "INSERT INTO pets (name) VALUES ('rex')")
    (pets / "0002_legs.py").write_text(SECOND)
    open_and_close(empty, "pets_migrations")
    assert columns(empty, "pets") == ["name", "legs"]
    with opening_engine(empty).connect() as connection:
        assert connection.execute(text("SELECT name, legs FROM pets")).all() == [("rex", 4)]


def test_a_room_that_is_new_gets_its_tables(empty: Location, pets: Path) -> None:
    open_and_close(empty)
    assert columns(empty, "pets") == []
    open_and_close(empty, "pets_migrations")
    assert columns(empty, "pets") == ["name"]


def test_a_newer_workspace_is_refused_and_left_alone(empty: Location, pets: Path) -> None:
    (pets / "0002_legs.py").write_text(SECOND)
    open_and_close(empty, "pets_migrations")
    (pets / "0002_legs.py").unlink()
    with pytest.raises(Conflict) as caught:
        open_stores(empty, ["pets_migrations"])
    assert "made by a newer Loopwright: it has the schema revision 'pets_0002'" in str(caught.value)
    assert "pip install --upgrade loopwright" in str(caught.value)
    assert columns(empty, "pets") == ["name", "legs"]


def test_an_upgrade_that_fails_leaves_nothing_half_done(empty: Location, pets: Path) -> None:
    open_and_close(empty, "pets_migrations")
    (pets / "0002_legs.py").write_text(BROKEN)
    with pytest.raises(Exception, match="no_such_table"):
        open_stores(empty, ["pets_migrations"])
    assert columns(empty, "half") == []
    (pets / "0002_legs.py").write_text(SECOND)
    open_and_close(empty, "pets_migrations")
    assert columns(empty, "pets") == ["name", "legs"]


def test_opening_an_up_to_date_workspace_changes_nothing(
    empty: Location, pets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upgrades: list[str] = []
    upgrade = opening._upgrade
    monkeypatch.setattr(opening, "_upgrade", lambda *given: (upgrades.append("upgraded"), upgrade(*given)))
    open_and_close(empty, "pets_migrations")
    assert upgrades == ["upgraded"]
    open_and_close(empty, "pets_migrations")
    assert upgrades == ["upgraded"]


def test_a_migration_package_that_does_not_exist_is_named(empty: Location) -> None:
    for package in ("no_such_package", "no.such.package"):
        with pytest.raises(Invalid, match=f"no migration package '{package}'"):
            open_stores(empty, [package])


def test_a_restored_backup_is_put_back_into_wal_mode(stores_sqlite: Stores) -> None:
    import sqlite3

    stores_sqlite.close()
    path = stores_sqlite.data / "loopwright.db"
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA journal_mode=DELETE").fetchone() == ("delete",)
    opening._prepare_sqlite(path)
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
