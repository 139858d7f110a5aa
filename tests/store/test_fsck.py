"""fsck names what is damaged or missing, and finds nothing wrong with what is whole."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from loopwright.core import Scope
from loopwright.store import FsckReport, Stores, fsck, put_tree_entries, read_tree

FRAME = pl.DataFrame({"id": range(5000), "text": [f"flight {n}" for n in range(5000)]})


@pytest.fixture
def filled(stores_sqlite: Stores) -> Stores:
    """A workspace with an event, a tree, a table and an online row."""
    with stores_sqlite.db.begin() as tx:
        stores_sqlite.events.append(tx, "run.started", "run:" + "0" * 32, Scope())
    stores_sqlite.events.seal()
    put_tree_entries(stores_sqlite.objects, {"a": b"small", "large": os.urandom(200_000)})
    stores_sqlite.tables.append("p/flights", FRAME)
    stores_sqlite.online.write("v", {"k": (datetime(2013, 1, 1, tzinfo=UTC), b"x")})
    return stores_sqlite


def test_a_whole_workspace_has_no_problems_and_everything_was_looked_at(filled: Stores) -> None:
    report = fsck(filled)
    assert report == FsckReport({"database": 1, "events": 1, "objects": 3, "tables": 1, "online": 1}, ())
    assert report.ok


def test_an_empty_workspace_has_no_problems(stores_sqlite: Stores) -> None:
    assert fsck(stores_sqlite).ok


def test_a_flipped_byte_of_an_object_is_found(filled: Stores) -> None:
    path = _largest(filled.data / "objects")
    _flip(path)
    assert _said(fsck(filled)) == [("objects", path.parent.name + path.name, "its bytes are not those that were put")]


def test_an_object_that_a_tree_needs_and_that_is_gone_is_found(filled: Stores) -> None:
    digest = put_tree_entries(filled.objects, {"b": b"another", "c": b"more"})
    holder = read_tree(filled.objects, digest).entries[0].holder
    filled.objects.delete(holder)
    [(part, subject, fact)] = _said(fsck(filled))
    assert (part, subject) == ("objects", digest)
    assert holder in fact
    assert "'b' and 1 more" in fact


def test_a_file_of_a_table_that_is_gone_is_found(filled: Stores) -> None:
    Path(filled.tables.files("p/flights")[0].removeprefix("file://")).unlink()
    [(part, subject, _)] = _said(fsck(filled))
    assert (part, subject) == ("tables", "p/flights")


def test_a_truncated_file_of_a_table_is_found(filled: Stores) -> None:
    path = Path(filled.tables.files("p/flights")[0].removeprefix("file://"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert [(part, subject) for part, subject, _ in _said(fsck(filled))] == [("tables", "p/flights")]


def test_a_damaged_log_of_a_table_is_found(filled: Stores) -> None:
    log = filled.data / "tables" / "p" / "flights" / "_delta_log" / f"{0:020}.json"
    log.write_bytes(b"{half")
    assert [(part, subject) for part, subject, _ in _said(fsck(filled))] == [("tables", "p/flights")]


def test_a_damaged_online_store_is_found_and_the_rest_still_looked_at(filled: Stores) -> None:
    filled.online.close()
    path = filled.data / "online.db"
    path.with_name("online.db-wal").unlink(missing_ok=True)
    path.write_bytes(b"no database " * 1000)
    report = fsck(filled)
    assert [problem.part for problem in report.problems] == ["online"]
    assert report.checked["tables"] == 1


def test_an_edited_event_is_found(filled: Stores) -> None:
    from sqlalchemy import text

    with filled.db.begin() as tx:
        tx.execute(text("UPDATE events SET actor = 'user:mallory'"))
    assert [problem.part for problem in fsck(filled).problems] == ["events"]


def _said(report: FsckReport) -> list[tuple[str, str, str]]:
    return [(problem.part, problem.subject, problem.fact) for problem in report.problems]


def _largest(folder: Path) -> Path:
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def _flip(path: Path) -> None:
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
