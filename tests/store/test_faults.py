"""What a full disk, a read-only folder, a damaged file and a lock get: a clear message, and nothing half-written."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text
from tests.servers import report_missing

from loopwright.core import Corrupt, Location, Scope, Settings, Unavailable
from loopwright.store import Stores, open_stores
from loopwright.store.db import engines

SCOPE = Scope()


def place(root: Path) -> Location:
    return Location(root, root / ".loopwright", Settings())


def append(stores: Stores, count: int = 1, size: int = 10) -> None:
    with stores.db.begin() as tx:
        for number in range(count):
            stores.events.append(tx, "run.started", f"run:{number}", SCOPE, {"filler": "x" * size})


def test_a_full_database_is_told_and_the_change_undone(stores_sqlite: Stores) -> None:
    append(stores_sqlite, 3)

    def fill() -> None:
        with stores_sqlite.db.begin() as tx:
            pages = tx.execute(text("PRAGMA page_count")).scalar_one()
            tx.execute(text(f"PRAGMA max_page_count={pages + 5}"))
            for number in range(500):
                stores_sqlite.events.append(tx, "run.started", f"run:{number}", SCOPE, {"filler": "x" * 1000})

    with pytest.raises(Unavailable, match="is full") as caught:
        fill()
    assert str(stores_sqlite.data / "loopwright.db") in str(caught.value)
    assert "free some space" in str(caught.value)
    assert len(stores_sqlite.events.read()) == 3
    assert stores_sqlite.events.verify().ok


@pytest.mark.parametrize("damage", ["header", "body"])
def test_a_damaged_database_is_told_with_a_remedy(
    make_sqlite_stores: Callable[..., Stores], tmp_path: Path, damage: str
) -> None:
    stores = make_sqlite_stores(tmp_path)
    append(stores, 500, size=300)
    stores.close()
    path = stores.data / "loopwright.db"
    content = bytearray(path.read_bytes())
    start, end = (0, 100) if damage == "header" else (4096, len(content))
    content[start:end] = os.urandom(end - start)
    path.write_bytes(content)

    def use() -> None:
        again = open_stores(stores.location, ())
        try:
            again.events.read()
            append(again)
        finally:
            again.close()

    with pytest.raises(Corrupt) as caught:
        use()
    assert f"the database file {path} is damaged" in str(caught.value)
    assert "restore it from a backup, or run: loopwright fsck" in str(caught.value)


def test_a_check_names_the_damage_instead_of_failing(stores_sqlite: Stores) -> None:
    append(stores_sqlite, 500, size=300)
    stores_sqlite.close()
    path = stores_sqlite.data / "loopwright.db"
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :] = os.urandom(len(content) - len(content) // 2)
    path.write_bytes(content)
    problems = stores_sqlite.db.check()
    assert problems
    assert all(f"the database file {path} is damaged" in problem for problem in problems)


def test_a_workspace_where_a_file_is_in_the_way_is_told(tmp_path: Path) -> None:
    (tmp_path / ".loopwright").write_text("not a folder")
    with pytest.raises(Unavailable, match="cannot be made"):
        open_stores(place(tmp_path), ())


def test_a_database_that_was_removed_is_told_and_not_made_anew(stores_sqlite: Stores) -> None:
    stores_sqlite.close()
    path = stores_sqlite.data / "loopwright.db"
    path.unlink()
    with pytest.raises(Unavailable, match="cannot be opened"):
        stores_sqlite.events.read()
    assert not path.exists()


def test_a_workspace_may_have_any_name(tmp_path: Path) -> None:
    root = tmp_path / "50% ü #1? & more"
    stores = open_stores(place(root), ())
    append(stores)
    stores.close()
    again = open_stores(place(root), ())
    assert len(again.events.read()) == 1
    again.close()
    assert [entry.name for entry in tmp_path.iterdir()] == [root.name]


def test_a_lock_that_another_process_keeps_is_told(
    make_sqlite_stores: Callable[..., Stores], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "BUSY_TIMEOUT_S", 0.1)
    stores = make_sqlite_stores(tmp_path)
    other = sqlite3.connect(stores.data / "loopwright.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="is locked by another process"):
        append(stores)
    other.execute("ROLLBACK")
    other.close()
    append(stores)
    assert len(stores.events.read()) == 1


MOUNTED = """
set -e
mount -t tmpfs -o size={size} none {folder}
{before}
exec {python} -c "$SCRIPT" {folder}
"""
OPEN = """
import sys
from pathlib import Path
from loopwright.core import Location, LoopwrightError, Scope, Settings
from loopwright.store import open_stores
root = Path(sys.argv[1])
try:
    stores = open_stores(Location(root, root / ".loopwright", Settings()), ())
    print("opened")
    for number in range(100_000):
        with stores.db.begin() as tx:
            stores.events.append(tx, "run.started", f"run:{number}", Scope(), {"filler": "x" * 5000})
except LoopwrightError as error:
    print(f"{error.code}: {error}")
if number_of := globals().get("number"):
    print(len(stores.events.read(limit=1_000_000)) <= number_of)
    (root / "filler").unlink()
    print(len(stores.events.read(limit=1_000_000)) == number_of, stores.events.verify().ok)
"""


def on_a_small_disk(folder: Path, size: str, before: str) -> list[str]:
    """What the script above prints where `folder` is a file system of its own."""
    unshare = shutil.which("unshare")
    if unshare is None or os.geteuid() != 0:
        report_missing("mounting a small file system needs root on Linux (unshare -m)")
    script = MOUNTED.format(folder=folder, size=size, before=before.format(folder=folder), python=sys.executable)
    probe = subprocess.run([unshare, "-m", "true"], capture_output=True, check=False)
    if probe.returncode:
        report_missing("this container may not mount file systems (unshare -m is refused)")
    done = subprocess.run(
        [unshare, "-m", "sh", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "SCRIPT": OPEN},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_a_disk_that_fills_up_is_told_and_what_was_acknowledged_is_kept(tmp_path: Path) -> None:
    before = "dd if=/dev/zero of={folder}/filler bs=1k count=9000 status=none"
    opened, told, readable, kept = on_a_small_disk(tmp_path, "16m", before)
    assert opened == "opened"
    assert told.startswith("unavailable: ")
    assert "is full (free some space)" in told
    assert (readable, kept) == ("True", "True True")


def test_a_full_disk_refuses_a_new_workspace(tmp_path: Path) -> None:
    before = "dd if=/dev/zero of={folder}/filler bs=1k status=none 2>/dev/null || true"
    (told,) = on_a_small_disk(tmp_path, "1m", before)
    assert told.startswith("unavailable: ")
    assert "free some space" in told or "is full" in told


def test_a_read_only_disk_refuses_a_new_workspace(tmp_path: Path) -> None:
    (told,) = on_a_small_disk(tmp_path, "6m", "mount -o remount,ro {folder}")
    assert told.startswith("unavailable: ")
    assert "Read-only file system" in told
    assert "--workspace" in told
